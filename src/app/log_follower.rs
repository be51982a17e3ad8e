//! Applies what other replicas publish: invalidations, revoked credentials, the number of replicas.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::budgets::Budgets;
use crate::admission::Admissions;
use crate::budget::Replicas;
use crate::cache::{self, PollResult, ReplicaEvent, TieredCache};
use crate::redis_link::RedisTime;

/// How often the log of invalidations is read, so that an invalidation at one replica takes effect
/// at every replica within a second.
const LISTEN: Duration = Duration::from_millis(100);

/// How soon the log is first read, and read again after a single failure. On a new connection it is
/// read at once.
const FIRST: Duration = Duration::from_millis(20);

pub(super) struct LogFollower {
    pub(super) log: cache::LogReader,
    pub(super) time: RedisTime,
    pub(super) cache: TieredCache,
    pub(super) admissions: Admissions,
    pub(super) budgets: Arc<Mutex<Budgets>>,
    /// The number of replicas, from the log.
    pub(super) replicas: Arc<AtomicU32>,
}

impl LogFollower {
    pub(super) async fn run(mut self) {
        let (mut ever_read, mut failed, mut wait) = (false, false, FIRST);
        loop {
            self.log.pause(wait).await;
            let Ok(polled) = self.log.poll().await else {
                // A single failure may just be a slow reply.
                wait = if ever_read && failed { LISTEN } else { FIRST };
                failed = true;
                self.no_replicas_known();
                continue;
            };
            if !ever_read {
                // Memory may already hold answers that were invalidated before the log was first
                // read.
                self.cache.apply(&ReplicaEvent::Lost);
            }
            (ever_read, failed) = (true, false);
            wait = if polled.more { Duration::ZERO } else { LISTEN };
            self.apply(&polled);
        }
    }

    fn apply(&self, polled: &PollResult) {
        let has_lost = self.time.has_lost(&polled.time);
        self.apply_to_budgets(polled);
        // The budgets come first: when the first request carries the new data token, they must
        // already wait for calls that Redis may have lost.
        self.time.apply(polled.time);
        let lost = has_lost.then_some(&ReplicaEvent::Lost);
        for event in lost.into_iter().chain(&polled.events) {
            self.cache.apply(event);
            self.apply_to_admissions(event);
        }
    }

    fn apply_to_budgets(&self, polled: &PollResult) {
        let Some(count) = polled.replicas.and_then(NonZeroU32::new) else {
            // A Redis that does not count replicas does not count calls either.
            return self.no_replicas_known();
        };
        self.replicas.store(count.get(), Ordering::Relaxed);
        let replicas = Replicas {
            count,
            present: polled.present,
            kept_for: polled.kept_for,
        };
        for (_, budget) in self.budgets.lock().iter() {
            budget.apply_replicas(&replicas);
        }
    }

    fn no_replicas_known(&self) {
        for (_, budget) in self.budgets.lock().iter() {
            budget.redis_unreachable();
        }
    }

    fn apply_to_admissions(&self, event: &ReplicaEvent) {
        let admissions = &self.admissions;
        match event {
            ReplicaEvent::Revoke(auth) => admissions.revoke_here(*auth),
            ReplicaEvent::InvalidateUser(user) => admissions.invalidate_user_here(*user),
            ReplicaEvent::Lost => admissions.clear_here(),
            ReplicaEvent::InvalidateNumber(..)
            | ReplicaEvent::InvalidateNumbers(_)
            | ReplicaEvent::Replaced(..)
            | ReplicaEvent::ReplacedMany(..) => {}
        }
    }
}
