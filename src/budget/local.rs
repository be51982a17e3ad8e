//! This replica's own count: of the whole quota without Redis, or of an equal share of it while
//! Redis is down.
//!
//! Each scope has two windows that guard the quota: one of all calls, one of the background lanes'
//! share. The [`governor`](super::governor) paces the calls within them. A call also needs room in
//! the [`totals`](super::totals). A denied request spends nothing anywhere. Never waits.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::forecast::{Forecast, Reserved, RoomForecast};
use super::governor::{Governors, Pace};
use super::held::TotalsHeld;
use super::past::{CountSource, ScopeOutage};
use super::queue::CredentialProof;
use super::quota::Quota;
use super::request::{ExpectedCall, ExpectedInRedis, SCOPE_KNOWN, Slot, SlotReply, SlotRequest};
use super::totals::{LockedTotals, TotalCounts};
use super::window::{FEW_CALLS, MOST_SCOPES, SlidingWindow};
use crate::clock::Instant;
use crate::domain::ScopeTag;

/// Redis is expected to hold a call only if the call is held here for at least this much longer.
const CLOCKS_DIFFER: Duration = Duration::from_millis(50);

pub(super) struct LocalLimiter {
    governors: RwLock<Governors>,
    /// Shared with the quotas of other kinds of calls.
    totals: Arc<TotalCounts>,
    scopes: Mutex<HashMap<ScopeTag, ScopeCalls, foldhash::fast::RandomState>>,
}

/// The calls of one scope.
#[derive(Debug, Default)]
struct ScopeCalls {
    all: SlidingWindow,
    background: SlidingWindow,
    /// The latest call that Redis has counted for this replica, and until when it is held.
    last: Option<(String, Instant)>,
    /// When Redis last counted one.
    counted: Option<Instant>,
    /// One call of each window is reserved for verified credentials until then.
    reserved_until: Option<Instant>,
    /// Set while Redis does not answer requests of this scope.
    outage: Option<ScopeOutage>,
    /// The time from which all replicas count this scope in Redis again.
    all_shared_from: Option<Instant>,
}

impl ScopeCalls {
    fn slide(&mut self, now: Instant) {
        self.all.slide(now);
        self.background.slide(now);
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        self.all.is_empty()
            && self
                .counted
                .is_none_or(|counted| counted + SCOPE_KNOWN <= now)
            && self.has_nothing_but_calls(now)
    }

    /// Returns whether it holds few calls, and nothing else that matters. Credentials that the CRM
    /// refuses must not take the memory for as long as a window lasts.
    fn has_only_few_calls(&self, now: Instant) -> bool {
        self.all.held() <= FEW_CALLS && self.has_nothing_but_calls(now)
    }

    fn has_nothing_but_calls(&self, now: Instant) -> bool {
        let is_over = |moment: Option<Instant>| moment.is_none_or(|moment| moment <= now);
        is_over(self.reserved_until)
            && is_over(self.all_shared_from)
            && self.outage.is_none_or(|outage| outage.is_forgotten(now))
    }
}

impl fmt::Debug for LocalLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLimiter")
            .field("replicas", &self.governors.read().sharing())
            .finish_non_exhaustive()
    }
}

impl LocalLimiter {
    /// The count of a replica that does not know of others yet. `at_least` is the least number of
    /// replicas. Times are those of `totals`.
    pub(super) fn new(quota: &Quota, at_least: NonZeroU32, totals: Arc<TotalCounts>) -> Self {
        Self {
            governors: RwLock::new(Governors::new(
                quota,
                (NonZeroU32::MIN, at_least),
                totals.time.clone(),
            )),
            totals,
            scopes: Mutex::default(),
        }
    }

    fn now(&self) -> Instant {
        self.totals.time.now()
    }

    /// Whose count applies to this scope. `source` is what applies to the quota as a whole.
    pub(super) fn source_for(&self, scope: ScopeTag, source: CountSource) -> CountSource {
        if !matches!(source, CountSource::Shared | CountSource::SharedWithinShare) {
            return source;
        }
        let (scopes, now) = (self.scopes.lock(), self.now());
        let Some(held) = scopes.get(&scope) else {
            return source;
        };
        let within_share = held.all_shared_from.is_some_and(|from| now < from);
        let shared = if within_share {
            CountSource::SharedWithinShare
        } else {
            source
        };
        held.outage
            .map_or(shared, |outage| outage.source(shared, now))
    }

    /// Redis answered a request of a scope, whose calls count for `window`.
    pub(super) fn redis_answered(&self, scope: ScopeTag, window: Duration) {
        if let Some(held) = self.scopes.lock().get_mut(&scope)
            && let Some(outage) = held.outage.take()
        {
            held.all_shared_from = held.all_shared_from.max(outage.ends(window, self.now()));
        }
    }

    /// Redis did not answer a request of a scope. This replica waits for it for `wait`.
    pub(super) fn redis_failed(&self, scope: ScopeTag, wait: Duration) {
        let mut scopes = self.scopes.lock();
        let held = scopes.entry(scope).or_default();
        held.outage = Some(ScopeOutage::prolonged(held.outage, wait, self.now()));
    }

    /// Spends a call if there is room. There must be only one request for a scope at a time, so
    /// that the forecast still holds.
    pub(super) fn request(
        &self,
        quota: &Quota,
        reserve_for: Duration,
        request: &SlotRequest,
        until: Instant,
    ) -> SlotReply {
        let governors = self.governors.read();
        let limits = request.totals.among(governors.sharing());
        // The lock is held until the call is counted, because a call of another kind may be
        // requested meanwhile.
        let mut totals = self.totals.lock();
        // governor cannot give anything back. So everything is checked before anything is spent.
        let before = self.forecast(quota, request, &governors, &mut totals);
        let wait = request.wait_when_seen(&before);
        if !wait.is_zero() {
            totals.denied(request, &limits, wait);
            return SlotReply::denied(before);
        }
        let slot = Slot::granted(request, until, self.now());
        if request.is_paced {
            governors.spend(slot.scope, slot.is_background);
        }
        self.hold_in(&mut totals, &slot);
        if request.proof == CredentialProof::Verified {
            self.reserve_one(request.scope, self.now() + reserve_for);
        }
        SlotReply {
            forecast: self.forecast(quota, request, &governors, &mut totals),
            granted: Some(slot),
            pause: None,
        }
    }

    /// When this replica's share has room for a call. Makes no call.
    pub(super) fn look(&self, quota: &Quota, request: &SlotRequest) -> Forecast {
        let governors = self.governors.read();
        self.forecast(quota, request, &governors, &mut self.totals.lock())
    }

    /// When this replica's share has room.
    pub(super) fn forecast_of_share(&self, quota: &Quota, request: &SlotRequest) -> Forecast {
        let within_window = SlotRequest {
            is_paced: false,
            ..*request
        };
        let governors = self.governors.read();
        self.forecast(quota, &within_window, &governors, &mut self.totals.lock())
    }

    /// What this replica itself holds in the totals of a scope.
    pub(super) fn held_in_totals(&self, scope: ScopeTag) -> TotalsHeld {
        self.totals.lock().held(scope)
    }

    fn forecast(
        &self,
        quota: &Quota,
        request: &SlotRequest,
        governors: &Governors,
        totals: &mut LockedTotals<'_>,
    ) -> Forecast {
        let in_totals = totals.held(request.scope);
        let [all_totals, share_totals] =
            in_totals.rooms(&request.totals.among(governors.sharing()));
        let limits = request.limits.among(governors.sharing());
        let [pace, pace_of_share] = governors.pace_of(request);
        let mut scopes = self.scopes.lock();
        let (held, now) = (scopes.entry(request.scope).or_default(), self.now());
        held.slide(now);
        let is_reserved = held.reserved_until.is_some_and(|until| now < until);
        let room = |window: &SlidingWindow, limit: u32, pace: Pace, totals| RoomForecast {
            limit,
            free_times: window.free_times(now, quota.per()),
            next_calls: pace.next_calls,
            reserved: Reserved::one_if(is_reserved, limit, pace.burst),
            totals,
        };
        let all = room(&held.all, limits.of(false), pace, all_totals);
        let share = room(
            &held.background,
            limits.of(true),
            pace_of_share,
            share_totals,
        );
        Forecast::seen_at(now, all, share)
    }

    /// Reserves one call of each window for verified credentials until then.
    pub(super) fn reserve_one(&self, scope: ScopeTag, until: Instant) {
        self.scopes.lock().entry(scope).or_default().reserved_until = Some(until);
    }

    /// What Redis must know of a scope. If Redis does not know it, Redis has lost its count. A call
    /// that the window will let go in a moment need not be there any more.
    pub(super) fn expected_in_redis(&self, scope: ScopeTag, per: Duration) -> ExpectedInRedis {
        let (scopes, now) = (self.scopes.lock(), self.now());
        let Some(held) = scopes.get(&scope) else {
            return ExpectedInRedis::default();
        };
        let shortest = (per / 100).max(CLOCKS_DIFFER);
        let call = held.last.as_ref().map(|(name, until)| ExpectedCall {
            name: name.clone(),
            held_for: until.saturating_duration_since(now),
        });
        ExpectedInRedis {
            is_loss_over: false,
            is_scope_known: held.counted.is_some_and(|at| now < at + SCOPE_KNOWN),
            call: call.filter(|call| call.held_for > shortest),
        }
    }

    /// Stops expecting that Redis knows what it has counted so far.
    pub(super) fn forget_expected(&self) {
        for held in self.scopes.lock().values_mut() {
            (held.last, held.counted) = (None, None);
        }
    }

    /// Counts a call, wherever it was granted.
    pub(super) fn hold(&self, slot: &Slot) {
        self.hold_in(&mut self.totals.lock(), slot);
    }

    fn hold_in(&self, totals: &mut LockedTotals<'_>, slot: &Slot) {
        totals.hold(slot);
        let mut scopes = self.scopes.lock();
        let held = scopes.entry(slot.scope).or_default();
        if let Some(name) = &slot.name {
            held.last = Some((name.clone(), slot.until));
            held.counted = Some(self.now());
        }
        held.all.hold(slot.until);
        if slot.is_background {
            held.background.hold(slot.until);
        }
    }

    /// The call's reply has ended: it leaves the wire, and the window holds it only until `until`.
    pub(super) fn end(&self, slot: &Slot, until: Instant) {
        self.totals.end(slot);
        self.release(slot, until);
    }

    /// The call was not made.
    pub(super) fn give_back(&self, slot: &Slot) {
        self.totals.give_back(slot);
        self.release(slot, self.now());
    }

    /// The window holds the call only until `until`.
    fn release(&self, slot: &Slot, until: Instant) {
        if let Some(held) = self.scopes.lock().get_mut(&slot.scope) {
            if let Some((_, held_until)) = held
                .last
                .as_mut()
                .filter(|(name, _)| Some(name) == slot.name.as_ref())
            {
                *held_until = until;
            }
            held.all.release(slot.until, until);
            if slot.is_background {
                held.background.release(slot.until, until);
            }
        }
    }

    /// That many replicas share the quota. Returns true if the number changes; then the pace starts
    /// again.
    pub(super) fn set_replicas(&self, quota: &Quota, replicas: NonZeroU32) -> bool {
        let mut governors = self.governors.write();
        let Some(changed) = governors.among(quota, replicas) else {
            return false;
        };
        *governors = changed;
        true
    }

    /// The quota has changed. The pace starts again, the windows keep their calls.
    pub(super) fn set_quota(&self, quota: &Quota) {
        let mut governors = self.governors.write();
        *governors = governors.renewed(quota);
    }

    /// Drops the scopes that hold nothing.
    pub(super) fn sweep(&self) {
        self.governors.read().sweep();
        self.totals.sweep();
        let (mut scopes, now) = (self.scopes.lock(), self.now());
        scopes.retain(|_, held| {
            held.slide(now);
            !held.is_forgettable(now)
        });
        if scopes.len() > MOST_SCOPES {
            scopes.retain(|_, held| !held.has_only_few_calls(now));
        }
        scopes.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.governors.read().len() + self.scopes.lock().len()
    }
}

#[cfg(test)]
mod tests;
