//! How look-ups read: together, and under a user token that was seen before.

use std::sync::Arc;
use std::time::Duration;

use contactd::cache::{
    InvalidationLog, MemoryCache, MemoryConfig, ReplicaEvent, SharedTier, TieredCache,
};
use contactd::clock::{Clock, Stopwatch, SystemClock};
use contactd::domain::{AgePolicy, Ages, ContactKey, Source};
use contactd::metrics::Metrics;
use contactd::redis_link::user::UserToken;
use contactd::redis_link::{self, LinkError, RedisTime};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio_util::task::TaskTracker;

use super::{entry, key, load, party, question, stored, tier};
use crate::support::redis::{RedisServer, config, data, link_to, link_with, tier_on};

/// How often Redis has run a command.
fn calls(server: &RedisServer, command: &str) -> u32 {
    let stats: String = server.run(&["INFO", "commandstats"]);
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn look_ups_that_come_at_the_same_moment_share_a_command() {
    let server = RedisServer::start().await;
    // Longer than any machine takes for a share of it.
    let patient = redis_link::LinkConfig {
        timeout: Duration::from_secs(10),
        ..config(&server.url())
    };
    let tier = tier_on(link_with(&patient).0);
    for n in (0..600).step_by(2) {
        assert!(load(&tier, &key(&n.to_string(), n), &entry("Ann", u64::from(n))).await);
    }
    let before = calls(&server, "mget");
    let keys: Vec<_> = (0..600).map(|n| key(&n.to_string(), n)).collect();
    let found = join_all(keys.iter().map(|key| stored(&tier, key))).await;
    for (n, found) in (0..).zip(found) {
        assert_eq!(
            found,
            Ok((n % 2 == 0).then(|| entry("Ann", n))),
            "each has its own"
        );
    }
    assert_eq!(
        calls(&server, "mget") - before,
        19,
        "1,200 keys, 64 at once"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_look_up_that_is_given_up_takes_nobody_along() {
    let (_server, tier) = tier().await;
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    let asked = key("u", 1);
    let (mut first, mut second) = (
        Box::pin(stored(&tier, &asked)),
        Box::pin(stored(&tier, &asked)),
    );
    assert!(
        (&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none(),
        "both stand in line"
    );
    drop(first);
    assert_eq!(second.await, Ok(Some(entry("Ann", 1))));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn all_who_share_a_command_are_told_that_it_failed() {
    let (server, tier) = tier().await;
    assert_eq!(stored(&tier, &key("u", 1)).await, Ok(None));
    server.pause();
    let keys: Vec<_> = (0..200).map(|n| key("u", n)).collect();
    for found in join_all(keys.iter().map(|key| stored(&tier, key))).await {
        assert_eq!(found, Err(LinkError::Timeout));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn where_they_may_not_share_a_command_each_has_its_own() {
    let (server, _) = tier().await;
    server.run::<()>(&["ACL", "SETUSER", "u", "on", ">pw", "~*", "+@all", "-mget"]);
    let tier = tier_on(link_to(&server.url().replace("redis://", "redis://u:pw@")));
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    let (one, two) = (key("u", 1), key("u", 2));
    assert_eq!(
        join_all([stored(&tier, &one), stored(&tier, &two)]).await,
        [Ok(Some(entry("Ann", 1))), Ok(None)]
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_user_token_that_is_known_saves_a_key_and_another_one_is_found() {
    let (server, tier) = tier().await;
    let (one, two) = (key("u", 1), key("u", 2));
    let get = async |key: &ContactKey, known: Option<UserToken>| {
        let held = tier
            .get(key.user(), key.party(), known, data())
            .await
            .unwrap();
        (tier.entry(&held, key), held.user_token)
    };
    assert!(load(&tier, &one, &entry("Ann", 1)).await);
    let first = get(&one, None).await;
    assert!(first.1.is_some());
    let token = server
        .keys()
        .into_iter()
        .find(|name| name.ends_with(":g"))
        .unwrap();
    server.run::<()>(&["RENAME", &token, "elsewhere"]);
    assert_eq!(get(&one, first.1).await, first, "it is not read again");
    assert_eq!(stored(&tier, &one).await, Ok(None));
    server.run::<()>(&["RENAME", "elsewhere", &token]);
    assert_eq!(get(&two, first.1).await.0, None);
    tier.invalidate_user(one.user()).await.unwrap();
    assert_eq!(get(&one, first.1).await.0, None);
    assert!(load(&tier, &one, &entry("Bob", 2)).await);
    let second = get(&one, first.1).await;
    assert_eq!(second.0, Some(entry("Bob", 2)));
    assert_ne!(second.1, first.1);
    assert_eq!(get(&one, None).await, second);
}

/// A replica that has read the log once.
async fn replica(server: &RedisServer) -> TieredCache {
    let ages = Ages {
        fresh: Duration::from_secs(600),
        stale: Duration::from_secs(3600),
    };
    let ages = AgePolicy {
        found: ages,
        absent: ages,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let link = link_to(&server.url());
    let memory = MemoryCache::new(MemoryConfig { bytes: 1 << 20 }, ages, Arc::clone(&clock));
    let names = link.names().clone();
    let log = InvalidationLog::new(link.clone());
    let time = RedisTime::new(Arc::clone(&clock)).over(link.connections());
    time.apply(log.reader().poll().await.unwrap().time);
    let shared = SharedTier {
        redis: tier_on(link),
        log,
        time,
        tasks: TaskTracker::new(),
    };
    TieredCache::new(memory, Some(shared), names, clock, &Metrics::default())
}

async fn source(replica: &TieredCache, n: u32) -> Option<Source> {
    replica
        .lookup(&question("u", n), &key("u", n))
        .await
        .map(|stored| stored.source)
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn what_an_erased_user_had_is_not_read_under_a_user_token_seen_before() {
    let server = RedisServer::start().await;
    let (one, other) = (replica(&server).await, replica(&server).await);
    for n in 1..=3 {
        let ticket = one.begin(&question("u", n)).await;
        one.store(
            &key("u", n),
            &ticket,
            &entry("Ann", ticket.asked_at().0),
            false,
        )
        .await;
    }
    let watch = Stopwatch::start();
    assert_eq!(source(&other, 1).await, Some(Source::Redis));
    assert_eq!(source(&other, 2).await, Some(Source::Redis));
    assert_eq!(source(&other, 2).await, Some(Source::Memory));

    // What the index has lost is not deleted with the rest.
    let index = server
        .keys()
        .into_iter()
        .find(|name| name.ends_with(":i"))
        .unwrap();
    server.run::<()>(&["DEL", &index]);
    one.invalidate_user(key("u", 1).user()).await.unwrap();
    let user = key("u", 1).user();
    let unrelated = link_to(&server.url()).names().party(user, party(9));
    other.apply(&ReplicaEvent::InvalidateNumber(user, unrelated));
    let third = source(&other, 3).await;
    // On a machine that stood still meanwhile the user token is read again.
    if watch.elapsed() < Duration::from_secs(1) {
        assert_eq!(third, Some(Source::Redis), "until it hears of it");
    }
    other.apply(&ReplicaEvent::InvalidateUser(user));
    for n in 1..=3 {
        assert_eq!(source(&other, n).await, None, "{n}");
    }
}
