//! This replica's own limiter: the whole quota where there is no Redis, an equal share of it while Redis is away.
//!
//! Owns the governor. Two of them, because governor knows no lanes: one for all calls, one for the background lanes'
//! share of them. Promises that an ask which is denied spends nothing of either. Never waits.

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

use super::hint::Rest;
use super::limiter::{Answer, Forecast, Outlook, micros};
use super::quota::{Pace, Quota};
use crate::clock::{Instant, instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;

/// The local limiter of one connector.
pub(super) struct Local {
    paces: RwLock<Paces>,
}

struct Paces {
    replicas: NonZeroU32,
    all: Keyed,
    background: Keyed,
}

impl Paces {
    fn new(quota: &Quota, replicas: NonZeroU32) -> Self {
        let keyed = |pace: Pace| Keyed::new(pace.among(replicas));
        Self { replicas, all: keyed(quota.all()), background: keyed(quota.background()) }
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("replicas", &self.paces.read().replicas).finish_non_exhaustive()
    }
}

impl Local {
    /// The limiter of a replica that is alone.
    pub(super) fn new(quota: &Quota) -> Self {
        Self { paces: RwLock::new(Paces::new(quota, NonZeroU32::MIN)) }
    }

    /// Spends a cell if there is one. Never two asks for one scope at a time: what was seen must still be so.
    pub(super) fn ask(&self, scope: ScopeTag, lane: Lane) -> Answer {
        let paces = self.paces.read();
        // governor gives nothing back. So the share is looked at before anything is spent, and spent last.
        let may_spend = !lane.is_background() || paces.background.forecast(scope).next <= 0;
        let granted = may_spend && paces.all.spend(scope);
        if granted && lane.is_background() {
            paces.background.spend(scope);
        }
        let outlook = Outlook::now(paces.all.forecast(scope), paces.background.forecast(scope));
        Answer { granted, outlook, rest: Rest::default() }
    }

    /// Counts a call that was granted elsewhere, as far as there is room to count it.
    pub(super) fn count(&self, scope: ScopeTag, lane: Lane) {
        let paces = self.paces.read();
        paces.all.spend(scope);
        if lane.is_background() {
            paces.background.spend(scope);
        }
    }

    /// Divides the quota among so many replicas. True where that changes anything; then all scopes begin afresh,
    /// because governor's quota cannot be changed.
    pub(super) fn divide(&self, quota: &Quota, replicas: NonZeroU32) -> bool {
        let mut paces = self.paces.write();
        let changes = paces.replicas != replicas;
        if changes {
            *paces = Paces::new(quota, replicas);
        }
        changes
    }

    /// Forgets the scopes that have their full burst again.
    pub(super) fn sweep(&self) {
        let paces = self.paces.read();
        for keyed in [&paces.all, &paces.background] {
            keyed.limiter.retain_recent();
            keyed.limiter.shrink_to_fit();
        }
    }

    /// Scopes remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let paces = self.paces.read();
        paces.all.limiter.len() + paces.background.limiter.len()
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
        let (start, arrivals) = (Since(instant()), Arrivals::default());
        // Never less than a nanosecond: a Pace has an interval.
        let quota = governor::Quota::with_period(pace.interval)
            .unwrap_or(governor::Quota::per_second(NonZeroU32::MIN))
            .allow_burst(pace.burst);
        Self { limiter: RateLimiter::new(quota, arrivals.clone(), start), arrivals, start, pace }
    }

    fn spend(&self, scope: ScopeTag) -> bool {
        self.limiter.check_key(&scope).is_ok()
    }

    /// When the next cell is there: governor's own rule, asked without spending.
    fn forecast(&self, scope: ScopeTag) -> Forecast {
        let now = self.start.now().as_u64();
        let arrival = self.arrivals.0.lock().get(&scope).copied().unwrap_or(0).max(now);
        // Rounded up, so that a wait of this length is long enough.
        let next = micros(Duration::from_nanos(arrival - now + 999)).saturating_sub(micros(self.pace.tolerance()));
        Forecast { next, interval: micros(self.pace.interval) }
    }
}

/// What governor stores for each scope: the theoretical arrival time of the next cell, in nanoseconds since the
/// limiter's start. Ours and not governor's own, so that it can be read.
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
        self.0.lock().retain(|_, arrival| *arrival > drop_below.as_u64());
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
        let since = instant().saturating_duration_since(self.0);
        Nanos::new(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Scope;
    use crate::budget::queue::Ahead;
    use crate::clock::pause;
    use crate::domain::KeyMaker;

    fn scope(name: &str) -> ScopeTag {
        KeyMaker::new([1; 16]).scope(&[name.as_bytes()])
    }

    /// 10 calls a second, 4 at once, half of it for the background.
    fn quota() -> Quota {
        Quota::new(10, Duration::from_secs(1), 4, Scope::User, 0.5).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_denied_ask_spends_nothing_of_either_pace() {
        let (local, scope) = (Local::new(&quota()), scope("a"));
        assert!((0..2).all(|_| local.ask(scope, Lane::Prefetch).granted));
        // The share is used up; asking on must not use up what is left for call pops.
        assert!((0..10).all(|_| !local.ask(scope, Lane::Prefetch).granted));
        assert!((0..2).all(|_| local.ask(scope, Lane::CallPop).granted));
        // All is used up: asking on must not use up the share that comes back.
        assert!((0..10).all(|_| !local.ask(scope, Lane::CallPop).granted));
        pause(Duration::from_millis(200)).await;
        assert!(local.ask(scope, Lane::Prefetch).granted);
        assert!(local.ask(scope, Lane::CallPop).granted);
        assert!(!local.ask(scope, Lane::CallPop).granted);
    }

    #[tokio::test(start_paused = true)]
    async fn the_forecast_is_exact_with_cells_in_stock_and_without() {
        let (local, scope) = (Local::new(&quota()), scope("a"));
        let pop = |ahead, outlook: Outlook| {
            outlook.wait(Lane::CallPop, Ahead { all: ahead, background: 0 }, instant()).as_millis()
        };
        let outlook = local.ask(scope, Lane::CallPop).outlook;
        assert_eq!([0, 2, 3, 5].map(|ahead| pop(ahead, outlook)), [0, 0, 100, 300]);
        (0..3).for_each(|_| assert!(local.ask(scope, Lane::CallPop).granted));
        let outlook = local.ask(scope, Lane::CallPop).outlook;
        assert_eq!([0, 1].map(|ahead| pop(ahead, outlook)), [100, 200]);
        pause(Duration::from_millis(70)).await;
        assert_eq!(pop(0, outlook), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn scopes_do_not_share_and_replicas_get_equal_parts() {
        let local = Local::new(&quota());
        let burst = |name| (0..9).filter(|_| local.ask(scope(name), Lane::CallPop).granted).count();
        assert_eq!([burst("a"), burst("b")], [4, 4]);
        assert!(local.divide(&quota(), NonZeroU32::new(2).unwrap()));
        assert!(!local.divide(&quota(), NonZeroU32::new(2).unwrap()));
        assert_eq!(burst("a"), 2);
        pause(Duration::from_millis(199)).await;
        assert_eq!(burst("a"), 0);
        pause(Duration::from_millis(1)).await;
        assert_eq!(burst("a"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_counted_from_elsewhere_is_spent() {
        let (local, scope) = (Local::new(&quota()), scope("a"));
        (0..100).for_each(|_| local.count(scope, Lane::CallPop));
        assert!(!local.ask(scope, Lane::CallPop).granted);
        pause(Duration::from_millis(100)).await;
        assert!(local.ask(scope, Lane::CallPop).granted, "counted up to the burst, not beyond");
    }
}
