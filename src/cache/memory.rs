//! The memory tier: moka, bounded in bytes.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};

use super::generation::Stamp;
use crate::domain::{AgePolicy, ContactKey, Entry, UserTag};

/// What an entry costs beside its encoded bytes: key, `Arc`, moka's bookkeeping. Measured, with the allocator's
/// rounding, as resident memory per entry less its payload (tests/bench/memory.rs).
const OVERHEAD: usize = 530;

/// Settings of the memory tier.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Most bytes to hold, bookkeeping included.
    pub bytes: u64,
}

/// Answers in this process, the least recently used dropped first.
///
/// Not TinyLFU, moka's default: that refuses new keys when it is full of popular ones, and a warm-up is all new keys.
#[derive(Clone)]
pub struct MemoryCache {
    entries: Cache<ContactKey, Kept, foldhash::fast::RandomState>,
    writers: Arc<Writers>,
}

/// Makes those who store under one key take turns. Moka's own `and_compute_with` would take three times as long, and every
/// hit in Redis is stored here.
#[derive(Default)]
struct Writers {
    turns: [Mutex<()>; 32],
    hasher: foldhash::fast::RandomState,
}

impl Writers {
    fn lock(&self, key: &ContactKey) -> MutexGuard<'_, ()> {
        let [turn, ..] = self.hasher.hash_one(key).to_le_bytes();
        self.turns[usize::from(turn) % self.turns.len()].lock()
    }
}

/// An answer, with the moment in the daemon's own count of invalidations at which its load began.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) entry: Arc<Entry>,
    pub(super) stamp: Stamp,
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache").field("entries", &self.entries.entry_count()).finish_non_exhaustive()
    }
}

/// Lets moka drop what no policy would serve any more. Only garbage collection: it knows no injected clock.
struct HardEnd(AgePolicy);

impl moka::Expiry<ContactKey, Kept> for HardEnd {
    fn expire_after_create(&self, _: &ContactKey, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(self.0.ages(&kept.entry).stale)
    }

    // Without this a replaced entry would keep the old one's end.
    fn expire_after_update(&self, _: &ContactKey, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(self.0.ages(&kept.entry).stale)
    }
}

/// Bytes that an answer of so many encoded bytes takes. The allocator rounds up by an eighth at most.
fn weight(encoded: usize) -> usize {
    encoded + encoded / 8 + OVERHEAD
}

impl MemoryCache {
    /// An empty tier.
    #[must_use]
    pub fn new(config: Config, ages: AgePolicy) -> Self {
        let entries = Cache::builder()
            .max_capacity(config.bytes)
            .weigher(|_: &ContactKey, kept: &Kept| {
                u32::try_from(weight(kept.entry.encoded().len() + kept.entry.extension_bytes())).unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            .support_invalidation_closures()
            .expire_after(HardEnd(ages))
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { entries, writers: Arc::default() }
    }

    /// The stored answer, however old.
    #[must_use]
    pub(super) fn get(&self, key: &ContactKey) -> Option<Kept> {
        self.entries.get(key)
    }

    /// Stores an answer, unless one that was asked for later is there already: a slow load that began before a manual
    /// refresh must not undo it.
    pub(super) fn store(&self, key: ContactKey, kept: Kept) {
        let _writing = self.writers.lock(&key);
        let later = self.entries.get(&key).is_some_and(|stored| stored.entry.asked_at() > kept.entry.asked_at());
        if !later {
            self.entries.insert(key, kept);
        }
    }

    /// Drops what is kept for a user. What is read is decided by the stamps; this gives the memory back.
    pub(super) fn drop_user(&self, user: UserTag) {
        // Fails only where the cache was built without support for it.
        let _ = self.entries.invalidate_entries_if(move |key, _| key.user() == user);
    }

    /// Drops everything.
    pub(super) fn clear(&self) {
        self.entries.invalidate_all();
    }

    /// Entries and bytes held, after pending evictions.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::generation::Generations;
    use crate::domain::{Ages, Contact, E164, KeyMaker, MatchQuality, Party, Timestamp, User};

    fn ages() -> AgePolicy {
        let ages = Ages { fresh: Duration::from_secs(60), stale: Duration::from_secs(600) };
        AgePolicy { found: ages, absent: ages }
    }

    fn key(n: u32) -> (ContactKey, Party) {
        let party = Party::Number(E164::parse(&format!("+1650{}", 2_000_000 + n), None).unwrap());
        let user = User {
            id: "u".to_owned(),
            account: String::new(),
            host: None,
            region: None,
            settings: crate::domain::caller::Settings::default(),
        };
        (KeyMaker::new([1; 16]).contact("example", &user, party, &[], &[]), party)
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
        }
    }

    fn kept(entry: &Arc<Entry>) -> Kept {
        Kept { entry: Arc::clone(entry), stamp: Generations::default().stamp() }
    }

    #[test]
    fn a_slower_older_load_does_not_replace_a_newer_answer() {
        let cache = MemoryCache::new(Config { bytes: 1 << 20 }, ages());
        let (key, party) = key(1);
        let newer = Arc::new(Entry::new(&party, &[contact("new")], true, Timestamp(2_000)));
        let older = Arc::new(Entry::new(&party, &[contact("old")], true, Timestamp(1_000)));
        cache.store(key, kept(&newer));
        cache.store(key, kept(&older));
        assert_eq!(cache.get(&key).unwrap().entry, newer);
    }

    #[test]
    fn of_many_loads_that_end_at_once_the_latest_stays() {
        let cache = MemoryCache::new(Config { bytes: 1 << 20 }, ages());
        let (key, party) = key(1);
        let entry = |asked_at| Arc::new(Entry::new(&party, &[contact("somebody")], true, Timestamp(asked_at)));
        for round in 0..500 {
            let together = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (cache, together, kept) = (&cache, &together, kept(&entry(round * 4 + thread)));
                    scope.spawn(move || {
                        together.wait();
                        cache.store(key, kept);
                    });
                }
            });
            assert_eq!(cache.get(&key).unwrap().entry, entry(round * 4 + 3));
        }
    }

    #[test]
    fn the_bound_in_bytes_holds_and_the_gauges_agree_with_it() {
        let cache = MemoryCache::new(Config { bytes: 100_000 }, ages());
        for n in 0..10_000 {
            let (key, party) = key(n);
            cache.store(key, kept(&Arc::new(Entry::new(&party, &[contact("somebody")], true, Timestamp(1)))));
        }
        let (entries, bytes) = cache.size();
        assert!(bytes <= 100_000, "{bytes}");
        let (last, party) = key(9_999);
        let each = weight(Entry::new(&party, &[contact("somebody")], true, Timestamp(1)).encoded().len());
        assert_eq!(bytes, entries * each as u64);
        assert!(cache.get(&last).is_some(), "the newest entry is kept");
    }
}
