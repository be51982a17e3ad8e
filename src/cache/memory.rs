//! The memory tier: moka, bounded in bytes.
//!
//! Moka keeps the most recently used answers and knows nothing of their age or validity: readers
//! judge both. What nobody may read any more leaves memory by [`MemoryCache::sweep`]. Moka's own
//! expiry and predicates would take 80 bytes more for each entry.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard, RwLock};

use super::invalidations::Watermark;
use crate::clock::{self, Clock};
use crate::domain::{AgePolicy, Entry, Freshness, SlotKey, Timestamp, UserTag, judge};

/// The memory of an entry besides its [`Entry`]: key and moka's bookkeeping. At most 283 bytes of
/// resident memory were measured, just after moka's table has doubled, when the bookkeeping per
/// entry is largest (tests/bench/memory.rs). The rest is for what the allocator loses while answers
/// change.
const OVERHEAD: usize = 300;

/// How many entries are swept without a pause, and how long the pause is. A million entries take
/// 40 seconds, and about a second and a half of work (tests/bench/memory.rs).
const PIECE: usize = 256;
const PAUSE: Duration = Duration::from_millis(10);

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

    /// Applies to all answers, because ages are judged on reading.
    pub(super) fn set(&self, ages: AgePolicy) {
        *self.0.write() = ages;
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
    replaced: Arc<ReplacedUsers>,
    /// How many replacements this tier has learned of: those that other replicas have published,
    /// and those that loads of this replica have found in Redis.
    replacements: Arc<AtomicU64>,
    ages: CurrentAges,
    clock: Arc<dyn Clock>,
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

    /// Takes all locks, always in the same order. Nobody else holds more than one lock.
    fn lock_all(&self) -> Vec<MutexGuard<'_, ()>> {
        self.locks.iter().map(Mutex::lock).collect()
    }
}

/// The users for whom another replica has replaced many answers. For each user there is a moment:
/// the replaced answers were loaded before it. An answer that was loaded before this moment is not
/// returned, if its load or read began before this replica knew of the replacement.
#[derive(Default)]
struct ReplacedUsers {
    any: AtomicBool,
    moments: RwLock<HashMap<UserTag, ReplacedBefore>>,
}

/// When the answers of a user were replaced, and when that became known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ReplacedBefore {
    asked: Timestamp,
    watermark: Watermark,
}

impl ReplacedUsers {
    fn add(&self, user: UserTag, asked: Timestamp, watermark: Watermark) {
        let mut moments = self.moments.write();
        let moment = moments.entry(user).or_default();
        moment.asked = asked.max(moment.asked);
        moment.watermark = watermark.max(moment.watermark);
        self.any.store(true, Ordering::Release);
    }

    /// A hit takes no lock here if there is no such user, which is nearly always the case.
    fn is_replaced(&self, user: UserTag, kept: &MemoryEntry) -> bool {
        self.any.load(Ordering::Acquire)
            && self.moments.read().get(&user).is_some_and(|moment| {
                kept.asked < moment.asked && kept.watermark < moment.watermark
            })
    }

    fn now(&self) -> HashMap<UserTag, ReplacedBefore> {
        self.moments.read().clone()
    }

    /// Forgets the moments in `swept`, because the sweep has dropped the answers that they are
    /// about. If an older load of this replica stores its answer after that, Redis reports that a
    /// later one is there. A moment that has changed since is kept.
    fn forget(&self, swept: &HashMap<UserTag, ReplacedBefore>) {
        let mut moments = self.moments.write();
        moments.retain(|user, moment| swept.get(user) != Some(moment));
        self.any.store(!moments.is_empty(), Ordering::Release);
    }
}

/// An answer and when its load began, by the clock and as a watermark of invalidations.
#[derive(Debug, Clone)]
pub(super) struct MemoryEntry {
    pub(super) entry: Entry,
    pub(super) asked: Timestamp,
    pub(super) watermark: Watermark,
}

/// If an entry were larger, the allocation that moka makes for it would be in the next size class.
const _: () = assert!(size_of::<MemoryEntry>() == 24);

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("entries", &self.entries.entry_count())
            .finish_non_exhaustive()
    }
}

/// The memory of an answer with an allocation of that many bytes.
pub(crate) fn weight(allocated: usize) -> usize {
    size_class(allocated) + OVERHEAD
}

/// What mimalloc takes for an allocation: multiples of 16 bytes up to 128, then four sizes for each
/// doubling.
fn size_class(bytes: usize) -> usize {
    let step = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(step.max(16))
}

impl MemoryCache {
    /// An empty tier.
    #[must_use]
    pub fn new(config: MemoryConfig, ages: AgePolicy, clock: Arc<dyn Clock>) -> Self {
        let entries = Cache::builder()
            .max_capacity(config.bytes)
            .weigher(|_: &SlotKey, kept: &MemoryEntry| {
                u32::try_from(weight(kept.entry.allocated())).unwrap_or(u32::MAX)
            })
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self {
            entries,
            writers: Arc::default(),
            replaced: Arc::default(),
            replacements: Arc::default(),
            ages: CurrentAges::new(ages),
            clock,
        }
    }

    /// The stored answer, whatever its age.
    #[must_use]
    pub(super) fn get(&self, key: &SlotKey) -> Option<MemoryEntry> {
        let kept = self.entries.get(key)?;
        let is_replaced = |kept: &MemoryEntry| self.replaced.is_replaced(key.user(), kept);
        if is_replaced(&kept) {
            self.drop_if(key, is_replaced);
            return None;
        }
        Some(kept)
    }

    /// Stores an answer unless a later one is already there: a slow load that began before a manual
    /// refresh must not undo it.
    pub(super) fn store(&self, key: SlotKey, kept: MemoryEntry) {
        self.store_if(key, kept, || true);
    }

    /// How many replacements this tier has learned of. See [`MemoryCache::store_read`].
    #[must_use]
    pub(super) fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::Acquire)
    }

    /// As [`MemoryCache::store`], for an answer whose read from Redis began when there were this
    /// many [`MemoryCache::replacements`]. If there are more by now, it may be an older answer, and
    /// is not stored.
    pub(super) fn store_read(&self, key: SlotKey, kept: MemoryEntry, replacements: u64) {
        self.store_if(key, kept, || self.replacements() == replacements);
    }

    /// As [`MemoryCache::store`], if `wanted` returns true. Between that call and the insertion
    /// nothing drops the answer at this key, or the answers of its user.
    fn store_if(&self, key: SlotKey, kept: MemoryEntry, wanted: impl FnOnce() -> bool) {
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

    /// Drops the answer if it was loaded before `asked`. Redis has a later one.
    pub(super) fn drop_older(&self, key: &SlotKey, asked: Timestamp) {
        let _writing = self.writers.lock(key);
        self.drop_locked(key, |stored| stored.asked < asked);
        self.count_replacement();
    }

    /// From now on, an answer is not stored if it was read from Redis before this call. Called
    /// after older answers were dropped, while their keys are still locked. Times are inexact, so
    /// the answer of this replica's latest load may have been dropped too. That answer is already
    /// in Redis, so a read that begins after this call finds it there.
    fn count_replacement(&self) {
        self.replacements.fetch_add(1, Ordering::AcqRel);
    }

    fn drop_if(&self, key: &SlotKey, is_unwanted: impl FnOnce(&MemoryEntry) -> bool) {
        let _writing = self.writers.lock(key);
        self.drop_locked(key, is_unwanted);
    }

    /// As [`MemoryCache::drop_if`], for a key that is locked.
    fn drop_locked(&self, key: &SlotKey, is_unwanted: impl FnOnce(&MemoryEntry) -> bool) {
        if self.entries.get(key).as_ref().is_some_and(is_unwanted) {
            self.entries.invalidate(key);
        }
    }

    /// When the CRM was asked for the stored answer.
    fn asked(&self, key: &SlotKey) -> Option<Timestamp> {
        self.entries.get(key).map(|stored| stored.asked)
    }

    /// Drops the answer if it still has this watermark, which is out of date. If it stayed, it
    /// would keep the copy in Redis from being used.
    pub(super) fn drop_invalid(&self, key: &SlotKey, watermark: Watermark) {
        self.drop_if(key, |stored| stored.watermark == watermark);
    }

    /// Drops a user's answers that were loaded before `asked` and began before `watermark`: they
    /// are not returned any more, and the next sweep frees their memory.
    pub(super) fn drop_older_of(&self, user: UserTag, asked: Timestamp, watermark: Watermark) {
        // Waits for copies from Redis that are being stored now, so that the next sweep sees them.
        let _writing = self.writers.lock_all();
        self.replaced.add(user, asked, watermark);
        self.count_replacement();
    }

    /// Removes the answers that no reader may have: those past their hard end, replaced ones, and
    /// those that are not `is_current` any more. Pauses after every [`PIECE`] answers that it has
    /// looked at, so that it takes a thirtieth of a core and no look-up waits for it.
    pub(super) async fn sweep(&self, is_current: impl Fn(UserTag, Watermark) -> bool) {
        let replaced = self.replaced.now();
        let is_unwanted = |key: &SlotKey, kept: &MemoryEntry| {
            self.is_expired(kept)
                || self.replaced.is_replaced(key.user(), kept)
                || !is_current(key.user(), kept.watermark)
        };
        for (n, (key, kept)) in (1..).zip(&self.entries) {
            if is_unwanted(&key, &kept) {
                // Another answer may have come meanwhile.
                self.drop_if(&key, |kept| is_unwanted(&key, kept));
            }
            if n % PIECE == 0 {
                clock::sleep(PAUSE).await;
            }
        }
        self.replaced.forget(&replaced);
        // Moka frees what was dropped last only when the cache is used again.
        self.entries.run_pending_tasks();
    }

    fn is_expired(&self, kept: &MemoryEntry) -> bool {
        let age = self.clock.now().since(kept.asked);
        judge(&kept.entry, age, &self.ages.get()) == Freshness::Expired
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
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::cache::invalidations::Invalidations;
    use crate::clock::{ManualClock, SystemClock};
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

    fn entry(party: &Party, name: &str) -> Entry {
        Entry::new(party, &[contact(name)], true, SharedTime(0))
    }

    /// A watermark after those of all entries here.
    fn known() -> Watermark {
        Invalidations::default().divide()
    }

    fn kept(entry: &Entry, asked: u64) -> MemoryEntry {
        let asked = Timestamp(SystemClock::start().now().0 + asked);
        MemoryEntry {
            entry: entry.clone(),
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
                    cache.drop_older_of(key.user(), asked, known());
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
    }

    #[test]
    fn what_was_read_before_older_answers_were_dropped_is_not_kept() {
        let (cache, (key, party)) = (cache(1 << 20), key(1));
        let kept = kept(&entry(&party, "Ada"), 1_000);
        for of_user in [false, true] {
            let before = cache.replacements();
            if of_user {
                cache.drop_older_of(key.user(), kept.asked, known());
            } else {
                cache.drop_older(&key, kept.asked);
            }
            cache.store_read(key, kept.clone(), before);
            assert!(cache.get(&key).is_none());
        }
        cache.store_read(key, kept, cache.replacements());
        assert!(cache.get(&key).is_some());
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

    /// A cache with the answers to the first `count` questions, asked now, and the clock of it.
    fn filled(count: u32) -> (MemoryCache, ManualClock) {
        let clock = ManualClock::new(Timestamp(1_000_000));
        let config = MemoryConfig { bytes: 1 << 30 };
        let cache = MemoryCache::new(config, ages(), Arc::new(clock.clone()));
        for n in 0..count {
            let (key, party) = key(n);
            let asked = clock.now();
            cache.store(
                key,
                MemoryEntry {
                    asked,
                    ..kept(&entry(&party, "Ada"), 0)
                },
            );
        }
        (cache, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_frees_exactly_what_is_past_its_end_by_the_current_ages() {
        let (cache, clock) = filled(1_000);
        let step = Duration::from_millis(1);
        clock.advance(Duration::from_millis(599_999));
        cache.sweep(|_, _| true).await;
        assert_eq!(cache.size().0, 1_000);
        let (younger, party) = key(1_000);
        let asked = clock.now();
        cache.store(
            younger,
            MemoryEntry {
                asked,
                ..kept(&entry(&party, "Eve"), 0)
            },
        );
        clock.advance(step);
        let longer = Ages {
            stale: Duration::from_secs(601),
            ..ages().found
        };
        cache.ages().set(AgePolicy {
            found: longer,
            ..ages()
        });
        cache.sweep(|_, _| true).await;
        assert_eq!(cache.size().0, 1_001);
        cache.ages().set(ages());
        cache.sweep(|_, _| true).await;
        assert_eq!(cache.size().0, 1);
        assert!(cache.get(&younger).is_some());
        cache.sweep(|_, _| false).await;
        assert_eq!(cache.size(), (0, 0), "nothing of it is valid any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_has_freed_everything_when_it_ends() {
        let (cache, _clock) = filled(10);
        assert_eq!(cache.size().0, 10);
        cache.sweep(|_, _| false).await;
        assert_eq!(cache.entries.entry_count(), 0, "moka frees lazily");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_lets_others_run_and_takes_as_long_as_it_says() {
        let (cache, _clock) = filled(10_000);
        let start = clock::now();
        cache.sweep(|_, _| true).await;
        assert_eq!(
            start.elapsed(),
            PAUSE * 39,
            "a pause after each of the pieces"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_leaves_an_answer_that_came_while_it_looked() {
        let (cache, _clock) = filled(1);
        let (key, party) = key(0);
        let newer = kept(&entry(&party, "Eve"), 1_000);
        let is_stored = AtomicBool::new(false);
        let is_current = |_, _| {
            if is_stored.swap(true, Ordering::Relaxed) {
                return true;
            }
            cache.store(key, newer.clone());
            false
        };
        cache.sweep(is_current).await;
        assert_eq!(cache.get(&key).unwrap().entry, newer.entry);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_replaced_for_a_whole_user_stays_away_and_is_freed() {
        let (cache, clock) = filled(1_000);
        let ((first, party), (other, _)) = (key(0), key(1));
        let newer = |asked| MemoryEntry {
            asked,
            ..kept(&entry(&party, "Eve"), 0)
        };
        let now = clock.now();
        cache.drop_older_of(first.user(), Timestamp(now.0 + 1), known());
        // An earlier moment that comes later changes nothing.
        cache.drop_older_of(first.user(), now, known());
        assert!(cache.get(&other).is_none());
        cache.store(first, newer(Timestamp(now.0 + 1)));
        assert!(cache.get(&first).is_some(), "it is no older");
        let mut sweep = pin!(cache.sweep(|_, _| true));
        assert!(sweep.as_mut().now_or_never().is_none(), "it pauses");
        cache.drop_older_of(first.user(), Timestamp(now.0 + 2), known());
        sweep.await;
        assert!(cache.get(&first).is_none(), "replaced during the sweep");
        cache.sweep(|_, _| true).await;
        assert_eq!(cache.size().0, 0);
        cache.store(first, newer(now));
        assert!(cache.get(&first).is_some(), "there is nothing left to hide");

        cache.drop_older_of(first.user(), Timestamp(now.0 + 1), known());
        assert!(cache.get(&first).is_none());
        let read_since = MemoryEntry {
            watermark: known(),
            ..newer(now)
        };
        cache.store(first, read_since);
        assert!(
            cache.get(&first).is_some(),
            "it was read after that was known"
        );
    }

    #[test]
    fn an_allocation_counts_as_what_the_allocator_takes_for_it() {
        // mimalloc's table of sizes, from its `init.c`, in bytes.
        let classes = [
            16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768,
            896, 1024, 1280, 1536, 1792, 2048, 2560,
        ];
        for bytes in 1..=2560 {
            let class = classes.into_iter().find(|class| bytes <= *class);
            assert_eq!(Some(size_class(bytes)), class, "{bytes}");
        }
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
        let each = weight(entry(&party, "somebody").allocated());
        assert_eq!(bytes, entries * each as u64);
        assert!(cache.get(&last).is_some(), "the newest entry is kept");
    }
}
