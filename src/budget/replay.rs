//! The quotas of one connector in a replay: calls wait in virtual time, and no future waits.
//!
//! Limits, windows, pace, lanes, the order of the queue, forecasts and refusals are those of
//! [`Budget`](super::Budget) without Redis. Pauses and lowered limits are missing, because they
//! follow from a CRM's replies. A call spends only its owner's scope, because its credential's
//! scope never holds more calls. A call keeps its place if its credential is verified while it
//! waits.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::forecast::Forecast;
use super::limiter::LimiterSettings;
use super::local::LocalLimiter;
use super::queue::{CredentialProof, QueueKey, WaitQueue};
use super::quota::{CallKind, Quotas};
use super::request::{RequestAim, Slot, SlotRequest};
use super::totals::TotalCounts;
use super::waiting::is_too_late;
use crate::clock::{Instant, ReplayClock, SteadyClock};
use crate::domain::{Lane, ScopeTag};

/// A call of a replay. Times are microseconds since its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplayCall {
    /// What the caller knows it by.
    pub(crate) ticket: u32,
    pub(crate) scope: ScopeTag,
    pub(crate) kind: CallKind,
    pub(crate) lane: Lane,
    /// Whether the CRM has accepted its credential before.
    pub(crate) is_verified: bool,
    /// When its load began.
    pub(crate) began: u64,
    /// When its turn would be too late.
    pub(crate) deadline: Option<u64>,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It is made now.
    Granted(ReplaySlot),
    /// Its turn would come too late.
    Refused,
}

/// The slot of a call that was made.
#[derive(Debug)]
pub(crate) struct ReplaySlot {
    slot: Slot,
    quota: usize,
}

/// The queue of one scope in one of the quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GateId {
    quota: usize,
    scope: ScopeTag,
}

/// When a queue has to be looked at again: [`ReplayBudget::wake`].
pub(crate) type NextWake = Option<(GateId, u64)>;

/// See the header.
pub(crate) struct ReplayBudget {
    /// The quota of all calls, then those of searches and of other calls if they have their own.
    quotas: Vec<QuotaCount>,
    of_search: usize,
    of_other: usize,
    clock: ReplayClock,
}

/// One quota: its count, and its queues.
struct QuotaCount {
    settings: LimiterSettings,
    limiter: LocalLimiter,
    gates: HashMap<ScopeTag, ReplayGate, foldhash::fast::RandomState>,
}

/// The calls that wait in one scope.
#[derive(Default)]
struct ReplayGate {
    queue: WaitQueue,
    waiting: BTreeMap<QueueKey, ReplayCall>,
    forecast: Option<Forecast>,
    /// When it is looked at again, in microseconds.
    wakes: Option<u64>,
}

impl ReplayBudget {
    /// The budget at the start of a replay, with the settings of
    /// [`BudgetConfig`](super::BudgetConfig).
    #[must_use]
    pub(crate) fn new(
        quotas: &Quotas,
        (call_timeout, admitted): (Duration, Duration),
        clock: ReplayClock,
    ) -> Self {
        let time = SteadyClock::Replay(clock.clone());
        let totals = Arc::new(TotalCounts::timed_by(time, call_timeout));
        let mut budget = Self {
            quotas: Vec::new(),
            of_search: 0,
            of_other: 0,
            clock,
        };
        let mut add = |quota| {
            budget.quotas.push(QuotaCount {
                settings: LimiterSettings::new(quota, call_timeout, admitted),
                limiter: LocalLimiter::new(&quota, NonZeroU32::MIN, Arc::clone(&totals)),
                gates: HashMap::default(),
            });
            budget.quotas.len() - 1
        };
        add(quotas.all);
        let mut own = |kind| quotas.own(kind).map_or(0, |_| add(quotas.of(kind)));
        let (search, other) = (own(CallKind::Search), own(CallKind::Other));
        (budget.of_search, budget.of_other) = (search, other);
        budget
    }

    /// A call asks for its turn. Appends what became of it, if that is known already.
    pub(crate) fn ask(&mut self, call: ReplayCall, turns: &mut Vec<(u32, Turn)>) -> NextWake {
        let quota = match call.kind {
            CallKind::Search => self.of_search,
            CallKind::Other => self.of_other,
        };
        let (scope, now) = (call.scope, self.clock.now());
        let began = self.clock.at(call.began);
        let gate = self.quotas[quota].gates.entry(scope).or_default();
        let proof = CredentialProof::known(call.is_verified);
        let key = gate.queue.enter(call.lane, proof, began, Arc::default());
        gate.waiting.insert(key, call);
        // As in a daemon, the forecast of the last request decides, also for the head of the queue.
        if gate.is_late(key, &call, &self.clock) {
            gate.leave(key);
            turns.push((call.ticket, Turn::Refused));
            return None;
        }
        let is_head = gate.queue.is_head(key);
        let id = GateId { quota, scope };
        is_head.then(|| self.serve(id, now, turns)).flatten()
    }

    /// Gives the waiting calls of a queue their turns, as far as there is room.
    pub(crate) fn wake(&mut self, gate: GateId, turns: &mut Vec<(u32, Turn)>) -> NextWake {
        let (now, due) = (self.clock.now(), Some(self.clock.micros()));
        let waiting = self.quotas[gate.quota].gates.get_mut(&gate.scope)?;
        // If the two differ, the queue was already looked at before its planned time.
        if waiting.wakes != due {
            return None;
        }
        waiting.wakes = None;
        self.serve(gate, now, turns)
    }

    /// The call got its reply.
    pub(crate) fn end(&mut self, ended: &ReplaySlot, turns: &mut Vec<(u32, Turn)>) -> NextWake {
        let (count, now) = (&self.quotas[ended.quota], self.clock.now());
        let until = now + count.settings.quota.per();
        count.limiter.end(&ended.slot, until);
        count.settings.quota.concurrent()?;
        // Its place on the wire is free.
        let (quota, scope) = (ended.quota, ended.slot.scope);
        self.serve(GateId { quota, scope }, now, turns)
    }

    /// Drops the scopes that hold nothing.
    pub(crate) fn sweep(&mut self) {
        for count in &mut self.quotas {
            count.limiter.sweep();
            count.gates.retain(|_, gate| !gate.queue.is_empty());
        }
    }

    fn serve(&mut self, id: GateId, now: Instant, turns: &mut Vec<(u32, Turn)>) -> NextWake {
        let QuotaCount {
            settings,
            limiter,
            gates,
        } = &mut self.quotas[id.quota];
        let gate = gates.get_mut(&id.scope)?;
        while let Some((&key, &call)) = gate.waiting.first_key_value() {
            let request = request(settings, &call, key, &self.clock);
            let until = now + settings.hold;
            let reply = limiter.request(&settings.quota, settings.reserve_for, &request, until);
            let turn = if let Some(slot) = reply.granted {
                let quota = id.quota;
                Turn::Granted(ReplaySlot { slot, quota })
            } else {
                let wait = request.wait_for(&reply.forecast, now);
                gate.forecast = Some(reply.forecast);
                if !gate.is_late(key, &call, &self.clock) {
                    return gate.plan(self.clock.after(wait)).map(|at| (id, at));
                }
                Turn::Refused
            };
            gate.leave(key);
            turns.push((call.ticket, turn));
        }
        None
    }
}

impl ReplayGate {
    fn leave(&mut self, key: QueueKey) {
        self.queue.leave(key);
        self.waiting.remove(&key);
    }

    /// Plans to look at the queue then. `None` if that is planned already, or earlier.
    fn plan(&mut self, at: u64) -> Option<u64> {
        let is_planned = self.wakes.is_some_and(|planned| planned <= at);
        (!is_planned).then(|| *self.wakes.insert(at))
    }

    /// Whether the turn of a waiting call would come after its deadline, as far as known.
    fn is_late(&self, key: QueueKey, call: &ReplayCall, clock: &ReplayClock) -> bool {
        let (Some(deadline), Some(forecast)) = (call.deadline, &self.forecast) else {
            return false;
        };
        let (now, ahead) = (clock.now(), self.queue.ahead(key));
        let ready_in = forecast.wait((key.lane, key.proof), ahead, now);
        is_too_late(ready_in, clock.at(deadline), now)
    }
}

fn request(
    settings: &LimiterSettings,
    call: &ReplayCall,
    key: QueueKey,
    clock: &ReplayClock,
) -> SlotRequest {
    let left = |deadline| clock.at(deadline).saturating_duration_since(clock.now());
    SlotRequest {
        scope: call.scope,
        lane: call.lane,
        limits: settings.quota.limits(None),
        totals: settings.quota.totals(),
        proof: key.proof,
        is_probe: false,
        is_paced: true,
        patience: call.deadline.map(left),
        aim: RequestAim::Spend,
    }
}
