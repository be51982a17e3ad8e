//! Three replicas and a strict CRM, while Redis loses what it has counted, or one of them does not
//! reach it.

use std::time::Duration;

use contactd::clock::sleep;
use futures_util::future::join_all;

use super::strict::{PER, RATE, fleet_at, refuses_nothing};
use crate::support::chaos::{ChaosProxy, Mode};
use crate::support::daemon::Changed as _;
use crate::support::fleet::{number, redis_is};
use crate::support::redis::{Dump, RedisServer};
use crate::support::strict::StrictCrm;
use crate::support::{eventually, find};

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_strict_crm_refuses_a_fleet_nothing_while_redis_loses_counts_or_one_replica() {
    tokio::join!(flushed(), evicted(), set_back(), cut_off());
}

/// All data goes at once, again and again, while the quota is in use.
async fn flushed() {
    let (strict, redis) = (
        StrictCrm::start(RATE, PER, 11).await,
        RedisServer::start().await,
    );
    let daemons = fleet_at(&strict, [&redis.url(); 3]).await;
    let flushes = async {
        for _ in 0..6 {
            sleep(5 * PER).await;
            redis.flush();
        }
    };
    tokio::join!(refuses_nothing(&strict, &daemons, "flushed"), flushes);
}

/// The counts go and the rest stays, as in a server that evicts.
async fn evicted() {
    let (strict, redis) = (
        StrictCrm::start(RATE, PER, 12).await,
        RedisServer::start().await,
    );
    let daemons = fleet_at(&strict, [&redis.url(); 3]).await;
    let evictions = async {
        for _ in 0..6 {
            sleep(5 * PER).await;
            evict_scopes(&redis);
        }
    };
    tokio::join!(refuses_nothing(&strict, &daemons, "evicted"), evictions);
}

/// The data is as it was some time ago, as after a failover to a server that lagged behind.
async fn set_back() {
    let (strict, redis) = (
        StrictCrm::start(RATE, PER, 13).await,
        RedisServer::start().await,
    );
    let daemons = fleet_at(&strict, [&redis.url(); 3]).await;
    let set_backs = async {
        for _ in 0..6 {
            sleep(2 * PER).await;
            let before = redis.dump();
            sleep(2 * PER).await;
            redis.set_back(&before);
        }
    };
    tokio::join!(refuses_nothing(&strict, &daemons, "set back"), set_backs);
}

/// One replica does not reach Redis for a while, and the others do.
async fn cut_off() {
    let (strict, redis) = (
        StrictCrm::start(RATE, PER, 14).await,
        RedisServer::start().await,
    );
    let proxy = ChaosProxy::before(([127, 0, 0, 1], redis.port).into()).await;
    let (url, behind) = (redis.url(), format!("redis://{}", proxy.addr));
    let daemons = fleet_at(&strict, [&url, &url, &behind]).await;
    let cuts = async {
        for mode in [Mode::Refuse, Mode::Stall, Mode::Refuse] {
            sleep(4 * PER).await;
            proxy.becomes(mode).await;
            sleep(5 * PER).await;
            proxy.restore().await;
        }
    };
    tokio::join!(refuses_nothing(&strict, &daemons, "one cut off"), cuts);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_limit_that_has_fallen_at_one_replica_has_fallen_at_all() {
    let (strict, redis) = (
        StrictCrm::start(3, PER, 15).await,
        RedisServer::start().await,
    );
    let url = redis.url();
    let daemons = fleet_at(&strict, [&url; 3]).await;
    for daemon in &daemons {
        redis_is(daemon, true).await;
    }
    // What counts is how often the CRM had to refuse, not the answer.
    let ask = async |daemon: usize, n: usize| {
        let _ = daemons[daemon]
            .find(find().number(&number(n)).within(Duration::from_secs(20)))
            .await;
    };
    let mut asked = 0;
    // Until the limit has fallen as far as it must.
    let mut round = async || {
        let before = strict.refused();
        join_all((asked..asked + 8).map(|n| ask(0, n))).await;
        asked += 8;
        strict.refused() - before
    };
    while round().await == 0 {}
    while round().await > 0 {}
    let before = strict.refused();
    join_all((1_000..1_008).map(|n| ask(1 + n % 2, n))).await;
    let more = strict.refused() - before;
    assert!(
        more <= 2,
        "{more} more refusals of {} calls, after {before}",
        strict.calls()
    );
}

/// A replica that has made no call lately asks first after the loss. `lose` also gets the data as
/// it was before the calls that are lost.
async fn after_a_loss(seed: u64, name: &str, lose: impl Fn(&RedisServer, &Dump)) {
    let (strict, redis) = (
        StrictCrm::start(RATE, PER, seed).await,
        RedisServer::start().await,
    );
    let url = redis.url();
    let daemons = fleet_at(&strict, [&url; 3]).await;
    let ask = |daemon: usize, n: usize| {
        daemons[daemon].find(find().number(&number(n)).within(Duration::from_secs(20)))
    };
    for (daemon, _) in daemons.iter().enumerate() {
        ask(daemon, daemon).await.unwrap();
    }
    sleep(8 * PER).await;
    let before = redis.dump();
    all_have_polled(&redis).await;
    join_all((100..100 + RATE).map(|n| ask(0, n))).await;
    lose(&redis, &before);
    join_all((200..200 + RATE).map(|n| ask(1, n))).await;
    assert_eq!(strict.refused(), 0, "{name}: of {} calls", strict.calls());
}

/// Each of three replicas has read the log since this was called.
async fn all_have_polled(redis: &RedisServer) {
    let [seconds, micros]: [u64; 2] = redis.run(&["TIME"]);
    let now = format!("({}", seconds * 1_000 + micros / 1_000);
    let log = redis
        .keys()
        .into_iter()
        .find(|key| key.ends_with("{log}:r"));
    let log = log.unwrap();
    let have_polled = || redis.run::<u32>(&["ZCOUNT", &log, &now, "+inf"]) == 3;
    eventually("all have read the log", have_polled).await;
}

/// The calls of all windows go, and what else is known of the scopes stays.
fn evict_calls(redis: &RedisServer) {
    evict(redis, |key| key.ends_with(":w") || key.ends_with(":b"));
}

/// All that is known of the scopes goes.
fn evict_scopes(redis: &RedisServer) {
    evict(redis, |_| true);
}

fn evict(redis: &RedisServer, is_evicted: impl Fn(&str) -> bool) {
    let keys = redis.keys().into_iter();
    for key in keys.filter(|key| key.contains("{q:") && is_evicted(key)) {
        redis.run::<u32>(&["DEL", &key]);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_loss_is_noticed_by_a_replica_that_has_no_call_under_way() {
    tokio::join!(
        after_a_loss(16, "evicted", |redis, _| evict_scopes(redis)),
        after_a_loss(17, "flushed", |redis, _| redis.flush()),
        after_a_loss(18, "calls evicted", |redis, _| evict_calls(redis)),
        after_a_loss(19, "set back", RedisServer::set_back),
    );
}
