//! A stored answer and its freshness: a pure function of the entry, the time and the policy. The
//! sweep of the memory tier and the expiry in Redis are only garbage collection.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use triomphe::ThinArc;

use super::contact::{self, Contact, MatchQuality};
use super::phone::{Extension, Party};

/// A moment in milliseconds, by the injected clock of this process. Two processes cannot compare
/// theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Time since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment that was `age` ago.
    #[must_use]
    pub(crate) fn before(self, age: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// A moment in the shared time, in milliseconds since the Unix epoch: Redis' time of day plus the
/// correction that all replicas use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedTime(pub u64);

/// Separates the extensions of two contacts. The extensions of one contact are digits and commas.
const BETWEEN: &str = "\n";

/// How far a stored time may be ahead of Redis' time. If it is further ahead, another clock was
/// used.
const AHEAD: Duration = Duration::from_secs(5);

impl SharedTime {
    /// Time since `earlier`. `None` if that is more than five seconds ahead: its age is unknown.
    #[must_use]
    pub(crate) fn since(self, earlier: Self) -> Option<Duration> {
        let ahead = Duration::from_millis(earlier.0.saturating_sub(self.0));
        (ahead <= AHEAD).then(|| Duration::from_millis(self.0.saturating_sub(earlier.0)))
    }

    /// The latest moment that [`SharedTime::since`] accepts as an earlier one.
    #[must_use]
    pub(crate) fn latest(self) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(AHEAD.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// The CRM's answer for one key, never an error. If it is complete, `count` 0 is proven absence.
///
/// One allocation, shared by its clones: the facts, then the encoded answer, then the extensions. A
/// million of these are kept in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(ThinArc<EntryFacts, u8>);

/// What is known of an answer besides its encoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EntryFacts {
    asked_at: SharedTime,
    count: u32,
    /// How many bytes at the end of the allocation are the extensions.
    extension_bytes: u32,
    complete: bool,
    jitter: u8,
    absences: u8,
    quality: Option<MatchQuality>,
}

/// The parts of an entry, for tiers outside this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryParts {
    /// See [`Entry::encoded`].
    pub(crate) encoded: Bytes,
    /// See [`Entry::count`].
    pub(crate) count: u32,
    /// See [`Entry::is_complete`].
    pub(crate) complete: bool,
    /// See [`Entry::asked_at`].
    pub(crate) asked_at: SharedTime,
    /// Shortens the life by up to a tenth.
    pub(crate) jitter: u8,
    /// How often the CRM has repeated that nobody has the number.
    pub(crate) absences: u8,
    /// The contacts' extensions, each as [`contact::extension_list`] formats it. Empty if no
    /// contact has any.
    pub(crate) extensions: Vec<String>,
    /// See [`Entry::quality`].
    pub(crate) quality: Option<MatchQuality>,
}

impl Entry {
    /// The answer of a load that began at `asked_at`. Its age counts from that moment, because the
    /// CRM may have changed while it answered.
    #[must_use]
    pub fn new(party: &Party, contacts: &[Contact], complete: bool, asked_at: SharedTime) -> Self {
        let facts = EntryFacts {
            asked_at,
            count: u32::try_from(contacts.len()).unwrap_or(u32::MAX),
            extension_bytes: 0,
            complete,
            jitter: 0,
            absences: 0,
            quality: contacts.iter().map(|contact| contact.quality).min(),
        };
        Self::assemble(facts, &contact::encode(party, contacts, complete), "")
    }

    fn assemble(facts: EntryFacts, encoded: &[u8], extensions: &str) -> Self {
        let facts = EntryFacts {
            extension_bytes: u32::try_from(extensions.len()).unwrap_or(u32::MAX),
            ..facts
        };
        let bytes = [encoded, extensions.as_bytes()].concat();
        Self(ThinArc::from_header_and_slice(facts, &bytes))
    }

    fn facts(&self) -> EntryFacts {
        self.0.header.header
    }

    /// The encoded answer and the extensions.
    fn halves(&self) -> (&[u8], &[u8]) {
        let bytes = &self.0.slice;
        bytes.split_at(
            bytes
                .len()
                .saturating_sub(self.facts().extension_bytes as usize),
        )
    }

    fn with_facts(&self, facts: EntryFacts) -> Self {
        Self(ThinArc::from_header_and_slice(facts, &self.0.slice))
    }

    /// The same answer with the extensions of the contacts' numbers, one text for each contact.
    #[must_use]
    pub(crate) fn with_extensions(self, extensions: &[String]) -> Self {
        let any = extensions.iter().any(|list| !list.is_empty())
            && extensions.len() == self.count() as usize;
        if !any {
            return self;
        }
        Self::assemble(self.facts(), self.encoded(), &extensions.join(BETWEEN))
    }

    /// The same answer with a life shortened by `jitter` / 255 of a tenth, so that answers that
    /// were loaded together do not all become stale together.
    #[must_use]
    pub fn with_jitter(self, jitter: u8) -> Self {
        self.with_facts(EntryFacts {
            jitter,
            ..self.facts()
        })
    }

    /// The same answer as the successor of `earlier`. Repeated absence is trusted for longer,
    /// because a number without a contact rarely gets one within a minute.
    #[must_use]
    pub(crate) fn after(self, earlier: Option<&Self>) -> Self {
        let repeats = self.count() == 0 && earlier.is_some_and(|earlier| earlier.count() == 0);
        let absences = earlier
            .filter(|_| repeats)
            .map_or(0, |earlier| earlier.facts().absences.saturating_add(1));
        self.with_facts(EntryFacts {
            absences,
            ..self.facts()
        })
    }

    /// Reassembles the result of [`Entry::parts`].
    #[must_use]
    pub(crate) fn from_parts(parts: &EntryParts) -> Self {
        let facts = EntryFacts {
            asked_at: parts.asked_at,
            count: parts.count,
            extension_bytes: 0,
            complete: parts.complete,
            jitter: parts.jitter,
            absences: parts.absences,
            quality: parts.quality,
        };
        Self::assemble(facts, &parts.encoded, &parts.extensions.join(BETWEEN))
    }

    /// The parts to store.
    #[must_use]
    pub(crate) fn parts(&self) -> EntryParts {
        let facts = self.facts();
        EntryParts {
            encoded: Bytes::copy_from_slice(self.encoded()),
            count: facts.count,
            complete: facts.complete,
            asked_at: facts.asked_at,
            jitter: facts.jitter,
            absences: facts.absences,
            extensions: self.extensions(),
            quality: facts.quality,
        }
    }

    /// Contacts and number as the first bytes of a `FindContactResponse`.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        self.halves().0
    }

    /// One text for each contact, or nothing.
    fn extensions(&self) -> Vec<String> {
        let (_, extensions) = self.halves();
        if extensions.is_empty() {
            return Vec::new();
        }
        let lists = String::from_utf8_lossy(extensions);
        lists.split(BETWEEN).map(str::to_owned).collect()
    }

    /// The same answer for a question about this extension of the number.
    #[must_use]
    pub(crate) fn asked_for(&self, extension: Option<Extension>) -> Self {
        match extension {
            Some(asked) if self.facts().extension_bytes > 0 => {
                let ranked = contact::ranked(self.encoded(), &self.extensions(), asked);
                Self::assemble(self.facts(), &ranked, "")
            }
            _ => self.clone(),
        }
    }

    /// The best quality among the contacts. `None` without contacts, or if a replica of an earlier
    /// version stored the answer.
    #[must_use]
    pub(crate) fn quality(&self) -> Option<MatchQuality> {
        self.facts().quality
    }

    /// The size of the allocation, for the memory limit.
    #[must_use]
    pub(crate) fn allocated(&self) -> usize {
        Self::allocation(self.0.slice.len())
    }

    /// The same for an answer with that many encoded bytes.
    #[must_use]
    pub(crate) fn allocation(encoded: usize) -> usize {
        // The facts stand between the count of clones and the length of the rest.
        2 * size_of::<usize>() + size_of::<EntryFacts>() + encoded
    }

    /// How many contacts were found.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.facts().count
    }

    /// False if something is missing from the answer.
    #[must_use]
    pub(crate) fn is_complete(&self) -> bool {
        self.facts().complete
    }

    /// When the load of this answer began, in the shared time; zero if Redis was down.
    #[must_use]
    pub fn asked_at(&self) -> SharedTime {
        self.facts().asked_at
    }

    /// Returns whether the answer may be stored: absence only if the search was complete.
    #[must_use]
    pub(crate) fn is_storable(&self) -> bool {
        self.count() > 0 || self.is_complete()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("count", &self.count())
            .field("complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The memory of this process.
    Memory,
    /// The Redis that replicas share.
    Redis,
    /// A CRM was asked.
    Crm,
}

impl Source {
    /// The metrics' label.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Crm => "crm",
        }
    }
}

/// How long one kind of answer lives, counted from when the CRM was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// Up to this age it is served without a refresh.
    pub fresh: Duration,
    /// Up to this age it is served, labelled stale, and refreshed in the background. After that it
    /// is not served.
    pub stale: Duration,
}

/// How long answers live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgePolicy {
    /// Complete answers with contacts.
    pub found: Ages,
    /// "No contact", and partial answers, which should not live longer than it takes to try again.
    pub absent: Ages,
}

impl AgePolicy {
    /// The ages that apply to an entry.
    #[must_use]
    pub(crate) fn ages(&self, entry: &Entry) -> Ages {
        let facts = entry.facts();
        let ages = if facts.count > 0 && facts.complete {
            self.found
        } else {
            self.absent
        };
        // Each repeat doubles the fresh age of absence, up to its hard end.
        let doubled = ages
            .fresh
            .saturating_mul(1 << facts.absences.min(16))
            .min(ages.stale);
        let shortened =
            |age: Duration| age.saturating_sub(age.saturating_mul(u32::from(facts.jitter)) / 2550);
        Ages {
            fresh: shortened(doubled),
            stale: shortened(ages.stale),
        }
    }

    /// The longest that any answer lives.
    #[must_use]
    pub(crate) fn longest(&self) -> Duration {
        self.found.stale.max(self.absent.stale)
    }
}

/// Whether a stored answer may still be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Freshness {
    /// Serve it.
    Fresh,
    /// Serve it labelled as stale, and refresh it.
    Stale,
    /// Do not serve it.
    Expired,
}

/// The freshness of `entry` at this age.
#[must_use]
pub(crate) fn judge(entry: &Entry, age: Duration, policy: &AgePolicy) -> Freshness {
    let ages = policy.ages(entry);
    if age < ages.fresh {
        Freshness::Fresh
    } else if age < ages.stale {
        Freshness::Stale
    } else {
        Freshness::Expired
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::phone::{E164, Party};

    fn policy() -> AgePolicy {
        AgePolicy {
            found: Ages {
                fresh: Duration::from_secs(600),
                stale: Duration::from_secs(86_400),
            },
            absent: Ages {
                fresh: Duration::from_secs(60),
                stale: Duration::from_secs(600),
            },
        }
    }

    fn entry(complete: bool) -> Entry {
        let party = Party::Number(E164::parse("+16505551234", None).unwrap());
        Entry::new(&party, &[], complete, SharedTime(1_000))
    }

    #[test]
    fn absence_is_fresh_then_stale_then_expired() {
        let entry = entry(true);
        let at = |seconds: u64| judge(&entry, Duration::from_secs(seconds), &policy());
        assert_eq!(at(0), Freshness::Fresh);
        assert_eq!(at(59), Freshness::Fresh);
        assert_eq!(at(60), Freshness::Stale);
        assert_eq!(at(599), Freshness::Stale);
        assert_eq!(at(600), Freshness::Expired);
    }

    #[test]
    fn absence_that_repeats_is_fresh_for_twice_as_long_up_to_its_hard_end() {
        let mut latest = entry(true);
        for fresh in [60, 120, 240, 480, 600, 600] {
            assert_eq!(policy().ages(&latest).fresh, Duration::from_secs(fresh));
            latest = entry(true).after(Some(&latest));
        }
        let found = entry(true).after(None);
        assert_eq!(found.facts().absences, 0);
    }

    #[test]
    fn an_entry_is_one_allocation_of_the_stated_size_whatever_is_changed_in_it() {
        assert_eq!(size_of::<Entry>(), size_of::<usize>());
        let lists = ["17".to_owned(), String::new(), "2,30".to_owned()];
        let three = Entry::from_parts(&EntryParts {
            count: 3,
            ..entry(true).parts()
        });
        let changed = three.clone().with_extensions(&lists).with_jitter(7);
        let parts = changed.after(None).parts();
        assert_eq!(parts.extensions, lists);
        assert_eq!((parts.jitter, parts.count), (7, 3));
        assert_eq!(parts.encoded, entry(true).encoded());
        let again = Entry::from_parts(&parts);
        assert_eq!(again.parts(), parts);
        assert_eq!(again.allocated() - three.allocated(), "17\n\n2,30".len());
        assert_eq!(three.allocated(), 40 + three.encoded().len());
        for none in [&lists[..2], &[String::new(), String::new(), String::new()]] {
            assert_eq!(three.clone().with_extensions(none), three);
        }
    }

    #[test]
    fn jitter_shortens_by_a_tenth_at_most() {
        let ages = policy().ages(&entry(true).with_jitter(255));
        assert_eq!(
            (ages.fresh, ages.stale),
            (Duration::from_secs(54), Duration::from_secs(540))
        );
    }

    #[test]
    fn an_incomplete_search_that_found_nobody_is_not_stored() {
        assert!(!entry(false).is_storable());
        assert!(entry(true).is_storable());
    }

    #[test]
    fn what_is_stored_too_far_ahead_of_redis_has_no_age() {
        let now = SharedTime(1_000_000);
        for (earlier, age) in [
            (0, Some(1_000_000)),
            (999_999, Some(1)),
            (1_000_000, Some(0)),
            (1_005_000, Some(0)),
            (1_005_001, None),
            (u64::MAX, None),
        ] {
            assert_eq!(
                now.since(SharedTime(earlier)),
                age.map(Duration::from_millis),
                "{earlier}"
            );
            assert_eq!(
                SharedTime(earlier) <= now.latest(),
                age.is_some(),
                "{earlier}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_entry_never_gets_fresher(a in 0u64..10_000_000, b in 0u64..10_000_000) {
            let at = |age: u64| judge(&entry(true), Duration::from_millis(age), &policy());
            prop_assert!(at(a.min(b)) <= at(a.max(b)));
        }
    }
}
