//! Three replicas and a CRM that limits calls at once, or calls of a day.

use std::time::Duration;

use contactd::clock::sleep;
use futures_util::future::join_all;

use crate::support::at_once::AtOnceCrm;
use crate::support::daemon::{Changed as _, details};
use crate::support::fleet::number;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, TestDaemon, find};

const PLACES: usize = 5;
/// The time after which all replicas know each other and count in Redis.
const SETTLED: Duration = Duration::from_secs(6);

async fn fleet(crm: &FakeCrm, redis: &str, totals: &str) -> Vec<TestDaemon> {
    let mut daemons = Vec::new();
    for _ in 0..3 {
        daemons.push(replica(crm, redis, 3, totals).await);
    }
    daemons
}

async fn replica(crm: &FakeCrm, redis: &str, replicas: usize, totals: &str) -> TestDaemon {
    let toml = format!(
        "[redis]\nurl = \"{redis}\"\nreplicas = {replicas}\ntimeout = \"500ms\"\n[lookup]\ncall_timeout = \"1500ms\"\n\
         [connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n\
         quota = {{ rate = 100, per = \"1s\", burst = 100, {totals} }}\n",
        crm.url()
    );
    TestDaemon::after_others(&toml).await
}

/// Phones ring at all replicas, some together and some later. Returns why some had no answer.
async fn rings(daemons: &[TestDaemon], calls: usize, each: Duration) -> Vec<String> {
    let answers = (0..calls).map(async |n| {
        sleep(each * u32::try_from(n / 6).unwrap()).await;
        let request = || find().number(&number(n)).within(Duration::from_secs(25));
        let daemon = &daemons[n % daemons.len()];
        let reason = async || {
            let answer = daemon.find(request()).await;
            answer.err().map(|status| details(&status).reason)
        };
        match reason().await {
            // A busy machine was too slow for `call_timeout`.
            Some(slow) if slow == "CRM_UNAVAILABLE" => reason().await,
            reason => reason,
        }
    });
    join_all(answers).await.into_iter().flatten().collect()
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_fleet_never_has_more_calls_at_once_than_the_crm_allows_whatever_becomes_of_redis() {
    tokio::join!(there(), flushed(), killed_and_back(), away());
}

fn refused_nothing(strict: &AtOnceCrm, unanswered: Vec<String>, name: &str) {
    assert_eq!(strict.refused(), 0, "{name}: of {} calls", strict.calls());
    assert!(unanswered.is_empty(), "{name}: {unanswered:?}");
}

async fn there() {
    let redis = RedisServer::start().await;
    let strict = AtOnceCrm::start(PLACES, Duration::from_millis(300), 1).await;
    let daemons = fleet(&strict.crm, &redis.url(), "concurrent = 5").await;
    let unanswered = rings(&daemons, 150, Duration::from_millis(250)).await;
    refused_nothing(&strict, unanswered, "there");
    assert_eq!(strict.most(), PLACES, "all places are used");
}

async fn flushed() {
    let redis = RedisServer::start().await;
    let strict = AtOnceCrm::start(PLACES, Duration::from_millis(300), 2).await;
    let daemons = fleet(&strict.crm, &redis.url(), "concurrent = 5").await;
    let flushes = async {
        for _ in 0..4 {
            sleep(Duration::from_secs(4)).await;
            redis.flush();
        }
    };
    let (unanswered, ()) = tokio::join!(rings(&daemons, 150, Duration::from_millis(800)), flushes);
    refused_nothing(&strict, unanswered, "flushed");
}

async fn killed_and_back() {
    let mut redis = RedisServer::start().await;
    let strict = AtOnceCrm::start(PLACES, Duration::from_millis(300), 3).await;
    let daemons = fleet(&strict.crm, &redis.url(), "concurrent = 5").await;
    let outages = async {
        for (up, down) in [(4, 4_000), (4, 300), (4, 1_200)] {
            sleep(Duration::from_secs(up)).await;
            redis.stop();
            sleep(Duration::from_millis(down)).await;
            redis.restart().await;
        }
    };
    let (unanswered, ()) = tokio::join!(rings(&daemons, 150, Duration::from_millis(900)), outages);
    refused_nothing(&strict, unanswered, "killed and back");
}

async fn away() {
    let strict = AtOnceCrm::start(PLACES, Duration::from_millis(300), 4).await;
    let daemons = fleet(&strict.crm, "redis://127.0.0.1:1", "concurrent = 5").await;
    let unanswered = rings(&daemons, 60, Duration::from_millis(800)).await;
    refused_nothing(&strict, unanswered, "away");
    assert!(strict.most() <= 3, "each replica has its share");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_fleet_shares_a_day_and_a_restart_does_not_begin_it_again() {
    let (redis, crm) = (RedisServer::start().await, FakeCrm::with(vec![]).await);
    let totals = "per_day = 120";
    let mut daemons = fleet(&crm, &redis.url(), totals).await;
    // Until then a part of the day is left to the replicas that were not there yet.
    sleep(SETTLED).await;
    let unanswered = rings(&daemons, 100, Duration::from_millis(10)).await;
    let made = crm.seen().len() + crm.asked_who();
    assert!(unanswered.is_empty(), "after {made} calls: {unanswered:?}");
    assert!(made < 110, "{made} calls");
    daemons.clear();
    let daemons = fleet(&crm, &redis.url(), totals).await;
    sleep(SETTLED).await;
    let mut reasons = Vec::new();
    for n in 200..240 {
        let request = find().number(&number(n)).within(Duration::from_secs(5));
        let answer = daemons[n % 3].find(request).await;
        reasons.extend(answer.err().map(|status| details(&status).reason));
    }
    let made = crm.seen().len() + crm.asked_who();
    assert_eq!(made, 120, "the whole day and no more");
    assert!(reasons.len() > 10);
    assert!(
        reasons.iter().all(|reason| reason == "BUDGET_EXHAUSTED"),
        "{reasons:?}"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_day_that_redis_has_lost_is_spent_at_most_once_by_each_replica() {
    for (replicas, most) in [(1, 100), (3, 300)] {
        let (redis, crm) = (RedisServer::start().await, FakeCrm::with(vec![]).await);
        let url = redis.url();
        let daemons =
            join_all((0..replicas).map(|_| replica(&crm, &url, replicas, "per_day = 100"))).await;
        sleep(SETTLED).await;
        for flush in 0..3 {
            for n in 0..130 {
                let request = find().number(&number(flush * 200 + n));
                let _ = daemons[n % replicas]
                    .find(request.within(Duration::from_secs(4)))
                    .await;
            }
            redis.flush();
            sleep(SETTLED).await;
        }
        let made = crm.seen().len() + crm.asked_who();
        report(&format!(
            "{replicas} replicas made {made} calls of 100 in a day that was lost twice"
        ));
        assert!(
            made >= 100 && made <= most,
            "{replicas} replicas: {made} calls"
        );
    }
}

#[expect(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
fn report(figures: &str) {
    println!("{figures}");
}
