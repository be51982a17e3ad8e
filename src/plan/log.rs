//! A call log, as small as it can be: a call is a time, a question, and whether the CRM knows the
//! number.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use crate::domain::Party;

/// A minute in milliseconds.
const MINUTE: u64 = 60_000;

/// The calls of a log in the order of their time.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    pub(super) calls: Vec<LoggedCall>,
    /// By question: the user who asks it.
    pub(super) askers: Vec<u32>,
    /// By user.
    pub(super) users: Vec<LoggedUser>,
    /// How many accounts there are.
    pub(super) accounts: u32,
    /// Calls that need no look-up: withheld numbers, short codes, incomplete numbers.
    pub(super) without_number: u64,
}

/// A call of a user with somebody.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoggedCall {
    /// Milliseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) question: u32,
    /// Whether the CRM knows the number at that time.
    pub(super) is_known: bool,
}

/// A user of a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoggedUser {
    pub(super) connector: u16,
    pub(super) account: u32,
}

impl CallLog {
    /// Spreads the calls of each minute evenly over it, if all times are whole minutes, as
    /// telephone systems and spreadsheets write them. Otherwise they would all wait for the quota
    /// at once.
    pub(crate) fn spread_whole_minutes(&mut self) {
        if self.calls.iter().any(|call| call.at % MINUTE != 0) {
            return;
        }
        for calls in self.calls.chunk_by_mut(|one, other| one.at == other.at) {
            let count = calls.len() as u64;
            for (place, call) in (0..).zip(calls) {
                call.at += place * MINUTE / count;
            }
        }
    }

    /// Calls with a number.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Calls that need no look-up.
    pub(crate) fn without_number(&self) -> u64 {
        self.without_number
    }

    /// Users, and the accounts they belong to.
    pub(crate) fn people(&self) -> (usize, u32) {
        (self.users.len(), self.accounts)
    }

    /// Different questions: a user and a number.
    pub(crate) fn questions(&self) -> usize {
        self.askers.len()
    }

    /// The time of the first and the last call, in milliseconds since the Unix epoch.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        Some((self.calls.first()?.at, self.calls.last()?.at))
    }
}

/// A log while it is read. Names are kept as keyed hashes only.
#[derive(Debug, Default)]
pub(crate) struct LogBuilder {
    log: CallLog,
    questions: HashMap<(u32, Party), u32, foldhash::fast::RandomState>,
    users: HashMap<(u16, u64, u64), u32, foldhash::fast::RandomState>,
    accounts: HashMap<(u16, u64), u32, foldhash::fast::RandomState>,
    hasher: foldhash::quality::RandomState,
}

impl LogBuilder {
    /// The user of a connector with this name, in an account with that name.
    pub(crate) fn user(&mut self, connector: u16, account: &[u8], name: &[u8]) -> u32 {
        let [account, name] = [account, name].map(|text| self.hasher.hash_one(text));
        let next = number(self.accounts.len());
        let account_number = *self.accounts.entry((connector, account)).or_insert(next);
        let (users, next) = (&mut self.log.users, number(self.users.len()));
        *self
            .users
            .entry((connector, account, name))
            .or_insert_with(|| {
                users.push(LoggedUser {
                    connector,
                    account: account_number,
                });
                next
            })
    }

    /// A call between a user and a party, whom the CRM knows or does not know.
    pub(crate) fn call(&mut self, at: u64, user: u32, party: Party, is_known: bool) {
        let (askers, next) = (&mut self.log.askers, number(self.questions.len()));
        let question = *self.questions.entry((user, party)).or_insert_with(|| {
            askers.push(user);
            next
        });
        self.log.calls.push(LoggedCall {
            at,
            question,
            is_known,
        });
    }

    /// A call that needs no look-up.
    pub(crate) fn call_without_number(&mut self) {
        self.log.without_number += 1;
    }

    /// Calls read so far.
    pub(crate) fn calls(&self) -> usize {
        self.log.calls.len()
    }

    /// The log. Calls of the same moment keep their order.
    pub(crate) fn finish(self) -> CallLog {
        let mut log = self.log;
        log.accounts = number(self.accounts.len());
        if !log.calls.is_sorted_by_key(|call| call.at) {
            log.calls.sort_by_key(|call| call.at);
        }
        log.calls.shrink_to_fit();
        log.askers.shrink_to_fit();
        log
    }
}

/// Logs have fewer calls than that: see `contactd plan`.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
