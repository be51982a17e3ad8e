//! Memory, then Redis: one look-up, one store, one way to forget.
//!
//! Redis trouble is a miss, never an error: the tier below answers. Forgetting is the exception,
//! because "forgotten" must not be said while a replica may still serve it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::task::yield_now;
use tokio_util::task::TaskTracker;

use super::counts::TierCounters;
use super::invalidations::Invalidations;
use super::load_ticket::{Fetched, LoadTicket, ReadMark, RedisTicket};
use super::log::{Event, InvalidationLog};
use super::memory::{MemoryCache, MemoryEntry};
use super::redis::{CHUNK, NumberAnswers, RedisTier, StoreOutcome};
use super::replaced::Outbox;
use super::token_cache::UserTokenCache;
use crate::clock::Clock;
use crate::domain::{
    AgePolicy, ContactKey, Entry, Freshness, Party, QuestionKey, SharedTime, Source, Timestamp,
    UserTag, judge,
};
use crate::metrics::Metrics;
use crate::redis_link::{KeyNames, LinkError, PartyHash, RedisTime};

/// How much older than it seems an answer may be, in milliseconds: Redis' time is known as exactly
/// as round trips are short. A copy that is dropped though it was new is read from Redis again.
const INEXACT_MS: u64 = 1_000;

/// Numbers forgotten in one go before others have their turn.
const AT_A_TIME: usize = 256;

/// Numbers of one invalidation told one by one. Beyond it the other replicas forget all numbers of
/// the user: the log keeps so many events, and a reader that misses some forgets everything of
/// everybody.
const SINGLE: usize = 64;

/// A stored answer that may be served.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The answer.
    pub entry: Arc<Entry>,
    /// Never `Expired`.
    pub(crate) freshness: Freshness,
    /// When the CRM was asked.
    pub(crate) asked: Timestamp,
    /// Time since the CRM was asked.
    pub(crate) age: Duration,
    /// Where it was found.
    pub source: Source,
}

/// Both tiers. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct TieredCache {
    memory: MemoryCache,
    shared: Option<SharedParts>,
    names: KeyNames,
    invalidations: Arc<Invalidations>,
    /// How often another replica has told of replaced answers.
    replacements: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    memory_counters: TierCounters,
    redis_counters: TierCounters,
}

/// What replicas share.
#[derive(Debug)]
pub struct SharedTier {
    /// Stored answers.
    pub redis: RedisTier,
    /// What tells other replicas.
    pub log: InvalidationLog,
    /// Redis' time.
    pub time: RedisTime,
    /// What tells them belongs to these.
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
        let (shared, invalidations, replacements) =
            (shared.map(SharedParts::new), Arc::default(), Arc::default());
        Self {
            memory,
            shared,
            names,
            invalidations,
            replacements,
            clock,
            memory_counters,
            redis_counters,
        }
    }

    /// The answer in memory, if it may be served. Touches no network.
    #[must_use]
    pub(crate) fn hit(&self, key: &ContactKey) -> Option<Stored> {
        let stored = self.in_memory(key)?;
        self.memory_counters.count(Some(stored.freshness));
        Some(stored)
    }

    /// As [`TieredCache::hit`], and counts nothing.
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
        current.then(|| self.servable(entry, asked, Source::Memory))?
    }

    /// Reads what Redis holds of a number, for whichever identity; nothing without Redis.
    pub(crate) async fn fetch(&self, question: &QuestionKey) -> Fetched {
        let Some(shared) = &self.shared else {
            return Fetched::default();
        };
        let (mark, user) = (self.mark(), question.user());
        let known = shared.tokens.get(user, &self.invalidations);
        let Ok(held) = shared.redis.get(user, question.party(), known).await else {
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

    /// The best stored answer for an identity: a servable one from memory, else from what was
    /// fetched, which is then kept in memory too.
    #[must_use]
    pub(crate) fn pick(&self, fetched: &Fetched, key: &ContactKey) -> Option<Stored> {
        let in_memory = self.in_memory(key);
        self.memory_counters
            .count(in_memory.as_ref().map(|stored| stored.freshness));
        let Some(held) = fetched.held.as_ref().filter(|_| in_memory.is_none()) else {
            return in_memory;
        };
        let stored = self.promote(key, fetched.mark, self.entry(held, key));
        self.redis_counters
            .count(stored.as_ref().map(|stored| stored.freshness));
        stored
    }

    /// Counts that nothing was found: nobody knows yet whose answer is wanted.
    pub(crate) fn missed(&self, fetched: &Fetched) {
        self.memory_counters.count(None);
        if fetched.held.is_some() {
            self.redis_counters.count(None);
        }
    }

    /// The best stored answer: a servable one from memory, else from Redis.
    pub async fn lookup(&self, question: &QuestionKey, key: &ContactKey) -> Option<Stored> {
        match self.hit(key) {
            Some(stored) => Some(stored),
            None => self.pick(&self.fetch(question).await, key),
        }
    }

    /// The servable answer to each question of one user, where one is stored: one round trip for
    /// each 500 that memory does not hold.
    pub(crate) async fn lookup_many(
        &self,
        user: UserTag,
        keys: &[ContactKey],
    ) -> Vec<Option<Stored>> {
        let mut found: Vec<Option<Stored>> = keys.iter().map(|key| self.in_memory(key)).collect();
        let Some(SharedParts { redis, .. }) = &self.shared else {
            return found;
        };
        let missing: Vec<usize> = (0..keys.len()).filter(|&n| found[n].is_none()).collect();
        for missing in missing.chunks(CHUNK) {
            let wanted: Vec<ContactKey> = missing.iter().map(|&n| keys[n]).collect();
            let mark = self.mark();
            let Ok(read) = redis.get_many(user, &wanted).await else {
                // What was read is good. For the rest each load looks once more before it asks the
                // CRM.
                self.redis_counters.error.inc();
                break;
            };
            for (&n, entry) in missing.iter().zip(read) {
                found[n] = self.promote(&keys[n], mark, entry);
                self.redis_counters
                    .count(found[n].as_ref().map(|stored| stored.freshness));
            }
        }
        found
    }

    /// Begins a load: the ticket for [`TieredCache::store`], with what is stored by now.
    pub async fn begin(&self, question: &QuestionKey) -> LoadTicket {
        let (mark, asked) = (self.mark(), self.clock.now());
        let ticket = |shared, held| LoadTicket {
            watermark: mark.watermark,
            asked,
            shared,
            before: Fetched { held, mark },
        };
        let Some(SharedParts { redis, time, .. }) = &self.shared else {
            return ticket(None, None);
        };
        let Ok(begun) = redis.begin(question.user(), question.party()).await else {
            self.redis_counters.error.inc();
            return ticket(None, None);
        };
        let asked = time.apply(begun.now);
        ticket(
            Some(RedisTicket {
                number_token: begun.number_token,
                asked,
            }),
            Some(begun.held),
        )
    }

    /// What was stored when a load began: the latest of both tiers, if it may be served.
    #[must_use]
    pub(crate) fn stored_before(&self, ticket: &LoadTicket, key: &ContactKey) -> Option<Stored> {
        // Memory first, because what is found in Redis is in memory afterwards.
        let in_memory = self.in_memory(key);
        let held = ticket.before.held.as_ref();
        let in_redis =
            held.and_then(|held| self.promote(key, ticket.before.mark, self.entry(held, key)));
        in_redis
            .into_iter()
            .chain(in_memory)
            .max_by_key(|stored| stored.asked)
    }

    /// Ends a load: keeps its answer in both tiers, unless it was invalidated since the load began
    /// or a later one is there. If it replaces another answer, the other replicas drop their copies
    /// of that within a second. A `refresh` that a person asked for is told to them in any case,
    /// unless the answer is the same.
    pub async fn store(
        &self,
        key: &ContactKey,
        ticket: &LoadTicket,
        entry: &Arc<Entry>,
        refresh: bool,
    ) {
        let slot = key.slot();
        let known = self
            .memory
            .get(&slot)
            .filter(|kept| kept.asked < ticket.asked);
        self.memory.store(
            slot,
            MemoryEntry {
                entry: Arc::clone(entry),
                asked: ticket.asked,
                watermark: ticket.watermark,
            },
        );
        let (Some(shared), Some(begun)) = (&self.shared, &ticket.shared) else {
            return;
        };
        let (life, now) = (
            self.memory.ages().get().ages(entry).stale,
            shared.time.now().unwrap_or(begun.asked),
        );
        let Ok(outcome) = shared
            .redis
            .store(key, &begun.number_token, entry, life, now)
            .await
        else {
            self.redis_counters.error.inc();
            return;
        };
        match outcome {
            StoreOutcome::Invalidated => {}
            // Another replica knows better: what it stored is read from Redis.
            StoreOutcome::Superseded => {
                self.memory.drop_older(&slot, Timestamp(ticket.asked.0 + 1))
            }
            StoreOutcome::Stored(replaced) => {
                let earlier = ticket
                    .before
                    .held
                    .as_ref()
                    .and_then(|held| self.entry(held, key));
                let is_same = |earlier: &Entry| earlier.encoded() == entry.encoded();
                let told = match (&earlier, replaced) {
                    // Stored by another load since this one began.
                    (_, Some(at))
                        if earlier
                            .as_ref()
                            .is_none_or(|earlier| earlier.asked_at() != at) =>
                    {
                        true
                    }
                    (Some(earlier), _) => !is_same(earlier),
                    (None, _) => refresh || known.is_some_and(|known| !is_same(&known.entry)),
                };
                if told {
                    shared.replaced.push(slot, begun.asked);
                }
            }
        }
    }

    /// Forgets all answers about some parties, on all replicas within a second.
    ///
    /// # Errors
    /// Where Redis could not be told. This process has forgotten all the same.
    pub(crate) async fn invalidate_numbers(
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
        // Once more, for a look-up that took from Redis in between what was about to be deleted
        // there.
        self.invalidate_numbers_here(user, &hashes).await;
        if hashes.len() > SINGLE {
            return log.publish(Event::InvalidateNumbers(user)).await;
        }
        let told = hashes
            .iter()
            .map(|hash| log.publish(Event::InvalidateNumber(user, *hash)));
        try_join_all(told).await.map(|_| ())
    }

    /// Forgets all that is stored for a user, on all replicas within a second.
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
        log.publish(Event::InvalidateUser(user)).await
    }

    /// Publishes something that concerns the other replicas' memory.
    ///
    /// # Errors
    /// Of Redis: the others may not have heard of it.
    pub(crate) async fn publish(&self, event: Event) -> Result<(), LinkError> {
        match &self.shared {
            Some(SharedParts { log, .. }) => log.publish(event).await,
            None => Ok(()),
        }
    }

    /// Does what another replica was asked to forget.
    pub fn apply(&self, event: &Event) {
        match event {
            Event::InvalidateNumber(user, party) => {
                self.invalidations.invalidate_number(*user, *party)
            }
            Event::InvalidateNumbers(user) | Event::InvalidateUser(user) => {
                self.invalidate_user_here(*user)
            }
            Event::Lost => {
                // Nobody knows what should be gone, so everything is.
                self.invalidations.clear();
                self.memory.clear();
            }
            Event::Replaced(slot, asked) => {
                self.replaced(*asked, |asked| self.memory.drop_older(slot, asked))
            }
            Event::ReplacedMany(user, asked) => {
                self.replaced(*asked, |asked| self.memory.drop_older_of(*user, asked))
            }
            Event::Revoke(..) => {}
        }
    }

    /// Drops copies that are older than an answer of another replica. A look-up that has read such
    /// a copy and not kept it yet sees by the count that it must not.
    fn replaced(&self, asked: SharedTime, drop_older: impl FnOnce(Timestamp)) {
        self.replacements.fetch_add(1, Ordering::AcqRel);
        let here = self
            .shared
            .as_ref()
            .and_then(|shared| shared.time.here(asked));
        let Timestamp(here) = here.unwrap_or_else(|| self.clock.now());
        drop_older(Timestamp(here + INEXACT_MS));
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
        self.memory.drop_user(user);
    }

    /// Other ages hold from now on, for what is stored in memory as well. What is in Redis is
    /// judged by them when it is read, but goes at the latest at the end that it was stored with.
    /// May take some tenths of a second.
    pub(crate) fn set_ages(&self, ages: AgePolicy) {
        self.memory.set_ages(ages);
    }

    /// Which invalidation was the last to concern this question.
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
            replacements: self.replacements.load(Ordering::Acquire),
        }
    }

    fn entry(&self, held: &NumberAnswers, key: &ContactKey) -> Option<Entry> {
        self.shared.as_ref()?.redis.entry(held, key)
    }

    fn promote(&self, key: &ContactKey, mark: ReadMark, entry: Option<Entry>) -> Option<Stored> {
        let entry = Arc::new(entry?);
        let asked = self.shared.as_ref()?.time.here(entry.asked_at())?;
        let stored = self.servable(Arc::clone(&entry), asked, Source::Redis)?;
        let kept = MemoryEntry {
            entry,
            asked,
            watermark: mark.watermark,
        };
        self.memory.store_if(key.slot(), kept, || {
            self.replacements.load(Ordering::Acquire) == mark.replacements
        });
        Some(stored)
    }

    fn servable(&self, entry: Arc<Entry>, asked: Timestamp, source: Source) -> Option<Stored> {
        let age = self.clock.now().since(asked);
        let freshness = judge(&entry, age, &self.memory.ages().get());
        (freshness != Freshness::Expired).then_some(Stored {
            entry,
            freshness,
            asked,
            age,
            source,
        })
    }
}
