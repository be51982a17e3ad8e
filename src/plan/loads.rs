//! The loads of a replay: one for each question, however many wait for it.

use std::collections::HashMap;

use super::crm::Spender;
use crate::domain::Source;

/// What a load is about, and with whom it is shared: replicas with a Redis take turns by a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LoadKey {
    /// The answer to a question. `anew` if a stored one is not good enough.
    Search {
        group: u32,
        question: u32,
        anew: bool,
    },
    /// The question who owns a user's credential.
    WhoAmI { replica: u32, user: u32 },
}

/// A load on its way.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) key: LoadKey,
    pub(super) spender: Spender,
    /// When it began, in milliseconds since the Unix epoch.
    pub(super) asked: u64,
    pub(super) is_found: bool,
    /// Searches that come one after the other, and details that come together after them.
    pub(super) searches: u32,
    pub(super) details: u32,
    /// Whether the searches have ended. The details have been requested then.
    pub(super) is_searched: bool,
    /// Calls that have not ended yet.
    pub(super) open: u32,
    pub(super) waiters: Vec<Waiter>,
}

/// Somebody who waits for a load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) replica: u32,
    pub(super) call: LoggedLookup,
    pub(super) shared: bool,
    pub(super) purpose: Purpose,
}

/// A look-up of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoggedLookup {
    /// Milliseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) question: u32,
    pub(super) user: u32,
    pub(super) connector: u16,
    pub(super) is_known: bool,
}

/// Why somebody waits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// A caller without an answer.
    Caller,
    /// A caller who gets the stored "nobody" of `source` unless the load ends before `until` (in
    /// microseconds).
    News { until: u64, source: Source },
    /// Nobody: the answer was served, and is refreshed.
    Refresh,
    /// Nobody: the trust in the credential is renewed.
    Renewal,
    /// A caller whose credential has lapsed.
    Lapsed,
    /// Nobody, and nothing depends on it.
    Nothing,
}

/// See the header.
#[derive(Debug, Default)]
pub(super) struct Loads {
    places: Vec<Option<Load>>,
    free: Vec<u32>,
    running: HashMap<LoadKey, u32, foldhash::fast::RandomState>,
}

impl Loads {
    /// Adds somebody who waits to the running load of this key, if there is one.
    pub(super) fn join(&mut self, key: LoadKey, waiter: Waiter) -> bool {
        let Some(load) = self
            .running
            .get(&key)
            .and_then(|load| self.places[*load as usize].as_mut())
        else {
            return false;
        };
        load.waiters.push(Waiter {
            shared: true,
            ..waiter
        });
        true
    }

    /// A new load and its number.
    pub(super) fn begin(&mut self, load: Load) -> u32 {
        let key = load.key;
        let number = if let Some(number) = self.free.pop() {
            self.places[number as usize] = Some(load);
            number
        } else {
            self.places.push(Some(load));
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        };
        self.running.insert(key, number);
        number
    }

    pub(super) fn get(&mut self, load: u32) -> Option<&mut Load> {
        self.places[load as usize].as_mut()
    }

    /// Ends a load.
    pub(super) fn end(&mut self, load: u32) -> Option<Load> {
        let ended = self.places[load as usize].take()?;
        self.running.remove(&ended.key);
        self.free.push(load);
        Some(ended)
    }
}
