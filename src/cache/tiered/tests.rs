use futures_util::FutureExt as _;

use super::*;
use crate::cache::log::ReplicaEvent;
use crate::cache::memory::MemoryConfig;
use crate::clock::ManualClock;
use crate::domain::{
    Ages, ContactKey, Crm, E164, Identity, KeyMaker, Party, QuestionKey, SharedTime, User,
};
use crate::redis_link::{KeyPrefix, SharedSecret};

const LIFE: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);

fn cache() -> (TieredCache, ManualClock) {
    let clock = ManualClock::new(Timestamp(1_000_000));
    let ages = Ages {
        fresh: MINUTE,
        stale: LIFE,
    };
    let ages = AgePolicy {
        found: ages,
        absent: ages,
    };
    let config = MemoryConfig { bytes: 1 << 20 };
    let memory = MemoryCache::new(config, ages, Arc::new(clock.clone()));
    let names = KeyNames::new(KeyPrefix::default(), &SharedSecret::new([7; 32]));
    let shown = Arc::new(clock.clone());
    let cache = TieredCache::new(memory, None, names, shown, &Metrics::default());
    (cache, clock)
}

fn key(user: &str) -> (QuestionKey, ContactKey) {
    let user = User {
        id: user.to_owned(),
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
    let party = Party::Number(E164::parse("+16502000001", None).unwrap());
    let question = KeyMaker::new([1; 16])
        .prefix(&crm, &user, &[])
        .question(party);
    (question, question.of(&Identity::Caller))
}

fn load(cache: &TieredCache, user: &str) -> ContactKey {
    let (question, key) = key(user);
    let ticket = cache.begin(&question).now_or_never().unwrap();
    let entry = Entry::new(&question.party(), &[], true, SharedTime(0));
    cache
        .store(&key, &ticket, &entry, false)
        .now_or_never()
        .unwrap();
    key
}

async fn swept_for(cache: &TieredCache, time: Duration) {
    let ended = clock::timeout(time, cache.clone().sweep()).await;
    assert!(ended.is_none(), "it sweeps for ever");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_served_any_more_has_left_memory_within_a_minute() {
    let (cache, clock) = cache();
    let (one, two) = (load(&cache, "one"), load(&cache, "two"));
    swept_for(&cache, MINUTE).await;
    assert_eq!(cache.memory_size().0, 2, "both may be served");

    cache.apply(&ReplicaEvent::InvalidateUser(one.user()));
    assert_eq!(cache.memory_size().0, 2);
    swept_for(&cache, Duration::ZERO).await;
    assert!(cache.in_memory(&one).is_none());
    assert!(cache.in_memory(&two).is_some());
    assert_eq!(cache.memory_size().0, 1);

    load(&cache, "one");
    clock.advance(LIFE);
    load(&cache, "three");
    swept_for(&cache, MINUTE).await;
    assert_eq!(cache.memory_size().0, 1, "only the third is young enough");

    cache.apply(&ReplicaEvent::Lost);
    load(&cache, "two");
    assert_eq!(cache.memory_size().0, 2);
    swept_for(&cache, Duration::ZERO).await;
    assert!(cache.in_memory(&two).is_some(), "it was loaded afterwards");
    assert_eq!(cache.memory_size().0, 1);
}
