//! Memory, then Redis: one look-up, one store, one way to forget.
//!
//! Redis trouble is a miss, never an error: the tier below answers. Forgetting is the exception, because "forgotten"
//! must not be said while a replica may still serve it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{TryStreamExt as _, stream};
use prometheus_client::metrics::counter::Counter;

use super::generation::{Generations, Stamp};
use super::log::{Event, Log};
use super::memory::{Kept, MemoryCache};
use super::redis::{CHUNK, Epoch, Read, RedisTier};
use super::seen::SeenGenerations;
use crate::clock::Clock;
use crate::domain::{AgePolicy, ContactKey, Entry, Freshness, Party, Source, UserTag, judge};
use crate::link::{LinkError, Names, PartyHash};
use crate::metrics::{CacheLabels, Metrics};

/// Invalidations on their way to the log at once.
const TELL_AT_ONCE: usize = 64;

/// A stored answer that may be served.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The answer.
    pub entry: Arc<Entry>,
    /// Never `Expired`.
    pub freshness: Freshness,
    /// Time since the CRM was asked.
    pub age: Duration,
    /// Where it was found.
    pub source: Source,
}

/// What a load holds from its begin to its end: proof that nothing was forgotten in between.
#[derive(Debug)]
pub struct Ticket {
    stamp: Stamp,
    epoch: Option<Epoch>,
}

/// Both tiers. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct TieredCache {
    memory: MemoryCache,
    shared: Option<Shared>,
    names: Names,
    generations: Arc<Generations>,
    ages: AgePolicy,
    clock: Arc<dyn Clock>,
    memory_counts: Counts,
    redis_counts: Counts,
}

/// What there is where there is Redis.
#[derive(Debug, Clone)]
struct Shared {
    redis: RedisTier,
    log: Log,
    seen: Arc<SeenGenerations>,
}

/// Metric handles of one tier.
#[derive(Debug, Clone)]
struct Counts {
    hit: Counter,
    stale: Counter,
    miss: Counter,
    error: Counter,
}

impl Counts {
    fn new(metrics: &Metrics, tier: &'static str) -> Self {
        let counter = |result| metrics.cache_requests.get_or_create(&CacheLabels { tier, result }).clone();
        Self { hit: counter("hit"), stale: counter("stale"), miss: counter("miss"), error: counter("error") }
    }

    fn count(&self, stored: Option<Freshness>) {
        match stored {
            Some(Freshness::Fresh) => self.hit.inc(),
            Some(Freshness::Stale) => self.stale.inc(),
            _ => self.miss.inc(),
        };
    }
}

impl TieredCache {
    /// The tiers over `memory` and, if there is one, Redis with the log that tells other replicas.
    #[must_use]
    pub fn new(
        memory: MemoryCache,
        redis: Option<(RedisTier, Log)>,
        names: Names,
        ages: AgePolicy,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        let (memory_counts, redis_counts) = (Counts::new(metrics, "memory"), Counts::new(metrics, "redis"));
        let shared = redis.map(|(redis, log)| Shared { redis, log, seen: Arc::default() });
        Self { memory, shared, names, generations: Arc::default(), ages, clock, memory_counts, redis_counts }
    }

    /// The best stored answer: a servable one from memory, else from Redis, which is then kept in memory too.
    pub async fn lookup(&self, key: &ContactKey) -> Option<Stored> {
        let in_memory = self.in_memory(key);
        self.memory_counts.count(in_memory.as_ref().map(|stored| stored.freshness));
        match (in_memory, &self.shared) {
            (Some(stored), _) => Some(stored),
            (None, None) => None,
            (None, Some(shared)) => self.in_redis(shared, key).await,
        }
    }

    /// The answer in memory, if it may be served. Touches no network and counts nothing.
    #[must_use]
    pub fn in_memory(&self, key: &ContactKey) -> Option<Stored> {
        let Kept { entry, stamp } = self.memory.get(key)?;
        let current = self.generations.is_current(stamp, key.user(), || self.names.party(key.user(), key.party()));
        current.then(|| self.servable(entry, Source::Memory))?
    }

    async fn in_redis(&self, shared: &Shared, key: &ContactKey) -> Option<Stored> {
        let stamp = self.generations.stamp();
        let known = shared.seen.get(key.user(), &self.generations);
        let Ok(Read { entry, generation }) = shared.redis.get(key, known).await else {
            self.redis_counts.error.inc();
            return None;
        };
        if known != generation {
            shared.seen.put(key.user(), generation, stamp);
        }
        let stored = self.promote(key, stamp, entry);
        self.redis_counts.count(stored.as_ref().map(|stored| stored.freshness));
        stored
    }

    /// The servable answer to each question of one user, where one is stored: one round trip for each 500 that memory
    /// does not hold.
    pub async fn lookup_many(&self, user: UserTag, keys: &[ContactKey]) -> Vec<Option<Stored>> {
        let mut found: Vec<Option<Stored>> = keys.iter().map(|key| self.in_memory(key)).collect();
        let Some(Shared { redis, .. }) = &self.shared else { return found };
        let missing: Vec<usize> = (0..keys.len()).filter(|&n| found[n].is_none()).collect();
        for missing in missing.chunks(CHUNK) {
            let wanted: Vec<ContactKey> = missing.iter().map(|&n| keys[n]).collect();
            let stamp = self.generations.stamp();
            let Ok(read) = redis.get_many(user, &wanted).await else {
                // What was read is good. For the rest each load looks once more before it asks the CRM.
                self.redis_counts.error.inc();
                break;
            };
            for (&n, entry) in missing.iter().zip(read) {
                found[n] = self.promote(&keys[n], stamp, entry);
                self.redis_counts.count(found[n].as_ref().map(|stored| stored.freshness));
            }
        }
        found
    }

    /// Begins a load: what Redis holds by now, and the ticket for [`TieredCache::store`].
    pub async fn begin(&self, key: &ContactKey) -> (Option<Stored>, Ticket) {
        let stamp = self.generations.stamp();
        let Some(Shared { redis, .. }) = &self.shared else { return (None, Ticket { stamp, epoch: None }) };
        let Ok(begun) = redis.begin(key).await else {
            self.redis_counts.error.inc();
            return (None, Ticket { stamp, epoch: None });
        };
        (self.promote(key, stamp, begun.entry), Ticket { stamp, epoch: Some(begun.epoch) })
    }

    /// Ends a load: keeps its answer in both tiers, unless it was forgotten since the load began or a later one is
    /// there.
    pub async fn store(&self, key: &ContactKey, ticket: &Ticket, entry: &Arc<Entry>) {
        self.memory.store(*key, Kept { entry: Arc::clone(entry), stamp: ticket.stamp });
        let (Some(Shared { redis, .. }), Some(epoch)) = (&self.shared, &ticket.epoch) else { return };
        let life = self.ages.ages(entry).stale;
        if redis.store(key, epoch, entry, life).await.is_err() {
            self.redis_counts.error.inc();
        }
    }

    /// Forgets all answers about some parties, on all replicas within a second.
    ///
    /// # Errors
    /// Where Redis could not be told. This process has forgotten all the same.
    pub async fn forget_numbers(&self, user: UserTag, parties: &[Party]) -> Result<(), LinkError> {
        let hashes: Vec<PartyHash> = parties.iter().map(|party| self.names.party(user, *party)).collect();
        let forget_here = || hashes.iter().for_each(|hash| self.generations.forget_number(user, *hash));
        forget_here();
        let Some(Shared { redis, log, .. }) = &self.shared else { return Ok(()) };
        redis.forget_numbers(user, parties).await?;
        // Once more, for a look-up that took from Redis in between what was about to be deleted there.
        forget_here();
        let told = hashes.iter().map(|hash| Ok(Event::ForgetNumber(user, *hash)));
        stream::iter(told).try_for_each_concurrent(TELL_AT_ONCE, |event| log.publish(event)).await
    }

    /// Forgets all that is stored for a user, on all replicas within a second.
    ///
    /// # Errors
    /// As [`TieredCache::forget_numbers`].
    pub async fn forget_user(&self, user: UserTag) -> Result<(), LinkError> {
        self.forget_user_here(user);
        let Some(Shared { redis, log, .. }) = &self.shared else { return Ok(()) };
        redis.forget_user(user).await?;
        self.forget_user_here(user);
        log.publish(Event::ForgetUser(user)).await
    }

    /// Tells the other replicas something that concerns their memory. A credential that is not revoked elsewhere at
    /// once is when it is used next, so failing is no harm.
    pub async fn tell(&self, event: Event) {
        if let Some(Shared { log, .. }) = &self.shared {
            let _ = log.publish(event).await;
        }
    }

    /// Does what another replica was asked to forget.
    pub fn hear(&self, event: &Event) {
        match event {
            Event::ForgetNumber(user, party) => self.generations.forget_number(*user, *party),
            Event::ForgetUser(user) => self.forget_user_here(*user),
            Event::Lost => {
                // Nobody knows what should be gone, so everything is.
                self.generations.clear();
                self.memory.clear();
            }
            Event::Revoke(..) => {}
        }
    }

    fn forget_user_here(&self, user: UserTag) {
        self.generations.forget_user(user);
        self.memory.drop_user(user);
    }

    /// Which invalidation was the last to concern this question.
    #[must_use]
    pub fn forgotten_at(&self, key: &ContactKey) -> u64 {
        self.generations.last_for(key.user(), || self.names.party(key.user(), key.party()))
    }

    /// Entries and bytes of the memory tier.
    #[must_use]
    pub fn memory_size(&self) -> (u64, u64) {
        self.memory.size()
    }

    fn promote(&self, key: &ContactKey, stamp: Stamp, entry: Option<Entry>) -> Option<Stored> {
        let entry = Arc::new(entry?);
        let stored = self.servable(Arc::clone(&entry), Source::Redis)?;
        self.memory.store(*key, Kept { entry, stamp });
        Some(stored)
    }

    fn servable(&self, entry: Arc<Entry>, source: Source) -> Option<Stored> {
        let now = self.clock.now();
        let freshness = judge(&entry, now, &self.ages);
        let age = now.since(entry.asked_at());
        (freshness != Freshness::Expired).then_some(Stored { entry, freshness, age, source })
    }
}
