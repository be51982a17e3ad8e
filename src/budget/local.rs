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

use super::ask::{Answer, Ask, Forecast, Kept, Known, Last, Outlook, Room, SCOPE_KNOWN, Slot};
use super::hint::Rest;
use super::past::{Count, Outage};
use super::queue::{Ahead, Standing};
use super::quota::{Pace, Quota};
use super::window::{Window, micros};
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;

/// By how much at least a call must be held longer here before Redis is expected to hold it.
const CLOCKS_DIFFER: Duration = Duration::from_millis(50);

/// The own count of one quota.
pub(super) struct Local {
    paces: RwLock<Paces>,
    held: Mutex<HashMap<ScopeTag, Held, foldhash::fast::RandomState>>,
}

struct Paces {
    /// How many share the quota, and how many at least, as the settings say.
    replicas: NonZeroU32,
    at_least: NonZeroU32,
    all: Keyed,
    background: Keyed,
    /// By how many microseconds call pops may run further ahead of the pace than the background
    /// lanes.
    ahead: i64,
}

impl Paces {
    fn new(quota: &Quota, replicas: NonZeroU32, at_least: NonZeroU32) -> Self {
        let keyed = |pace: Pace| Keyed::new(pace.among(replicas.max(at_least)));
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
    fn forecasts(&self, scope: ScopeTag) -> (Forecast, Forecast) {
        let (all, share) = (self.all.forecast(scope), self.background.forecast(scope));
        (
            all,
            Forecast {
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
struct Held {
    all: Window,
    background: Window,
    /// The latest call that Redis has counted for this replica, and until when.
    last: Option<(String, Instant)>,
    /// When Redis last counted one.
    counted: Option<Instant>,
    /// Until when a call is kept for credentials that are proven.
    keeps_one_until: Option<Instant>,
    /// Redis does not answer asks of this scope.
    outage: Option<Outage>,
    /// From when on all replicas count this scope in Redis again.
    all_shared_from: Option<Instant>,
}

impl Held {
    fn slide(&mut self, now: Instant) {
        self.all.slide(now);
        self.background.slide(now);
    }

    fn is_needless(&self, now: Instant) -> bool {
        let is_over = |moment: Option<Instant>| moment.is_none_or(|moment| moment <= now);
        self.all.is_empty()
            && is_over(self.keeps_one_until)
            && is_over(self.all_shared_from)
            && is_over(self.counted.map(|counted| counted + SCOPE_KNOWN))
            && self.outage.is_none_or(|outage| outage.is_forgotten(now))
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("replicas", &self.paces.read().sharing())
            .finish_non_exhaustive()
    }
}

impl Local {
    /// The count of a replica that knows of no other. So many share the quota at least.
    pub(super) fn new(quota: &Quota, at_least: NonZeroU32) -> Self {
        Self {
            paces: RwLock::new(Paces::new(quota, NonZeroU32::MIN, at_least)),
            held: Mutex::default(),
        }
    }

    /// Whose count holds for a scope, if `count` holds for the quota.
    pub(super) fn count_of(&self, scope: ScopeTag, count: Count) -> Count {
        if !matches!(count, Count::Shared | Count::SharedWithinShare) {
            return count;
        }
        let (held, now) = (self.held.lock(), clock::now());
        let Some(held) = held.get(&scope) else {
            return count;
        };
        let within_share = held.all_shared_from.is_some_and(|from| now < from);
        let shared = if within_share {
            Count::SharedWithinShare
        } else {
            count
        };
        held.outage
            .map_or(shared, |outage| outage.count(shared, now))
    }

    /// Redis has answered an ask of a scope.
    pub(super) fn was_answered(&self, scope: ScopeTag, quota: &Quota) {
        if let Some(held) = self.held.lock().get_mut(&scope)
            && let Some(outage) = held.outage.take()
        {
            held.all_shared_from = held
                .all_shared_from
                .max(outage.ends(quota.per(), clock::now()));
        }
    }

    /// Redis has not answered an ask of a scope; it is waited for so long.
    pub(super) fn was_not_answered(&self, scope: ScopeTag, wait: Duration) {
        let mut held = self.held.lock();
        let held = held.entry(scope).or_default();
        held.outage = Some(Outage::goes_on(held.outage, wait, clock::now()));
    }

    /// Spends a call if there is room. Never two asks for one scope at a time: what was seen must
    /// still be so.
    pub(super) fn ask(
        &self,
        quota: &Quota,
        keeps_one_for: Duration,
        ask: &Ask,
        until: Instant,
    ) -> Answer {
        let paces = self.paces.read();
        let paces = ask.is_paced.then_some(&*paces);
        let before = self.outlook(quota, ask, paces);
        let is_background = ask.lane.is_background();
        // governor gives nothing back. So everything is looked at before anything is spent.
        if !before
            .wait((ask.lane, ask.standing), Ahead::default(), clock::now())
            .is_zero()
        {
            return Answer {
                granted: None,
                outlook: before,
                rest: Rest::default(),
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
        if ask.standing == Standing::Proven {
            self.keep_one(ask.scope, clock::now() + keeps_one_for);
        }
        let outlook = self.outlook(quota, ask, paces);
        Answer {
            granted: Some(slot),
            outlook,
            rest: Rest::default(),
        }
    }

    /// When this replica's share has room.
    pub(super) fn outlook_of_share(&self, quota: &Quota, ask: &Ask) -> Outlook {
        self.outlook(quota, ask, None)
    }

    fn outlook(&self, quota: &Quota, ask: &Ask, paces: Option<&Paces>) -> Outlook {
        let now = clock::now();
        let sharing = paces.map_or_else(|| self.paces.read().sharing(), Paces::sharing);
        let limits = ask.limits.among(sharing);
        let mut held = self.held.lock();
        let held = held.entry(ask.scope).or_default();
        held.slide(now);
        let keeps_one = held.keeps_one_until.is_some_and(|until| now < until);
        let (pace, share_pace) = paces
            .map(|paces| paces.forecasts(ask.scope))
            .unwrap_or_default();
        let room = |window: &Window, limit: u32, pace: Forecast, burst: u32| Room {
            limit,
            frees: window.frees(now, quota.per()),
            pace,
            kept: if keeps_one {
                Kept::one(limit, burst)
            } else {
                Kept::default()
            },
        };
        let [burst, share_burst] = paces.map_or([1, 1], |paces| {
            [&paces.all, &paces.background].map(Keyed::burst)
        });
        Outlook::now(
            room(&held.all, limits.of(false), pace, burst),
            room(&held.background, limits.of(true), share_pace, share_burst),
        )
    }

    /// One call of each window is kept for proven credentials until then.
    pub(super) fn keep_one(&self, scope: ScopeTag, until: Instant) {
        self.held.lock().entry(scope).or_default().keeps_one_until = Some(until);
    }

    /// What Redis must know of a scope: if it does not, it has lost what it counted. A call that is
    /// free in a moment is not asked for.
    pub(super) fn known(&self, scope: ScopeTag, per: Duration) -> Known {
        let (held, now) = (self.held.lock(), clock::now());
        let Some(held) = held.get(&scope) else {
            return Known::default();
        };
        let counted = held
            .counted
            .is_some_and(|counted| now < counted + SCOPE_KNOWN);
        let last = held
            .last
            .as_ref()
            .map(|(name, until)| (name, until.saturating_duration_since(now)));
        let last = last.filter(|(_, held_for)| *held_for > (per / 100).max(CLOCKS_DIFFER));
        Known {
            scope: counted,
            last: last.map(|(name, held_for)| Last {
                name: name.clone(),
                held_for,
            }),
        }
    }

    /// Redis need not know any more what it has counted until now.
    pub(super) fn forget_known(&self) {
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
    pub(super) fn divide(&self, quota: &Quota, replicas: NonZeroU32) -> bool {
        let mut paces = self.paces.write();
        let changes = paces.replicas != replicas;
        if changes {
            *paces = Paces::new(quota, replicas, paces.at_least);
        }
        changes
    }

    /// The quota is another one. The paces begin afresh, the windows hold what they held.
    pub(super) fn follow(&self, quota: &Quota) {
        let mut paces = self.paces.write();
        *paces = Paces::new(quota, paces.replicas, paces.at_least);
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
struct Keyed {
    limiter: RateLimiter<ScopeTag, Arrivals, Since, NoOpMiddleware<Nanos>>,
    arrivals: Arrivals,
    start: Since,
    pace: Pace,
}

impl Keyed {
    fn new(pace: Pace) -> Self {
        let (start, arrivals) = (Since(clock::now()), Arrivals::default());
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
    fn forecast(&self, scope: ScopeTag) -> Forecast {
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
        Forecast {
            next,
            interval: micros(self.pace.interval),
        }
    }
}

/// What governor stores for each scope: the theoretical arrival time of the next call, in
/// nanoseconds since the limiter's start. Ours and not governor's own, so that it can be read.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<HashMap<ScopeTag, u64, foldhash::fast::RandomState>>>);

impl StateStore for Arrivals {
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

impl ShrinkableKeyedStateStore<ScopeTag> for Arrivals {
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
struct Since(Instant);

impl Clock for Since {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let since = clock::now().saturating_duration_since(self.0);
        Nanos::new(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
