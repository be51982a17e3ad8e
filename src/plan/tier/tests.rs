use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cache::{MemoryCache, MemoryConfig, TieredCache, weight};
use crate::clock::{Clock, SystemClock};
use crate::domain::{
    AgePolicy, Ages, ContactKey, Crm, E164, Entry, Identity, KeyMaker, Party, QuestionKey, User,
};
use crate::metrics::Metrics;
use crate::redis_link::{KeyNames, KeyPrefix, SharedSecret};

fn kept(asked: u64, ends: u64) -> Kept {
    Kept::example(asked, ends)
}

/// Looks each question up, and stores an answer of its size if there is none. Returns which were
/// there.
fn replayed(most: u64, questions: &[(u32, u64)]) -> Vec<bool> {
    let mut tier = Tier::new(most);
    let mut look_up = |&(question, bytes): &(u32, u64)| {
        let is_there = tier.get(question, 0).is_some();
        if !is_there {
            tier.store(question, kept(0, u64::MAX), bytes, 0);
        }
        is_there
    };
    questions.iter().map(&mut look_up).collect()
}

#[test]
fn what_was_used_longest_ago_is_dropped_first_and_the_peaks_are_kept() {
    let mut tier = Tier::new(30);
    for question in [1, 2, 3] {
        tier.store(question, kept(0, 1_000), 10, 0);
    }
    assert!(tier.get(1, 0).is_some());
    tier.store(4, kept(0, 1_000), 10, 0);
    let there = [1, 2, 3, 4].map(|question| tier.get(question, 0).is_some());
    assert_eq!(there, [true, false, true, true]);
    let peak = TierPeak {
        bytes: 30,
        answers: 3,
        evicted: 1,
    };
    assert_eq!(tier.peak(), peak);
    tier.store(5, kept(0, 1_000), 31, 0);
    assert!(tier.get(5, 0).is_none(), "it is larger than the tier");
}

#[test]
fn an_answer_goes_at_its_hard_end_and_a_later_one_stays() {
    let mut tier = Tier::new(100);
    tier.store(1, kept(0, 50), 10, 0);
    tier.store(1, kept(20, 70), 10, 20);
    tier.store(1, kept(10, 60), 10, 20);
    assert_eq!(tier.get(1, 69).map(|kept| kept.asked), Some(20));
    assert!(tier.get(1, 70).is_none());
    assert_eq!((tier.bytes, tier.answers.len()), (0, 0));
}

proptest! {
    /// The answers of a smaller tier are always among those of a larger one. With ages, this says
    /// nothing about a whole replay: what a small tier has dropped is asked for anew, and then
    /// lives longer than the older answer of a large one.
    #[test]
    fn a_larger_tier_never_has_less(
        questions in prop::collection::vec((0_u32..20, 1_u64..30), 1..200),
        small in 1_u64..200,
        more in 0_u64..200,
    ) {
        let sized: Vec<(u32, u64)> = questions
            .iter()
            .map(|&(question, _)| (question, 1 + u64::from(question) * 7 % 30))
            .collect();
        let largest = sized.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let small = small.max(largest);
        let (one, other) = (replayed(small, &sized), replayed(small + more, &sized));
        prop_assert!(one.iter().zip(&other).all(|(one, other)| one <= other));
    }
}

/// The memory tier of the daemon.
struct Real {
    cache: TieredCache,
    keys: KeyMaker,
}

impl Real {
    fn new(bytes: u64) -> Self {
        let ages = Ages {
            fresh: Duration::from_secs(600),
            stale: Duration::from_secs(6_000),
        };
        let ages = AgePolicy {
            found: ages,
            absent: ages,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let memory = MemoryCache::new(MemoryConfig { bytes }, ages, Arc::clone(&clock));
        let names = KeyNames::new(KeyPrefix::default(), &SharedSecret::new([7; 32]));
        Self {
            cache: TieredCache::new(memory, None, names, clock, &Metrics::default()),
            keys: KeyMaker::new([7; 16]),
        }
    }

    fn key(&self, n: u32) -> (QuestionKey, ContactKey, Entry) {
        let number = E164::parse(&format!("+1650{}", 2_000_000 + n), None).unwrap();
        let party = Party::Number(number);
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
        let question = self.keys.prefix(&crm, &user, &[]).question(party);
        // Sizes differ.
        let contacts = vec![super::super::stored::sample_contact(); n as usize % 4];
        let entry = Entry::new(&party, &contacts, true, crate::domain::SharedTime(0));
        (question, question.of(&Identity::Caller), entry)
    }
}

#[tokio::test]
async fn the_memory_tier_of_the_daemon_drops_the_same_answers() {
    const MOST: u64 = 40_000;
    let (real, mut tier) = (Real::new(MOST), Tier::new(MOST));
    let mut random = fastrand::Rng::with_seed(5);
    let mut hits = 0;
    for _ in 0..3_000 {
        let n = random.u32(..120).min(random.u32(..120));
        let (question, key, entry) = real.key(n);
        let is_there = real.cache.in_memory(&key).is_some();
        assert_eq!(tier.get(n, 0).is_some(), is_there, "{n}");
        hits += u32::from(is_there);
        if !is_there {
            let bytes = weight(entry.allocated()) as u64;
            tier.store(n, kept(0, u64::MAX), bytes, 0);
            let ticket = real.cache.begin(&question).await;
            real.cache
                .store(&key, &ticket, &Arc::new(entry), false)
                .await;
        }
        assert_eq!(
            real.cache.memory_size(),
            (tier.answers.len() as u64, tier.bytes)
        );
    }
    assert!(hits > 500 && tier.peak().evicted > 500, "{hits}");
}
