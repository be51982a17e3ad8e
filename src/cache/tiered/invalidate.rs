//! Invalidation: here, in Redis, and at the other replicas.
//!
//! A confirmed invalidation takes effect at all replicas within a second. If Redis does not confirm
//! it, that is an error and not a miss: contactd must not report "invalidated" while a replica may
//! still serve the answer.

use futures_util::future::try_join_all;
use tokio::task::yield_now;

use super::{SharedParts, TieredCache};
use crate::cache::log::ReplicaEvent;
use crate::domain::{Party, SharedTime, Timestamp, UserTag};
use crate::redis_link::{LinkError, PartyHash};

/// An answer may be older than its time says by up to this many milliseconds: the time of Redis is
/// known to within a round trip. If a new copy is dropped by mistake, it is read from Redis again.
const INEXACT_MS: u64 = 1_000;

/// Numbers invalidated without a pause before other tasks run.
const AT_A_TIME: usize = 256;

/// Numbers of one invalidation that are published one by one. Beyond this, the other replicas
/// invalidate all numbers of the user: the log keeps a limited number of events, and a reader that
/// misses some invalidates everything of everybody.
const SINGLE: usize = 64;

impl TieredCache {
    /// Invalidates all answers about some parties, on all replicas within a second.
    ///
    /// # Errors
    /// If Redis does not confirm it. In this process they are invalid anyway.
    pub async fn invalidate_numbers(
        &self,
        user: UserTag,
        parties: &[Party],
    ) -> Result<(), LinkError> {
        let mut hashes: Vec<PartyHash> = Vec::with_capacity(parties.len());
        for some in parties.chunks(AT_A_TIME) {
            hashes.extend(some.iter().map(|party| self.names.party(user, *party)));
            yield_now().await;
        }
        self.invalidate_numbers_here(user, &hashes).await;
        let Some(SharedParts { redis, log, .. }) = &self.shared else {
            return Ok(());
        };
        redis.invalidate_numbers(user, parties).await?;
        // Again, for a look-up that read from Redis before the answers were deleted there.
        self.invalidate_numbers_here(user, &hashes).await;
        if hashes.len() > SINGLE {
            return log.publish(ReplicaEvent::InvalidateNumbers(user)).await;
        }
        let events = hashes
            .iter()
            .map(|hash| log.publish(ReplicaEvent::InvalidateNumber(user, *hash)));
        try_join_all(events).await.map(|_| ())
    }

    /// Invalidates everything stored for a user, on all replicas within a second.
    ///
    /// # Errors
    /// As [`TieredCache::invalidate_numbers`].
    pub async fn invalidate_user(&self, user: UserTag) -> Result<(), LinkError> {
        self.invalidate_user_here(user);
        let Some(SharedParts { redis, log, .. }) = &self.shared else {
            return Ok(());
        };
        redis.invalidate_user(user).await?;
        self.invalidate_user_here(user);
        log.publish(ReplicaEvent::InvalidateUser(user)).await
    }

    /// Waits until Redis answers, if it may do so soon. Returns false if it counts as down, and
    /// without Redis.
    pub(crate) async fn redis_answers(&self) -> bool {
        match &self.shared {
            Some(SharedParts { log, .. }) => log.redis_answers().await,
            None => false,
        }
    }

    /// Publishes an event that concerns the other replicas' memory.
    ///
    /// # Errors
    /// Any error of Redis: the other replicas may not get the event.
    pub(crate) async fn publish(&self, event: ReplicaEvent) -> Result<(), LinkError> {
        match &self.shared {
            Some(SharedParts { log, .. }) => log.publish(event).await,
            None => Ok(()),
        }
    }

    /// Applies an event of another replica.
    pub fn apply(&self, event: &ReplicaEvent) {
        match event {
            ReplicaEvent::InvalidateNumber(user, party) => {
                self.invalidations.invalidate_number(*user, *party);
            }
            ReplicaEvent::InvalidateNumbers(user) | ReplicaEvent::InvalidateUser(user) => {
                self.invalidate_user_here(*user);
            }
            ReplicaEvent::Lost => {
                // It is unknown what is invalid, so everything is.
                self.invalidations.clear();
                self.sweep_due.notify_one();
            }
            ReplicaEvent::Replaced(slot, asked) => {
                self.memory.drop_older(slot, self.replaced_before(*asked));
            }
            ReplicaEvent::ReplacedMany(user, asked) => {
                let (asked, known) = (self.replaced_before(*asked), self.invalidations.divide());
                self.memory.drop_older_of(*user, asked, known);
                self.sweep_due.notify_one();
            }
            ReplicaEvent::Revoke(..) => {}
        }
    }

    /// Copies of answers that were loaded before this moment may be older than one in Redis that
    /// was loaded at `asked`.
    pub(super) fn replaced_before(&self, asked: SharedTime) -> Timestamp {
        let here = self
            .shared
            .as_ref()
            .and_then(|shared| shared.time.here(asked));
        let Timestamp(here) = here.unwrap_or_else(|| self.clock.now());
        Timestamp(here + INEXACT_MS)
    }

    async fn invalidate_numbers_here(&self, user: UserTag, hashes: &[PartyHash]) {
        for some in hashes.chunks(AT_A_TIME) {
            for hash in some {
                self.invalidations.invalidate_number(user, *hash);
            }
            yield_now().await;
        }
    }

    fn invalidate_user_here(&self, user: UserTag) {
        self.invalidations.invalidate_user(user);
        self.sweep_due.notify_one();
    }
}
