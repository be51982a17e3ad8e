//! The pace of calls within a window, using the governor crate.
//!
//! Uses two governors, because governor has no lanes: one for all calls, one for the background
//! lanes' share. Both can be queried without spending.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use parking_lot::Mutex;

use super::forecast::NextCalls;
use super::quota::{Quota, TokenBucket};
use super::request::SlotRequest;
use super::window::micros;
use crate::clock::{Instant, SteadyClock};
use crate::domain::ScopeTag;

/// Both governors of a quota, at the pace of one replica's share.
pub(super) struct Governors {
    replicas: NonZeroU32,
    /// The least number of replicas, from the settings.
    at_least: NonZeroU32,
    all: Governor,
    background: Governor,
    /// How much further call pops may run ahead of the pace than the background lanes, in
    /// microseconds.
    ahead: i64,
    time: SteadyClock,
}

impl Governors {
    pub(super) fn new(
        quota: &Quota,
        (replicas, at_least): (NonZeroU32, NonZeroU32),
        time: SteadyClock,
    ) -> Self {
        let sharing = replicas.max(at_least);
        let all = Governor::new(quota.bucket().among(sharing), &time);
        let background = Governor::new(quota.background_bucket().among(sharing), &time);
        let even = quota.even_bucket().among(sharing);
        let ahead = micros(all.bucket.tolerance()) - micros(even.tolerance());
        Self {
            replicas,
            at_least,
            all,
            background,
            ahead,
            time,
        }
    }

    /// The pace of all lanes and of the background lanes, for a request.
    pub(super) fn pace_of(&self, request: &SlotRequest) -> [Pace; 2] {
        if !request.is_paced {
            return [Pace::UNPACED; 2];
        }
        let mut paces = [&self.all, &self.background].map(|governor| governor.pace(request.scope));
        let [all, share] = &mut paces;
        share.next_calls.next = share.next_calls.next.max(all.next_calls.next + self.ahead);
        paces
    }

    /// The same governors for another quota. Their state is new, because governor's quota cannot be
    /// changed.
    pub(super) fn renewed(&self, quota: &Quota) -> Self {
        Self::new(quota, (self.replicas, self.at_least), self.time.clone())
    }

    /// The same governors for that many replicas; `None` if the number is unchanged.
    pub(super) fn among(&self, quota: &Quota, replicas: NonZeroU32) -> Option<Self> {
        (self.replicas != replicas)
            .then(|| Self::new(quota, (replicas, self.at_least), self.time.clone()))
    }

    /// Counts a call that had room.
    pub(super) fn spend(&self, scope: ScopeTag, is_background: bool) {
        self.all.spend(scope);
        if is_background {
            self.background.spend(scope);
        }
    }

    /// Drops the scopes whose calls are old enough.
    pub(super) fn sweep(&self) {
        for governor in [&self.all, &self.background] {
            governor.limiter.retain_recent();
            governor.limiter.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.limiter.len() + self.background.limiter.len()
    }

    pub(super) fn sharing(&self) -> NonZeroU32 {
        self.replicas.max(self.at_least)
    }
}

/// What a governor says about the next calls of a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) next_calls: NextCalls,
    pub(super) burst: u32,
}

impl Pace {
    /// Calls are due whenever the window has room.
    const UNPACED: Self = Self {
        next_calls: NextCalls {
            next: 0,
            interval: 0,
        },
        burst: 1,
    };
}

/// One governor, with a state for each scope.
struct Governor {
    limiter: RateLimiter<ScopeTag, ArrivalTimes, GovernorClock, NoOpMiddleware<Nanos>>,
    arrivals: ArrivalTimes,
    clock: GovernorClock,
    bucket: TokenBucket,
}

impl Governor {
    fn new(bucket: TokenBucket, time: &SteadyClock) -> Self {
        let (clock, arrivals) = (GovernorClock::new(time), ArrivalTimes::default());
        // At least a nanosecond, because a bucket needs an interval.
        let quota = governor::Quota::with_period(bucket.interval)
            .unwrap_or(governor::Quota::per_second(NonZeroU32::MIN))
            .allow_burst(bucket.burst);
        Self {
            limiter: RateLimiter::new(quota, arrivals.clone(), clock.clone()),
            arrivals,
            clock,
            bucket,
        }
    }

    /// Counts a call that had room.
    fn spend(&self, scope: ScopeTag) {
        let _ = self.limiter.check_key(&scope);
    }

    fn pace(&self, scope: ScopeTag) -> Pace {
        Pace {
            next_calls: self.next_calls(scope),
            burst: self.bucket.burst.get(),
        }
    }

    /// When the next call is due: governor's own rule, without spending.
    fn next_calls(&self, scope: ScopeTag) -> NextCalls {
        let now = self.clock.now().as_u64();
        let arrival = self.arrivals.get(scope).unwrap_or(0).max(now);
        // Rounded up, so that waiting this long is enough.
        let next = micros(Duration::from_nanos(arrival - now + 999))
            .saturating_sub(micros(self.bucket.tolerance()));
        NextCalls {
            next,
            interval: micros(self.bucket.interval),
        }
    }
}

/// What governor stores for each scope: the theoretical arrival time of the next call, in
/// nanoseconds since the limiter's start. It is a type of our own because governor's cannot be
/// read.
#[derive(Clone, Default)]
struct ArrivalTimes(Arc<Mutex<HashMap<ScopeTag, u64, foldhash::fast::RandomState>>>);

impl ArrivalTimes {
    fn get(&self, scope: ScopeTag) -> Option<u64> {
        self.0.lock().get(&scope).copied()
    }
}

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

/// governor's view of the clock: time since it was first read. A limiter reads it when it is made,
/// and counts arrival times from there. With a start of our own, [`Governor::next_calls`] would be
/// wrong by the time that passes in between.
#[derive(Debug, Clone)]
struct GovernorClock {
    start: Arc<OnceLock<Instant>>,
    time: SteadyClock,
}

impl GovernorClock {
    fn new(time: &SteadyClock) -> Self {
        Self {
            start: Arc::default(),
            time: time.clone(),
        }
    }
}

impl Clock for GovernorClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let now = self.time.now();
        let since = now.saturating_duration_since(*self.start.get_or_init(|| now));
        Nanos::new(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;
    use crate::clock::ReplayClock;
    use crate::domain::KeyMaker;

    /// A thread may be interrupted at any point, so time may pass at any point.
    #[test]
    fn time_that_passes_while_a_governor_is_made_does_not_shorten_its_intervals() {
        let (clock, ended) = (ReplayClock::start(), AtomicBool::new(false));
        let governors: Vec<Governor> = thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    clock.set(clock.micros() + 10_000);
                }
            });
            let bucket = TokenBucket {
                interval: Duration::from_secs(1),
                burst: NonZeroU32::MIN,
            };
            let time = SteadyClock::Replay(clock.clone());
            let made = (0..1_000).map(|_| Governor::new(bucket, &time)).collect();
            ended.store(true, Ordering::Relaxed);
            made
        });
        let scope = KeyMaker::new([1; 16]).scope(&[b"a"]);
        for governor in governors {
            governor.spend(scope);
            assert_eq!(governor.next_calls(scope).next, 1_000_000);
        }
    }
}
