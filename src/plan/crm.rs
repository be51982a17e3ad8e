//! The CRMs of a replay: calls that wait for their turn, and take their time.
//!
//! Without Redis each replica counts by itself, as daemons do that do not know each other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::figures::{ConnectorFigures, Figures};
use super::log::CallLog;
use super::terms::Terms;
use crate::budget::{
    CallKind, GateId, NextWake, ReplayBudget, ReplayCall, ReplaySlot, Scope, Turn,
};
use crate::clock::ReplayClock;
use crate::domain::{KeyMaker, Lane, ScopeTag};

/// How often scopes that hold nothing are dropped, in microseconds.
const SWEEP: u64 = 3600 * 1_000_000;

/// Who makes the calls of a load, and when they are too late. Times are microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spender {
    pub(super) connector: u16,
    pub(super) replica: u32,
    pub(super) user: u32,
    pub(super) lane: Lane,
    pub(super) is_verified: bool,
    pub(super) began: u64,
    pub(super) deadline: Option<u64>,
}

/// What happened to a call of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallEnd {
    Replied,
    Refused,
}

/// See the header.
pub(super) struct Crms {
    clock: ReplayClock,
    now: u64,
    latency: u64,
    /// By connector, then by replica if each counts by itself.
    budgets: Vec<ReplayBudget>,
    counts: usize,
    scopes: Scopes,
    calls: Vec<PendingCall>,
    free: Vec<u32>,
    events: BinaryHeap<Reverse<Event>>,
    sequence: u64,
    turns: Vec<(u32, Turn)>,
    swept: u64,
}

/// A call that waits or is on the wire.
#[derive(Debug)]
struct PendingCall {
    load: u32,
    kind: CallKind,
    spender: Spender,
    scope: u32,
    asked: u64,
    budget: usize,
    slot: Option<ReplaySlot>,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    at: u64,
    sequence: u64,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Wake(usize, GateId),
    Reply(u32),
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl Crms {
    pub(super) fn new(terms: &Terms, log: &CallLog) -> Self {
        let counts = if terms.has_redis {
            1
        } else {
            terms.replicas.get() as usize
        };
        let clock = ReplayClock::start();
        let budget = |connector: usize| {
            let limits = (terms.call_timeout, terms.admitted);
            ReplayBudget::new(&terms.connectors[connector].quotas, limits, clock.clone())
        };
        let budgets = (0..terms.connectors.len() * counts).map(|n| budget(n / counts));
        Self {
            now: 0,
            latency: micros(terms.latency),
            budgets: budgets.collect(),
            counts,
            scopes: Scopes::new(terms, log),
            calls: Vec::new(),
            free: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            turns: Vec::new(),
            swept: 0,
            clock,
        }
    }

    /// Microseconds since the start of the replay.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Lets time pass until then.
    pub(super) fn pass(&mut self, now: u64) {
        self.now = now;
        self.clock.set(now);
        if now >= self.swept + SWEEP {
            self.swept = now;
            self.budgets.iter_mut().for_each(ReplayBudget::sweep);
        }
    }

    /// The scope whose quota a user's calls spend.
    pub(super) fn scope(&self, user: u32) -> u32 {
        self.scopes.by_user[user as usize]
    }

    /// A load asks for a call. Appends what became of it, if it was refused.
    pub(super) fn ask(
        &mut self,
        load: u32,
        (spender, kind): (Spender, CallKind),
        figures: &mut Figures,
        ends: &mut Vec<(u32, CallEnd)>,
    ) {
        let scope = self.scope(spender.user);
        let replica = if self.counts == 1 {
            0
        } else {
            spender.replica as usize
        };
        let budget = usize::from(spender.connector) * self.counts + replica;
        let ticket = self.keep(PendingCall {
            load,
            kind,
            spender,
            scope,
            asked: self.now,
            budget,
            slot: None,
        });
        let call = ReplayCall {
            ticket,
            scope: self.scopes.tags[scope as usize],
            kind,
            lane: spender.lane,
            is_verified: spender.is_verified,
            began: spender.began,
            deadline: spender.deadline,
        };
        let mut turns = std::mem::take(&mut self.turns);
        let wake = self.budgets[budget].ask(call, &mut turns);
        self.take_turns(budget, wake, turns, figures, ends);
    }

    /// When the next event is.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.events.peek().map(|Reverse(event)| event.at)
    }

    /// Lets the next event happen. Appends the calls that have ended.
    pub(super) fn happen(&mut self, figures: &mut Figures, ends: &mut Vec<(u32, CallEnd)>) {
        let Some(Reverse(event)) = self.events.pop() else {
            return;
        };
        self.pass(event.at);
        let mut turns = std::mem::take(&mut self.turns);
        let (budget, wake) = match event.what {
            What::Wake(budget, gate) => (budget, self.budgets[budget].wake(gate, &mut turns)),
            What::Reply(ticket) => {
                let call = &mut self.calls[ticket as usize];
                let (budget, slot) = (call.budget, call.slot.take());
                ends.push((call.load, CallEnd::Replied));
                self.free.push(ticket);
                let ended = slot.as_ref();
                let wake = ended.and_then(|slot| self.budgets[budget].end(slot, &mut turns));
                (budget, wake)
            }
        };
        self.take_turns(budget, wake, turns, figures, ends);
    }

    fn take_turns(
        &mut self,
        budget: usize,
        wake: NextWake,
        mut turns: Vec<(u32, Turn)>,
        figures: &mut Figures,
        ends: &mut Vec<(u32, CallEnd)>,
    ) {
        if let Some((gate, at)) = wake {
            self.schedule(at, What::Wake(budget, gate));
        }
        for (ticket, turn) in turns.drain(..) {
            match turn {
                Turn::Granted(slot) => self.make(ticket, slot, figures),
                Turn::Refused => {
                    ends.push((self.calls[ticket as usize].load, CallEnd::Refused));
                    self.free.push(ticket);
                }
            }
        }
        self.turns = turns;
    }

    fn make(&mut self, ticket: u32, slot: ReplaySlot, figures: &mut Figures) {
        let now = self.now;
        let call = &mut self.calls[ticket as usize];
        call.slot = Some(slot);
        let (spender, waited) = (&call.spender, now - call.asked);
        let connector: &mut ConnectorFigures =
            &mut figures.connectors[usize::from(spender.connector)];
        connector.call(call.kind, call.scope, spender.lane, (now, waited));
        self.schedule(now + self.latency, What::Reply(ticket));
        figures.call_after(now);
    }

    fn schedule(&mut self, at: u64, what: What) {
        self.sequence += 1;
        self.events.push(Reverse(Event {
            at,
            sequence: self.sequence,
            what,
        }));
    }

    fn keep(&mut self, call: PendingCall) -> u32 {
        if let Some(ticket) = self.free.pop() {
            self.calls[ticket as usize] = call;
            return ticket;
        }
        self.calls.push(call);
        u32::try_from(self.calls.len() - 1).unwrap_or(u32::MAX)
    }
}

/// Whose calls a CRM counts together.
struct Scopes {
    by_user: Vec<u32>,
    tags: Vec<ScopeTag>,
}

impl Scopes {
    /// Accounts come first, then the users whose calls count alone.
    fn new(terms: &Terms, log: &CallLog) -> Self {
        let keys = KeyMaker::new([0; 16]);
        let scope_of = |(n, user): (usize, &super::log::LoggedUser)| {
            let connector = &terms.connectors[usize::from(user.connector)];
            match connector.quotas.all.scope() {
                Scope::Account => user.account,
                Scope::User => log.accounts + u32::try_from(n).unwrap_or(u32::MAX),
            }
        };
        let by_user: Vec<u32> = log.users.iter().enumerate().map(scope_of).collect();
        let count = by_user.iter().max().map_or(0, |most| most + 1);
        Self {
            by_user,
            tags: (0..count)
                .map(|n| keys.scope(&[&n.to_be_bytes()]))
                .collect(),
        }
    }
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
