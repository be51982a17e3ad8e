//! The memory tier: moka, bounded in bytes.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard, RwLock};

use super::invalidations::Watermark;
use crate::clock::Clock;
use crate::domain::{AgePolicy, Entry, SlotKey, Timestamp, UserTag};

/// The memory of an entry besides its encoded bytes: key, `Arc`, moka's bookkeeping. Measured as
/// resident memory per entry minus its payload, including the allocator's rounding
/// (tests/bench/memory.rs).
const OVERHEAD: usize = 530;

/// How long answers live, by the current settings. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct CurrentAges(Arc<RwLock<AgePolicy>>);

impl CurrentAges {
    /// Uses `ages` until others are set.
    fn new(ages: AgePolicy) -> Self {
        Self(Arc::new(RwLock::new(ages)))
    }

    pub(super) fn get(&self) -> AgePolicy {
        *self.0.read()
    }

    /// Returns true if the ages differ.
    fn set(&self, ages: AgePolicy) -> bool {
        let mut in_force = self.0.write();
        std::mem::replace(&mut *in_force, ages) != ages
    }
}

/// Settings of the memory tier.
#[derive(Debug, Clone, Copy)]
pub struct MemoryConfig {
    /// Most bytes to hold, including bookkeeping.
    pub bytes: u64,
}

/// Answers in this process, the least recently used dropped first.
///
/// Not TinyLFU, moka's default: it refuses new keys if the cache is full of popular ones, and a
/// warm-up consists of new keys.
#[derive(Clone)]
pub struct MemoryCache {
    entries: Cache<SlotKey, MemoryEntry, foldhash::fast::RandomState>,
    writers: Arc<KeyLocks>,
    ages: CurrentAges,
}

/// Locks by key, for writers. Moka's own `and_compute_with` would take three times as long, and
/// every hit in Redis is stored here.
#[derive(Default)]
struct KeyLocks {
    locks: [Mutex<()>; 32],
    hasher: foldhash::fast::RandomState,
}

impl KeyLocks {
    fn lock(&self, key: &SlotKey) -> MutexGuard<'_, ()> {
        let [index, ..] = self.hasher.hash_one(key).to_le_bytes();
        self.locks[usize::from(index) % self.locks.len()].lock()
    }

    /// Always in the same order, and nobody waits for a lock while holding another.
    fn lock_all(&self) -> Vec<MutexGuard<'_, ()>> {
        self.locks.iter().map(Mutex::lock).collect()
    }
}

/// An answer and when its load began, by the clock and as a watermark of invalidations.
#[derive(Debug, Clone)]
pub(super) struct MemoryEntry {
    pub(super) entry: Arc<Entry>,
    pub(super) asked: Timestamp,
    pub(super) watermark: Watermark,
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("entries", &self.entries.entry_count())
            .finish_non_exhaustive()
    }
}

/// Lets moka drop what no policy would serve any more, whether it was loaded here or came from
/// Redis midway through its life. This is only garbage collection.
struct EntryExpiry {
    ages: CurrentAges,
    clock: Arc<dyn Clock>,
}

impl EntryExpiry {
    fn left(&self, kept: &MemoryEntry) -> Duration {
        let age = self.clock.now().since(kept.asked);
        self.ages.get().ages(&kept.entry).stale.saturating_sub(age)
    }
}

impl moka::Expiry<SlotKey, MemoryEntry> for EntryExpiry {
    fn expire_after_create(&self, _: &SlotKey, kept: &MemoryEntry, _: Instant) -> Option<Duration> {
        Some(self.left(kept))
    }

    // Otherwise a replaced entry would keep the old one's expiry.
    fn expire_after_update(
        &self,
        _: &SlotKey,
        kept: &MemoryEntry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.left(kept))
    }
}

/// The memory of an answer with that many encoded bytes. The allocator rounds up by at most an
/// eighth.
pub(crate) fn weight(encoded: usize) -> usize {
    encoded + encoded / 8 + OVERHEAD
}

impl MemoryCache {
    /// An empty tier.
    #[must_use]
    pub fn new(config: MemoryConfig, ages: AgePolicy, clock: Arc<dyn Clock>) -> Self {
        let ages = CurrentAges::new(ages);
        let entries = Cache::builder()
            .max_capacity(config.bytes)
            .weigher(|_: &SlotKey, kept: &MemoryEntry| {
                u32::try_from(weight(
                    kept.entry.encoded().len() + kept.entry.extension_bytes(),
                ))
                .unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            .support_invalidation_closures()
            .expire_after(EntryExpiry {
                ages: ages.clone(),
                clock,
            })
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self {
            entries,
            writers: Arc::default(),
            ages,
        }
    }

    /// The stored answer, whatever its age.
    #[must_use]
    pub(super) fn get(&self, key: &SlotKey) -> Option<MemoryEntry> {
        self.entries.get(key)
    }

    /// Stores an answer unless a later one is already there: a slow load that began before a manual
    /// refresh must not undo it.
    pub(super) fn store(&self, key: SlotKey, kept: MemoryEntry) {
        self.store_if(key, kept, || true);
    }

    /// As [`MemoryCache::store`], if `wanted` returns true while it is stored. Nothing drops
    /// answers in between.
    pub(super) fn store_if(&self, key: SlotKey, kept: MemoryEntry, wanted: impl FnOnce() -> bool) {
        let _writing = self.writers.lock(&key);
        let is_later = self.asked(&key).is_some_and(|asked| asked > kept.asked);
        if !is_later && wanted() {
            self.entries.insert(key, kept);
        }
    }

    /// The ages in force.
    pub(super) fn ages(&self) -> &CurrentAges {
        &self.ages
    }

    /// Applies other ages. Moka recalculates the expiry of all entries, which takes a microsecond
    /// or two each. Afterwards all answers count as just used, in no particular order.
    pub(super) fn set_ages(&self, ages: AgePolicy) {
        if !self.ages.set(ages) {
            return;
        }
        for (key, _) in &self.entries {
            let _writing = self.writers.lock(&key);
            if let Some(kept) = self.entries.get(&*key) {
                self.entries.insert(*key, kept);
            }
        }
    }

    /// Drops the answer if it was loaded before `asked`.
    pub(super) fn drop_older(&self, key: &SlotKey, asked: Timestamp) {
        let _writing = self.writers.lock(key);
        if self.asked(key).is_some_and(|stored| stored < asked) {
            self.entries.invalidate(key);
        }
    }

    /// When the CRM was asked for the stored answer.
    fn asked(&self, key: &SlotKey) -> Option<Timestamp> {
        self.entries.get(key).map(|stored| stored.asked)
    }

    /// Drops a user's answers that were loaded before `asked`.
    pub(super) fn drop_older_of(&self, user: UserTag, asked: Timestamp) {
        // Moka drops only what is there at this moment.
        let _writing = self.writers.lock_all();
        // Fails only if the cache was built without support for it.
        let _ = self
            .entries
            .invalidate_entries_if(move |key, kept| key.user() == user && kept.asked < asked);
    }

    /// Drops a user's answers. The watermarks already prevent reading them; this frees the memory.
    pub(super) fn drop_user(&self, user: UserTag) {
        // Fails only if the cache was built without support for it.
        let _ = self
            .entries
            .invalidate_entries_if(move |key, _| key.user() == user);
    }

    /// Drops everything.
    pub(super) fn clear(&self) {
        self.entries.invalidate_all();
    }

    /// Entries and bytes held, once pending evictions are done.
    #[must_use]
    pub(crate) fn size(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::invalidations::Invalidations;
    use crate::clock::SystemClock;
    use crate::domain::{
        Ages, Contact, Crm, E164, Identity, KeyMaker, MatchQuality, Party, SharedTime, User,
    };

    fn ages() -> AgePolicy {
        let ages = Ages {
            fresh: Duration::from_secs(60),
            stale: Duration::from_secs(600),
        };
        AgePolicy {
            found: ages,
            absent: ages,
        }
    }

    fn cache(bytes: u64) -> MemoryCache {
        MemoryCache::new(
            MemoryConfig { bytes },
            ages(),
            Arc::new(SystemClock::start()),
        )
    }

    fn key(n: u32) -> (SlotKey, Party) {
        let party = Party::Number(E164::parse(&format!("+1650{}", 2_000_000 + n), None).unwrap());
        let user = User {
            id: "u".to_owned(),
            account: String::new(),
            host: None,
            region: None,
            settings: crate::domain::user::Settings::default(),
            info: crate::domain::user::AdditionalInfo::default(),
        };
        let crm = Crm {
            connector: "example",
            base_url: "",
            regions: &[],
            settings: &[],
            info: &[],
        };
        let question = KeyMaker::new([1; 16])
            .prefix(&crm, &user, &[])
            .question(party);
        (question.of(&Identity::Caller).slot(), party)
    }

    fn contact(name: &str) -> Contact {
        Contact {
            id: "1".to_owned(),
            name: name.to_owned(),
            kind: String::new(),
            title: String::new(),
            company: String::new(),
            email: String::new(),
            created: String::new(),
            last_activity: String::new(),
            additional_info: serde_json::Map::new(),
            quality: MatchQuality::Exact,
            kept: Vec::new(),
        }
    }

    fn entry(party: &Party, name: &str) -> Arc<Entry> {
        Arc::new(Entry::new(party, &[contact(name)], true, SharedTime(0)))
    }

    fn kept(entry: &Arc<Entry>, asked: u64) -> MemoryEntry {
        let asked = Timestamp(SystemClock::start().now().0 + asked);
        MemoryEntry {
            entry: Arc::clone(entry),
            asked,
            watermark: Invalidations::default().watermark(),
        }
    }

    #[test]
    fn a_slower_older_load_does_not_replace_a_newer_answer() {
        let (cache, (key, party)) = (cache(1 << 20), key(1));
        let (newer, older) = (entry(&party, "new"), entry(&party, "old"));
        cache.store(key, kept(&newer, 2_000));
        cache.store(key, kept(&older, 1_000));
        assert_eq!(cache.get(&key).unwrap().entry, newer);
    }

    #[test]
    fn what_was_replaced_elsewhere_is_dropped_if_it_is_older() {
        let (cache, (key, party)) = (cache(1 << 20), key(1));
        let kept = kept(&entry(&party, "Ada"), 1_000);
        let later = Timestamp(kept.asked.0 + 1);
        for of_user in [false, true] {
            let drop_older = |asked| {
                if of_user {
                    cache.drop_older_of(key.user(), asked);
                } else {
                    cache.drop_older(&key, asked);
                }
            };
            cache.store(key, kept.clone());
            drop_older(kept.asked);
            assert!(cache.get(&key).is_some(), "it is no older");
            drop_older(later);
            assert!(cache.get(&key).is_none());
        }
        cache.store_if(key, kept, || false);
        assert!(cache.get(&key).is_none());
    }

    #[test]
    fn of_many_loads_that_end_at_once_the_latest_stays() {
        let (cache, (key, party)) = (cache(1 << 20), key(1));
        let entry = entry(&party, "somebody");
        for round in 0..500 {
            let together = std::sync::Barrier::new(4);
            let latest = kept(&entry, 1_000_000 + round * 4 + 3);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let asked = Timestamp(latest.asked.0 - thread);
                    let (cache, together, kept) = (
                        &cache,
                        &together,
                        MemoryEntry {
                            asked,
                            ..latest.clone()
                        },
                    );
                    scope.spawn(move || {
                        together.wait();
                        cache.store(key, kept);
                    });
                }
            });
            assert_eq!(cache.get(&key).unwrap().asked, latest.asked);
        }
    }

    #[test]
    fn an_end_that_was_fixed_at_storing_follows_other_ages() {
        let policy = |stale| {
            let ages = Ages {
                fresh: Duration::ZERO,
                stale,
            };
            AgePolicy {
                found: ages,
                absent: ages,
            }
        };
        let (short, long) = (
            policy(Duration::from_millis(300)),
            policy(Duration::from_secs(3600)),
        );
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let cache = || MemoryCache::new(MemoryConfig { bytes: 1 << 20 }, short, Arc::clone(&clock));
        let ((judged, untouched), (key, party)) = ((cache(), cache()), key(1));
        let stored = MemoryEntry {
            asked: clock.now(),
            ..kept(&entry(&party, "Ada"), 0)
        };
        judged.store(key, stored.clone());
        untouched.store(key, stored);
        judged.set_ages(long);
        while untouched.get(&key).is_some() {
            std::thread::yield_now();
        }
        assert!(
            judged.get(&key).is_some(),
            "it outlives the end that it was stored with"
        );
        judged.set_ages(short);
        assert!(judged.get(&key).is_none(), "and goes with shorter ages");
    }

    #[test]
    fn the_bound_in_bytes_holds_and_the_gauges_agree_with_it() {
        let cache = cache(100_000);
        for n in 0..10_000 {
            let (key, party) = key(n);
            cache.store(key, kept(&entry(&party, "somebody"), 0));
        }
        let (entries, bytes) = cache.size();
        assert!(bytes <= 100_000, "{bytes}");
        let (last, party) = key(9_999);
        let each = weight(entry(&party, "somebody").encoded().len());
        assert_eq!(bytes, entries * each as u64);
        assert!(cache.get(&last).is_some(), "the newest entry is kept");
    }
}
