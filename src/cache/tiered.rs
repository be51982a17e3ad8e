//! Memory, then Redis, behind one interface: look-ups, stores, invalidation.
//!
//! A failure of Redis is a miss, never an error: the next tier answers. Invalidation is the
//! exception.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::counts::TierCounters;
use super::invalidations::Invalidations;
use super::layout::NumberAnswers;
use super::load_ticket::{Fetched, ReadMark};
use super::log::InvalidationLog;
use super::memory::{MemoryCache, MemoryEntry};
use super::redis::{CHUNK, RedisTier};
use super::replaced::Outbox;
use super::token_cache::UserTokenCache;
use crate::clock::{self, Clock};
use crate::domain::{
    AgePolicy, ContactKey, Entry, Freshness, QuestionKey, Source, Timestamp, UserTag, judge,
};
use crate::metrics::Metrics;
use crate::redis_link::{KeyNames, RedisTime};

mod inspect;
mod invalidate;
mod load;

pub(crate) use inspect::TierAnswer;

/// The pause between two sweeps of the memory tier, unless one is due earlier.
const SWEEP: Duration = Duration::from_secs(30);

/// A stored answer that may be served.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The answer.
    pub entry: Entry,
    /// Never `Expired`.
    pub(crate) freshness: Freshness,
    /// When the CRM was asked.
    pub(crate) asked: Timestamp,
    /// Time since the CRM was asked.
    pub(crate) age: Duration,
    /// The tier in which it was found.
    pub source: Source,
}

/// Both tiers. Clones are cheap and share everything.
#[derive(Debug, Clone)]
pub struct TieredCache {
    memory: MemoryCache,
    shared: Option<SharedParts>,
    names: KeyNames,
    invalidations: Arc<Invalidations>,
    sweep_due: Arc<Notify>,
    clock: Arc<dyn Clock>,
    memory_counters: TierCounters,
    redis_counters: TierCounters,
}

/// What replicas share.
#[derive(Debug)]
pub struct SharedTier {
    /// Stored answers.
    pub redis: RedisTier,
    /// Reports invalidations to other replicas.
    pub log: InvalidationLog,
    /// Redis' time.
    pub time: RedisTime,
    /// The tasks that publish.
    pub tasks: TaskTracker,
}

#[derive(Debug, Clone)]
struct SharedParts {
    redis: RedisTier,
    log: InvalidationLog,
    time: RedisTime,
    tokens: Arc<UserTokenCache>,
    replaced: Outbox,
}

impl SharedParts {
    fn new(
        SharedTier {
            redis,
            log,
            time,
            tasks,
        }: SharedTier,
    ) -> Self {
        let replaced = Outbox::new(log.clone(), tasks);
        Self {
            redis,
            log,
            time,
            tokens: Arc::default(),
            replaced,
        }
    }
}

impl TieredCache {
    /// The tiers over `memory` and, if there is one, Redis.
    #[must_use]
    pub fn new(
        memory: MemoryCache,
        shared: Option<SharedTier>,
        names: KeyNames,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        let (memory_counters, redis_counters) = (
            TierCounters::new(metrics, "memory"),
            TierCounters::new(metrics, "redis"),
        );
        Self {
            memory,
            shared: shared.map(SharedParts::new),
            names,
            invalidations: Arc::default(),
            sweep_due: Arc::default(),
            clock,
            memory_counters,
            redis_counters,
        }
    }

    /// The answer in memory, if it may be served. Does not use the network.
    #[must_use]
    pub(crate) fn hit(&self, key: &ContactKey) -> Option<Stored> {
        let stored = self.in_memory(key)?;
        self.memory_counters.count(Some(stored.freshness));
        Some(stored)
    }

    /// As [`TieredCache::hit`], but only for fresh answers. Others are not counted.
    #[must_use]
    pub(crate) fn fresh_hit(&self, key: &ContactKey) -> Option<Stored> {
        let stored = self.in_memory(key)?;
        let fresh = stored.freshness == Freshness::Fresh;
        fresh.then(|| {
            self.memory_counters.count(Some(Freshness::Fresh));
            stored
        })
    }

    /// As [`TieredCache::hit`], without counting.
    #[must_use]
    pub fn in_memory(&self, key: &ContactKey) -> Option<Stored> {
        let MemoryEntry {
            entry,
            asked,
            watermark,
        } = self.memory.get(&key.slot())?;
        let current = self.invalidations.is_current(watermark, key.user(), || {
            self.names.party(key.user(), key.party())
        });
        if !current {
            self.memory.drop_invalid(&key.slot(), watermark);
            return None;
        }
        self.servable(entry, asked, Source::Memory)
    }

    /// Reads what Redis has for a number, for all identities; empty without Redis.
    pub(crate) async fn fetch(&self, question: &QuestionKey) -> Fetched {
        let Some(shared) = &self.shared else {
            return Fetched::default();
        };
        let (mark, user) = (self.mark(), question.user());
        let Some(data) = shared.time.data() else {
            return Fetched { held: None, mark };
        };
        let (party, known) = (
            question.party(),
            shared.tokens.get(user, &self.invalidations),
        );
        let Ok(held) = shared.redis.get(user, party, known, data).await else {
            self.redis_counters.error.inc();
            return Fetched { held: None, mark };
        };
        if known != held.user_token {
            shared.tokens.put(user, held.user_token, mark.watermark);
        }
        Fetched {
            held: Some(held),
            mark,
        }
    }

    /// The best stored answer for an identity: a servable one from memory, otherwise from what was
    /// fetched. The latter is then kept in memory too.
    #[must_use]
    pub(crate) fn pick(&self, fetched: &Fetched, key: &ContactKey) -> Option<Stored> {
        let in_memory = self.in_memory(key);
        self.memory_counters
            .count(in_memory.as_ref().map(|stored| stored.freshness));
        if in_memory.is_some() {
            return in_memory;
        }
        let held = fetched.held.as_ref()?;
        let stored = self.promote(key, fetched.mark, self.entry(held, key));
        self.redis_counters
            .count(stored.as_ref().map(|stored| stored.freshness));
        stored
    }

    /// Counts a miss of a look-up that does not know yet whose answer it needs.
    pub(crate) fn missed(&self, fetched: &Fetched) {
        self.memory_counters.count(None);
        if fetched.held.is_some() {
            self.redis_counters.count(None);
        }
    }

    /// The best stored answer: a servable one from memory, otherwise from Redis.
    pub async fn lookup(&self, question: &QuestionKey, key: &ContactKey) -> Option<Stored> {
        match self.hit(key) {
            Some(stored) => Some(stored),
            None => self.pick(&self.fetch(question).await, key),
        }
    }

    /// The servable answer to each question of one user, if one is stored. Takes one round trip for
    /// each 500 that are not in memory.
    pub(crate) async fn lookup_many(
        &self,
        user: UserTag,
        keys: &[ContactKey],
    ) -> Vec<Option<Stored>> {
        let mut found: Vec<Option<Stored>> = keys.iter().map(|key| self.in_memory(key)).collect();
        let Some(shared) = &self.shared else {
            return found;
        };
        let missing: Vec<usize> = (0..keys.len()).filter(|&n| found[n].is_none()).collect();
        for missing in missing.chunks(CHUNK) {
            let wanted: Vec<ContactKey> = missing.iter().map(|&n| keys[n]).collect();
            // What was read so far is good. For the rest each load checks once more before it asks
            // the CRM.
            let Some(read) = self.read_many(shared, user, &wanted).await else {
                break;
            };
            for (&n, stored) in missing.iter().zip(read) {
                found[n] = stored;
            }
        }
        found
    }

    /// The servable answers in Redis to at most [`CHUNK`] questions; `None` if Redis fails.
    async fn read_many(
        &self,
        SharedParts { redis, time, .. }: &SharedParts,
        user: UserTag,
        keys: &[ContactKey],
    ) -> Option<Vec<Option<Stored>>> {
        let mark = self.mark();
        let data = time.data()?;
        let Ok(read) = redis.get_many(user, keys, data).await else {
            self.redis_counters.error.inc();
            return None;
        };
        let is_current = time.data() == Some(data);
        let promoted = keys.iter().zip(read).map(|(key, entry)| {
            let stored = self.promote(key, mark, entry.filter(|_| is_current));
            let freshness = stored.as_ref().map(|stored| stored.freshness);
            self.redis_counters.count(freshness);
            stored
        });
        Some(promoted.collect())
    }

    /// Applies other ages, also to what is stored in memory. An answer in Redis is judged by them
    /// when it is read. It still expires no later than at the end with which it was stored.
    pub(crate) fn set_ages(&self, ages: AgePolicy) {
        self.memory.ages().set(ages);
    }

    /// Frees the memory of answers that may no longer be served. Never returns. Sweeps at once if a
    /// user's answers were invalidated, otherwise from time to time. Readers do not depend on it.
    pub(crate) async fn sweep(self) {
        loop {
            let _ = clock::timeout(SWEEP, self.sweep_due.notified()).await;
            self.sweep_once().await;
        }
    }

    /// One sweep, with its pauses.
    pub async fn sweep_once(&self) {
        let is_current = |user, watermark| self.invalidations.is_user_current(watermark, user);
        self.memory.sweep(is_current).await;
    }

    /// The last invalidation that concerns this question.
    #[must_use]
    pub(crate) fn invalidated_at(&self, question: &QuestionKey) -> u64 {
        self.invalidations.last_for(question.user(), || {
            self.names.party(question.user(), question.party())
        })
    }

    /// Entries and bytes of the memory tier.
    #[must_use]
    pub fn memory_size(&self) -> (u64, u64) {
        self.memory.size()
    }

    fn mark(&self) -> ReadMark {
        ReadMark {
            watermark: self.invalidations.watermark(),
            replacements: self.memory.replacements(),
        }
    }

    fn entry(&self, held: &NumberAnswers, key: &ContactKey) -> Option<Entry> {
        let SharedParts { redis, time, .. } = self.shared.as_ref()?;
        let entry = redis.entry(held, key)?;
        (time.data() == Some(held.data)).then_some(entry)
    }

    fn promote(&self, key: &ContactKey, mark: ReadMark, entry: Option<Entry>) -> Option<Stored> {
        let entry = entry?;
        let asked = self.shared.as_ref()?.time.here(entry.asked_at())?;
        let stored = self.servable(entry.clone(), asked, Source::Redis)?;
        let kept = MemoryEntry {
            entry,
            asked,
            watermark: mark.watermark,
        };
        self.memory.store_read(key.slot(), kept, mark.replacements);
        Some(stored)
    }

    /// How fresh an answer of this age is, stored or not.
    #[must_use]
    pub(crate) fn judge(&self, entry: &Entry, age: Duration) -> Freshness {
        judge(entry, age, &self.memory.ages().get())
    }

    fn servable(&self, entry: Entry, asked: Timestamp, source: Source) -> Option<Stored> {
        let age = self.clock.now().since(asked);
        let freshness = self.judge(&entry, age);
        (freshness != Freshness::Expired).then_some(Stored {
            entry,
            freshness,
            asked,
            age,
            source,
        })
    }
}

#[cfg(test)]
mod tests;
