//! Where cells come from: the fleet's quota in Redis, or this replica's share of it.
//!
//! Owns the choice between the two and the language in which both answer. Knows no queue and no pause of its own.

use std::num::NonZeroU32;
use std::time::Duration;

use super::hint::Rest;
use super::local::Local;
use super::queue::Ahead;
use super::quota::Quota;
use super::shared::SharedQuota;
use crate::clock::{Instant, instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;

/// When one pace has its next cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forecast {
    /// Microseconds until the next cell. Not more than zero where it is there, less by one interval for each other
    /// that is there as well.
    pub next: i64,
    /// Microseconds between cells.
    pub interval: i64,
}

impl Forecast {
    /// Microseconds until there is a cell for whoever has `ahead` others before him.
    fn behind(self, ahead: usize) -> i64 {
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        self.next.saturating_add(self.interval.saturating_mul(ahead))
    }
}

/// Whole microseconds, the unit of forecasts: what Redis tells time in.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// When cells will be there, as far as a limiter knew when it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook {
    seen: Instant,
    all: Forecast,
    background: Forecast,
}

impl Outlook {
    /// An outlook of this moment.
    pub(super) fn now(all: Forecast, background: Forecast) -> Self {
        Self { seen: instant(), all, background }
    }

    /// Time until there is a cell for a waiter of `lane` behind others. A background lane needs one of both paces.
    pub(super) fn wait(&self, lane: Lane, ahead: Ahead, now: Instant) -> Duration {
        let mut micros = self.all.behind(ahead.all);
        if lane.is_background() {
            micros = micros.max(self.background.behind(ahead.background));
        }
        let from_seen = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        from_seen.saturating_sub(now.saturating_duration_since(self.seen))
    }
}

/// What a limiter answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    /// Whether a cell was spent. A denied ask spends nothing.
    pub granted: bool,
    /// What comes next.
    pub outlook: Outlook,
    /// Pauses that other replicas have set.
    pub rest: Rest,
}

/// The limiter of one connector.
#[derive(Debug)]
pub(super) struct Limiter {
    quota: Quota,
    local: Local,
    shared: Option<SharedQuota>,
}

impl Limiter {
    pub(super) fn new(quota: Quota, shared: Option<SharedQuota>) -> Self {
        Self { quota, local: Local::new(&quota), shared }
    }

    pub(super) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Asks for a cell. `patience` is how long the waiter would wait for it. Never two asks for one scope at a time.
    ///
    /// Ends at once, or within the timeout of the link to Redis.
    pub(super) async fn ask(&self, scope: ScopeTag, lane: Lane, patience: Option<Duration>) -> Answer {
        if let Some(shared) = &self.shared
            && let Ok(answer) = shared.ask(&self.quota, scope, lane, patience).await
        {
            if answer.granted {
                // So that the day Redis goes away does not begin with another full burst.
                self.local.count(scope, lane);
            }
            return answer;
        }
        self.local.ask(scope, lane)
    }

    /// Tells the other replicas to rest. Best effort.
    pub(super) async fn tell(&self, scope: ScopeTag, rest: Rest) {
        if let Some(shared) = &self.shared {
            shared.pause(scope, rest).await;
        }
    }

    /// How many replicas share the quota while Redis is away. True where that is news. Alone without Redis.
    pub(super) fn set_replicas(&self, replicas: NonZeroU32) -> bool {
        self.shared.is_some() && self.local.divide(&self.quota, replicas)
    }

    /// Forgets the scopes that have their full burst again.
    pub(super) fn sweep(&self) {
        self.local.sweep();
    }

    /// Scopes remembered here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.local.len()
    }
}
