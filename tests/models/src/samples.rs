//! Users, numbers and answers.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::cache::{MemoryCache, MemoryConfig, SharedTier, TieredCache};
use crate::clock::Clock;
use crate::domain::user::{AdditionalInfo, Settings};
use crate::domain::{
    AgePolicy, Ages, Contact, Crm, E164, Entry, KeyMaker, MatchQuality, Party, QuestionKey,
    SharedTime, Timestamp, User,
};
use crate::metrics::Metrics;
use crate::redis_link::Link;

/// Users and numbers each.
const MOST: u8 = 4;

/// Answers live longer than any execution.
const AGES: Ages = Ages {
    fresh: Duration::from_secs(3600),
    stale: Duration::from_secs(86_400),
};

/// The virtual time of an execution. Not an atomic, so that asking for the time is no step.
#[derive(Debug)]
pub(crate) struct VirtualClock;

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(tokio::time::passed().as_millis() as u64)
    }

    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// Redis' own clock is real. The replicas see the virtual time in its place.
    fn elsewhere(&self, _: SharedTime) -> SharedTime {
        SharedTime(self.now().0)
    }
}

/// Both tiers, or only memory.
pub(crate) fn tiers(shared: Option<SharedTier>, link: &Link) -> TieredCache {
    let ages = AgePolicy {
        found: AGES,
        absent: AGES,
    };
    let memory = MemoryCache::new(
        MemoryConfig { bytes: 1 << 20 },
        ages,
        Arc::new(VirtualClock),
    );
    let names = link.names().clone();
    TieredCache::new(
        memory,
        shared,
        names,
        Arc::new(VirtualClock),
        &Metrics::default(),
    )
}

/// The memory tier alone.
pub(crate) fn memory_only() -> TieredCache {
    tiers(None, &Link::new("none"))
}

/// A user's question about a number.
pub(crate) fn question(user: u8, number: u8) -> QuestionKey {
    static QUESTIONS: LazyLock<Vec<QuestionKey>> = LazyLock::new(|| {
        let each = |user| (0..MOST).map(move |number| make_question(user, number));
        (0..MOST).flat_map(each).collect()
    });
    QUESTIONS[usize::from(user * MOST + number)].clone()
}

fn make_question(user: u8, number: u8) -> QuestionKey {
    let user = User {
        id: user.to_string(),
        account: String::new(),
        host: None,
        region: None,
        settings: Settings::default(),
        info: AdditionalInfo::default(),
    };
    let crm = Crm {
        connector: "example",
        base_url: "",
        regions: &[],
        settings: &[],
        info: &[],
    };
    KeyMaker::new([1; 16])
        .prefix(&crm, &user, &[])
        .question(party(number))
}

fn party(number: u8) -> Party {
    let number = format!("+1650555123{number}");
    Party::Number(E164::parse(&number, None).expect("a number"))
}

/// An answer that tells which load it is of.
pub(crate) fn entry(load: usize, asked_at: SharedTime) -> Arc<Entry> {
    let contact = Contact {
        id: "1".to_owned(),
        name: format!("load {load} "),
        kind: String::new(),
        title: String::new(),
        company: String::new(),
        email: String::new(),
        created: String::new(),
        last_activity: String::new(),
        additional_info: serde_json::Map::new(),
        quality: MatchQuality::Exact,
        kept: Vec::new(),
    };
    static PARTY: LazyLock<Party> = LazyLock::new(|| party(0));
    Arc::new(Entry::new(&PARTY, &[contact], true, asked_at))
}

/// The load of an answer.
pub(crate) fn load_of(entry: &Entry) -> usize {
    let text = String::from_utf8_lossy(entry.encoded());
    let (_, rest) = text.split_once("load ").expect("a sample");
    let (load, _) = rest.split_once(' ').expect("a sample");
    load.parse().expect("a number")
}
