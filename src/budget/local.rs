//! This replica's own count: of the whole quota without Redis, of an equal share of it while Redis
//! is away.
//!
//! Owns the windows, which guard the quota, and the governors, which pace the calls within it. Two
//! of each, because neither knows lanes: one for all calls, one for the background lanes' share of
//! them. Promises that an ask which is denied spends nothing of any. Never waits.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use parking_lot::{Mutex, RwLock};

use super::ask::{SlotReply, SlotRequest, NextCalls, Reserved, ExpectedInRedis, ExpectedCall, Forecast, RoomForecast, SCOPE_KNOWN, Slot};
use super::hint::Pause;
use super::past::{CountSource, ScopeOutage};
use super::queue::{WaitersAhead, CredentialProof};
use super::quota::{TokenBucket, Quota};
use super::window::{SlidingWindow, micros};
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;

/// By how much at least a call must be held longer here before Redis is expected to hold it.
const CLOCKS_DIFFER: Duration = Duration::from_millis(50);

/// The own count of one quota.
pub(super) struct LocalLimiter {
    paces: RwLock<Governors>,
    held: Mutex<HashMap<ScopeTag, ScopeCalls, foldhash::fast::RandomState>>,
}

struct Governors {
    /// How many share the quota, and how many at least, as the settings say.
    replicas: NonZeroU32,
    at_least: NonZeroU32,
    all: Governor,
    background: Governor,
    /// By how many microseconds call pops may run further ahead of the pace than the background
    /// lanes.
    ahead: i64,
}

impl Governors {
    fn new(quota: &Quota, replicas: NonZeroU32, at_least: NonZeroU32) -> Self {
        let keyed = |pace: TokenBucket| Governor::new(pace.among(replicas.max(at_least)));
        let (all, background) = (keyed(quota.all()), keyed(quota.background()));
        let ahead = micros(all.pace.tolerance())
            - micros(quota.even().among(replicas.max(at_least)).tolerance());
        Self {
            replicas,
            at_least,
            all,
            background,
            ahead,
        }
    }

    /// When the next calls are due, of all and of the background lanes.
    fn next_calls_by_lane(&self, scope: ScopeTag) -> (NextCalls, NextCalls) {
        let (all, share) = (self.all.next_calls(scope), self.background.next_calls(scope));
        (
            all,
            NextCalls {
                next: share.next.max(all.next + self.ahead),
                ..share
            },
        )
    }

    fn sharing(&self) -> NonZeroU32 {
        self.replicas.max(self.at_least)
    }
}

/// The calls of one scope.
#[derive(Debug, Default)]
struct ScopeCalls {
    all: SlidingWindow,
    background: SlidingWindow,
    /// The latest call that Redis has counted for this replica, and until when.
    last: Option<(String, Instant)>,
    /// When Redis last counted one.
    counted: Option<Instant>,
    /// Until when a call is kept for credentials that are proven.
    reserved_until: Option<Instant>,
    /// Redis does not answer asks of this scope.
    outage: Option<ScopeOutage>,
    /// From when on all replicas count this scope in Redis again.
    all_shared_from: Option<Instant>,
}

impl ScopeCalls {
    fn slide(&mut self, now: Instant) {
        self.all.slide(now);
        self.background.slide(now);
    }

    fn is_needless(&self, now: Instant) -> bool {
        let is_over = |moment: Option<Instant>| moment.is_none_or(|moment| moment <= now);
        self.all.is_empty()
            && is_over(self.reserved_until)
            && is_over(self.all_shared_from)
            && is_over(self.counted.map(|counted| counted + SCOPE_KNOWN))
            && self.outage.is_none_or(|outage| outage.is_forgotten(now))
    }
}

impl fmt::Debug for LocalLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("replicas", &self.paces.read().sharing())
            .finish_non_exhaustive()
    }
}

impl LocalLimiter {
    /// The count of a replica that knows of no other. So many share the quota at least.
    pub(super) fn new(quota: &Quota, at_least: NonZeroU32) -> Self {
        Self {
            paces: RwLock::new(Governors::new(quota, NonZeroU32::MIN, at_least)),
            held: Mutex::default(),
        }
    }

    /// Whose count holds for a scope, if `count` holds for the quota.
    pub(super) fn source_for(&self, scope: ScopeTag, count: CountSource) -> CountSource {
        if !matches!(count, CountSource::Shared | CountSource::SharedWithinShare) {
            return count;
        }
        let (held, now) = (self.held.lock(), clock::now());
        let Some(held) = held.get(&scope) else {
            return count;
        };
        let within_share = held.all_shared_from.is_some_and(|from| now < from);
        let shared = if within_share {
            CountSource::SharedWithinShare
        } else {
            count
        };
        held.outage
            .map_or(shared, |outage| outage.count(shared, now))
    }

    /// Redis has answered an ask of a scope.
    pub(super) fn redis_answered(&self, scope: ScopeTag, quota: &Quota) {
        if let Some(held) = self.held.lock().get_mut(&scope)
            && let Some(outage) = held.outage.take()
        {
            held.all_shared_from = held
                .all_shared_from
                .max(outage.ends(quota.per(), clock::now()));
        }
    }

    /// Redis has not answered an ask of a scope; it is waited for so long.
    pub(super) fn redis_failed(&self, scope: ScopeTag, wait: Duration) {
        let mut held = self.held.lock();
        let held = held.entry(scope).or_default();
        held.outage = Some(ScopeOutage::goes_on(held.outage, wait, clock::now()));
    }

    /// Spends a call if there is room. Never two asks for one scope at a time: what was seen must
    /// still be so.
    pub(super) fn ask(
        &self,
        quota: &Quota,
        reserve_for: Duration,
        ask: &SlotRequest,
        until: Instant,
    ) -> SlotReply {
        let paces = self.paces.read();
        let paces = ask.is_paced.then_some(&*paces);
        let before = self.forecast(quota, ask, paces);
        let is_background = ask.lane.is_background();
        // governor gives nothing back. So everything is looked at before anything is spent.
        if !before
            .wait((ask.lane, ask.proof), WaitersAhead::default(), clock::now())
            .is_zero()
        {
            return SlotReply {
                granted: None,
                forecast: before,
                rest: Pause::default(),
            };
        }
        if let Some(paces) = paces {
            paces.all.spend(ask.scope);
            if is_background {
                paces.background.spend(ask.scope);
            }
        }
        let slot = Slot {
            scope: ask.scope,
            is_background,
            until,
            name: None,
            probe: None,
        };
        self.hold(&slot);
        if ask.proof == CredentialProof::Proven {
            self.reserve_one(ask.scope, clock::now() + reserve_for);
        }
        let forecast = self.forecast(quota, ask, paces);
        SlotReply {
            granted: Some(slot),
            forecast,
            rest: Pause::default(),
        }
    }

    /// When this replica's share has room.
    pub(super) fn forecast_of_share(&self, quota: &Quota, ask: &SlotRequest) -> Forecast {
        self.forecast(quota, ask, None)
    }

    fn forecast(&self, quota: &Quota, ask: &SlotRequest, paces: Option<&Governors>) -> Forecast {
        let now = clock::now();
        let sharing = paces.map_or_else(|| self.paces.read().sharing(), Governors::sharing);
        let limits = ask.limits.among(sharing);
        let mut held = self.held.lock();
        let held = held.entry(ask.scope).or_default();
        held.slide(now);
        let is_reserved = held.reserved_until.is_some_and(|until| now < until);
        let (pace, share_pace) = paces
            .map(|paces| paces.next_calls_by_lane(ask.scope))
            .unwrap_or_default();
        let room = |window: &SlidingWindow, limit: u32, pace: NextCalls, burst: u32| RoomForecast {
            limit,
            frees: window.frees(now, quota.per()),
            pace,
            kept: if is_reserved {
                Reserved::one(limit, burst)
            } else {
                Reserved::default()
            },
        };
        let [burst, share_burst] = paces.map_or([1, 1], |paces| {
            [&paces.all, &paces.background].map(Governor::burst)
        });
        Forecast::now(
            room(&held.all, limits.of(false), pace, burst),
            room(&held.background, limits.of(true), share_pace, share_burst),
        )
    }

    /// One call of each window is kept for proven credentials until then.
    pub(super) fn reserve_one(&self, scope: ScopeTag, until: Instant) {
        self.held.lock().entry(scope).or_default().reserved_until = Some(until);
    }

    /// What Redis must know of a scope: if it does not, it has lost what it counted. A call that is
    /// free in a moment is not asked for.
    pub(super) fn expected_in_redis(&self, scope: ScopeTag, per: Duration) -> ExpectedInRedis {
        let (held, now) = (self.held.lock(), clock::now());
        let Some(held) = held.get(&scope) else {
            return ExpectedInRedis::default();
        };
        let counted = held
            .counted
            .is_some_and(|counted| now < counted + SCOPE_KNOWN);
        let last = held
            .last
            .as_ref()
            .map(|(name, until)| (name, until.saturating_duration_since(now)));
        let last = last.filter(|(_, held_for)| *held_for > (per / 100).max(CLOCKS_DIFFER));
        ExpectedInRedis {
            scope: counted,
            last: last.map(|(name, held_for)| ExpectedCall {
                name: name.clone(),
                held_for,
            }),
        }
    }

    /// Redis need not know any more what it has counted until now.
    pub(super) fn forget_expected(&self) {
        for held in self.held.lock().values_mut() {
            (held.last, held.counted) = (None, None);
        }
    }

    /// Counts a call, wherever it was granted.
    pub(super) fn hold(&self, slot: &Slot) {
        let mut held = self.held.lock();
        let held = held.entry(slot.scope).or_default();
        if let Some(name) = &slot.name {
            held.last = Some((name.clone(), slot.until));
            held.counted = Some(clock::now());
        }
        held.all.hold(slot.until);
        if slot.is_background {
            held.background.hold(slot.until);
        }
    }

    /// The call is held until `until` only.
    pub(super) fn release(&self, slot: &Slot, until: Instant) {
        if let Some(held) = self.held.lock().get_mut(&slot.scope) {
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

    /// So many replicas share the quota. True if that changes anything; then the paces begin
    /// afresh, because governor's quota cannot be changed.
    pub(super) fn set_replicas(&self, quota: &Quota, replicas: NonZeroU32) -> bool {
        let mut paces = self.paces.write();
        let changes = paces.replicas != replicas;
        if changes {
            *paces = Governors::new(quota, replicas, paces.at_least);
        }
        changes
    }

    /// The quota is another one. The paces begin afresh, the windows hold what they held.
    pub(super) fn set_quota(&self, quota: &Quota) {
        let mut paces = self.paces.write();
        *paces = Governors::new(quota, paces.replicas, paces.at_least);
    }

    /// Forgets the scopes that hold nothing.
    pub(super) fn sweep(&self) {
        let paces = self.paces.read();
        for keyed in [&paces.all, &paces.background] {
            keyed.limiter.retain_recent();
            keyed.limiter.shrink_to_fit();
        }
        let (mut held, now) = (self.held.lock(), clock::now());
        held.retain(|_, held| {
            held.slide(now);
            !held.is_needless(now)
        });
        held.shrink_to_fit();
    }

    /// Scopes remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let paces = self.paces.read();
        paces.all.limiter.len() + paces.background.limiter.len() + self.held.lock().len()
    }
}

/// One governor with a state for each scope.
struct Governor {
    limiter: RateLimiter<ScopeTag, ArrivalTimes, GovernorClock, NoOpMiddleware<Nanos>>,
    arrivals: ArrivalTimes,
    start: GovernorClock,
    pace: TokenBucket,
}

impl Governor {
    fn new(pace: TokenBucket) -> Self {
        let (start, arrivals) = (GovernorClock(clock::now()), ArrivalTimes::default());
        // Never less than a nanosecond: a Pace has an interval.
        let quota = governor::Quota::with_period(pace.interval)
            .unwrap_or(governor::Quota::per_second(NonZeroU32::MIN))
            .allow_burst(pace.burst);
        Self {
            limiter: RateLimiter::new(quota, arrivals.clone(), start),
            arrivals,
            start,
            pace,
        }
    }

    /// Counts a call for which there was room.
    fn spend(&self, scope: ScopeTag) {
        let _ = self.limiter.check_key(&scope);
    }

    fn burst(&self) -> u32 {
        self.pace.burst.get()
    }

    /// When the next call is due: governor's own rule, asked without spending.
    fn next_calls(&self, scope: ScopeTag) -> NextCalls {
        let now = self.start.now().as_u64();
        let arrival = self
            .arrivals
            .0
            .lock()
            .get(&scope)
            .copied()
            .unwrap_or(0)
            .max(now);
        // Rounded up, so that a wait of this length is long enough.
        let next = micros(Duration::from_nanos(arrival - now + 999))
            .saturating_sub(micros(self.pace.tolerance()));
        NextCalls {
            next,
            interval: micros(self.pace.interval),
        }
    }
}

/// What governor stores for each scope: the theoretical arrival time of the next call, in
/// nanoseconds since the limiter's start. Ours and not governor's own, so that it can be read.
#[derive(Clone, Default)]
struct ArrivalTimes(Arc<Mutex<HashMap<ScopeTag, u64, foldhash::fast::RandomState>>>);

impl StateStore for ArrivalTimes {
    type Key = ScopeTag;

    fn measure_and_replace<T, F, E>(&self, scope: &ScopeTag, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut arrivals = self.0.lock();
        let (outcome, next) = measure(arrivals.get(scope).map(|arrival| Nanos::new(*arrival)))?;
        arrivals.insert(*scope, next.as_u64());
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<ScopeTag> for ArrivalTimes {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0
            .lock()
            .retain(|_, arrival| *arrival > drop_below.as_u64());
    }

    fn shrink_to_fit(&self) {
        self.0.lock().shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// governor's view of the clock: time since a moment.
#[derive(Debug, Clone, Copy)]
struct GovernorClock(Instant);

impl Clock for GovernorClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let since = clock::now().saturating_duration_since(self.0);
        Nanos::new(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
