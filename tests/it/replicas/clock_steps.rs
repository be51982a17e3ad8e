//! Redis' clock is set while replicas use it.

use std::time::Duration;

use contactd::clock::sleep;
use contactd::pb::v1::Source;

use super::strict::{PER, RATE, fleet_at, refuses_nothing};
use crate::support::clocks::{Clocks, FakeClock};
use crate::support::daemon::{TestDaemon, names};
use crate::support::fleet::{ada, named, replicas};
use crate::support::ports::free_port;
use crate::support::redis::RedisServer;
use crate::support::strict::StrictCrm;
use crate::support::{FakeCrm, find};

const MINUTE: Duration = Duration::from_secs(60);

/// A Redis, and its clock.
async fn redis(clocks: &Clocks) -> (RedisServer, FakeClock) {
    let clock = clocks.clock("redis");
    let mut redis = RedisServer::on(free_port(), &[]).with_env(&clock.env());
    redis.restart().await;
    (redis, clock)
}

/// By then each replica has read the log twice.
async fn noticed() {
    sleep(Duration::from_millis(500)).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_strict_crm_refuses_nothing_while_the_clock_of_redis_is_set() {
    let clocks = Clocks::compile();
    let (strict, (redis, clock)) = (StrictCrm::start(RATE, PER, 31).await, redis(&clocks).await);
    let daemons = fleet_at(&strict, [&redis.url(); 3]).await;
    let steps = async {
        for (by, forward) in [
            (60 * MINUTE, true),
            (PER, true),
            (90 * MINUTE, false),
            (PER, false),
            (MINUTE, true),
        ] {
            sleep(6 * PER).await;
            clock.step(by, forward);
        }
    };
    tokio::join!(refuses_nothing(&strict, &daemons, "set"), steps);
}

/// Two replicas. The first has loaded an answer, and nine minutes have passed.
async fn nine_minutes_later(crm: &FakeCrm, redis: &RedisServer) -> Vec<TestDaemon> {
    let daemons = replicas(crm, &redis.url(), 2).await;
    daemons[0].find(find()).await.unwrap();
    for daemon in &daemons {
        daemon.clock.advance(9 * MINUTE);
    }
    daemons
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn no_answer_seems_younger_than_it_is_because_the_clock_of_redis_was_set_back() {
    let clocks = Clocks::compile();
    let (crm, (redis, clock)) = (FakeCrm::start(ada).await, redis(&clocks).await);
    let daemons = nine_minutes_later(&crm, &redis).await;
    clock.step(5 * MINUTE, false);
    noticed().await;
    let answer = daemons[1].find(find()).await.unwrap();
    let lookup = answer.lookup.clone().unwrap();
    let age = lookup.age.unwrap_or_default().seconds;
    assert!(
        lookup.source() == Source::Crm || age >= 9 * 60,
        "{lookup:?}"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn answers_are_shared_again_after_the_clock_of_redis_was_set() {
    let clocks = Clocks::compile();
    let (crm, (redis, clock)) = (FakeCrm::start(ada).await, redis(&clocks).await);
    let daemons = replicas(&crm, &redis.url(), 2).await;
    for forward in [true, false] {
        clock.step(60 * MINUTE, forward);
        noticed().await;
        let name = format!("Ada {forward}");
        let told = name.clone();
        crm.becomes(move |seen| named(&told, seen));
        daemons[0].clock.advance(60 * 24 * MINUTE);
        daemons[1].clock.advance(60 * 24 * MINUTE);
        assert_eq!(names(&daemons[0].find(find()).await.unwrap()), [&name]);
        let answer = daemons[1].find(find()).await.unwrap();
        let lookup = answer.lookup.clone().unwrap();
        assert_eq!(names(&answer), [&name]);
        assert_eq!(lookup.source(), Source::Redis);
        assert!(lookup.age.unwrap_or_default().seconds <= 2, "{lookup:?}");
    }
}
