//! One quota for the whole fleet, as the CRM counts the calls.

use std::sync::Arc;
use std::time::Duration;

use contactd::clock::{Stopwatch, sleep};
use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::prefetch::{batch, run};
use crate::support::crm::{Seen, example};
use crate::support::daemon::Changed as _;
use crate::support::fleet::{everything, forget, number, redis_is, replica};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, TestDaemon, eventually, find};

const RATE: usize = 20;
const BURST: usize = 6;

/// Long enough to tell one quota from three.
const CALLS: usize = 90;

/// A CRM that knows nobody, so that a look-up is one call, and when it was called.
struct Counting {
    crm: FakeCrm,
    calls: Arc<Mutex<Vec<Duration>>>,
}

impl Counting {
    async fn start() -> Self {
        let calls = Arc::<Mutex<Vec<Duration>>>::default();
        let (log, stopwatch) = (Arc::clone(&calls), Stopwatch::start());
        let crm = FakeCrm::start(move |seen| {
            log.lock().push(stopwatch.elapsed());
            example(seen, &[])
        })
        .await;
        Self { crm, calls }
    }

    /// The most calls within any second.
    fn busiest_second(&self) -> usize {
        let calls = self.calls.lock();
        let within = |start: &Duration| {
            calls
                .iter()
                .filter(|call| (*start..*start + Duration::from_secs(1)).contains(*call))
                .count()
        };
        calls.iter().map(within).max().unwrap_or(0)
    }

    /// Three replicas on one quota.
    async fn fleet(&self, redis: &RedisServer) -> Vec<TestDaemon> {
        let quota = format!(
            "[connectors.example.quota]\nrate = {RATE}\nper = \"1s\"\nburst = {BURST}\nprefetch_share = 1.0"
        );
        let mut daemons = Vec::new();
        for _ in 0..3 {
            daemons.push(replica_with(&self.crm, redis, &quota).await);
        }
        daemons
    }
}

/// A connector's quota stands behind its section.
async fn replica_with(crm: &FakeCrm, redis: &RedisServer, quota: &str) -> TestDaemon {
    let url = redis.url();
    let toml = format!(
        "[redis]\nurl = \"{url}\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    redis_is(&daemon, true).await;
    daemon
}

/// So many look-ups, spread over all replicas and begun at once.
async fn flood(daemons: &[TestDaemon], first: usize) {
    let calls = (first..first + CALLS).map(|n| {
        let daemon = &daemons[n % daemons.len()];
        daemon.find(find().number(&number(n)).within(Duration::from_secs(60)))
    });
    for answer in join_all(calls).await {
        answer.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_flood_on_three_replicas_stays_within_the_quota_of_one() {
    let (counting, redis) = (Counting::start().await, RedisServer::start().await);
    let daemons = counting.fleet(&redis).await;
    let stopwatch = Stopwatch::start();
    flood(&daemons, 0).await;
    let took = stopwatch.elapsed();
    assert_eq!(
        counting.calls.lock().len(),
        CALLS + 3,
        "and each replica has asked whose credential it is"
    );
    assert!(
        counting.busiest_second() <= RATE,
        "{} calls in a second",
        counting.busiest_second()
    );
    // And it is used: with a third of it for each the slowest would take three times as long at
    // least.
    let least = Duration::from_secs_f64((CALLS - BURST) as f64 / RATE as f64);
    assert!(
        took >= least - Duration::from_millis(50),
        "{took:?} of {least:?}"
    );
    let waited = daemons[0]
        .metric("contactd_quota_wait_seconds_count{platform=\"example\",lane=\"call_pop\"}")
        .await;
    assert_eq!(waited, Some(31.0), "each call's wait is counted");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn while_redis_is_away_each_replica_keeps_to_its_share_of_the_quota() {
    let (counting, mut redis) = (Counting::start().await, RedisServer::start().await);
    let daemons = counting.fleet(&redis).await;
    // Each hears within a poll of the log how many there are.
    sleep(Duration::from_secs(1)).await;
    redis.stop();
    for daemon in &daemons {
        redis_is(daemon, false).await;
    }
    flood(&daemons, 0).await;
    assert!(
        counting.busiest_second() <= RATE,
        "{} calls in a second",
        counting.busiest_second()
    );
    redis.restart().await;
    for daemon in &daemons {
        redis_is(daemon, true).await;
    }
    counting.calls.lock().clear();
    flood(&daemons, CALLS).await;
    assert!(
        counting.busiest_second() <= RATE,
        "and together again once it is back"
    );
    assert!(
        redis.keys().iter().any(|key| key.contains("{q:")),
        "{:?}",
        redis.keys()
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_429_at_one_replica_pauses_the_others() {
    let redis = RedisServer::start().await;
    let crm =
        FakeCrm::start(|_| crate::support::Reply::status(429).header("retry-after", "2")).await;
    let (one, other) = (
        replica(&crm, &redis.url(), "").await,
        replica(&crm, &redis.url(), "").await,
    );
    one.find(find()).await.unwrap_err();
    let asked = crm.seen().len();
    crm.becomes(|seen| example(seen, &[]));
    let refused = other
        .find(find().number(&number(1)).within(Duration::from_millis(500)))
        .await
        .unwrap_err();
    assert_eq!(
        crate::support::daemon::details(&refused).reason,
        "BUDGET_EXHAUSTED"
    );
    assert_eq!(crm.seen().len(), asked, "it was not asked on");
    other
        .find(find().number(&number(1)).within(Duration::from_secs(30)))
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_pause_that_another_replica_has_set_holds_on_while_redis_is_away() {
    let mut redis = RedisServer::start().await;
    let refuse = |_: &Seen| crate::support::Reply::status(429).header("retry-after", "60");
    let crm = FakeCrm::start(refuse).await;
    let one = replica(&crm, &redis.url(), "").await;
    let other = replica(&crm, &redis.url(), "").await;
    one.find(find()).await.unwrap_err();
    crm.becomes(|seen| example(seen, &[]));
    let asked = crm.seen().len();
    let ring = find().number(&number(1)).within(Duration::from_millis(500));
    other.find(ring).await.unwrap_err();
    redis.stop();
    // Longer than until Redis is asked again, and until the replica counts for itself.
    let waits = run(&other, batch(vec![number(2)]));
    let told = contactd::clock::timeout(Duration::from_secs(9), waits).await;
    assert!(told.is_none(), "{told:?}");
    assert_eq!(crm.seen().len(), asked);
}

/// Two replicas know whose a credential is. One learns of a pause for the owner and for the
/// credential; a batch at the other waits. Another replica would end the pauses: here they are
/// deleted in Redis, one after the other in an order that depends on `first`.
async fn a_batch_goes_on_once_pauses_are_over(first: usize) {
    let redis = RedisServer::start().await;
    let crm = FakeCrm::start(|seen| example(seen, &[])).await;
    let one = replica(&crm, &redis.url(), "").await;
    let other = replica(&crm, &redis.url(), "").await;
    for (n, daemon) in [&one, &other].into_iter().enumerate() {
        daemon.find(find().number(&number(n))).await.unwrap();
    }
    crm.becomes(|_| crate::support::Reply::status(429).header("retry-after", "60"));
    one.find(find().number(&number(2))).await.unwrap_err();
    crm.becomes(|seen| example(seen, &[]));
    let paused = || {
        let counts = redis.keys().into_iter().filter(|key| key.contains("{q:"));
        let is_paused = |key: &String| {
            let is_hash = redis.run::<String>(&["TYPE", key]) == "hash";
            is_hash && redis.run::<bool>(&["HEXISTS", key, "rest"])
        };
        counts.filter(is_paused).collect::<Vec<_>>()
    };
    eventually("both pauses are in Redis", || paused().len() == 2).await;
    let mut paused = paused();
    paused.sort();
    let waits = run(&other, batch(vec![number(3)]));
    let pauses_end = async {
        // Long enough for the batch to ask once after the first end.
        for key in [&paused[first], &paused[1 - first]] {
            sleep(Duration::from_secs(7)).await;
            redis.run::<()>(&["HDEL", key, "rest", "share_rest"]);
        }
    };
    let both = futures_util::future::join(waits, pauses_end);
    let done = contactd::clock::timeout(Duration::from_secs(30), both).await;
    assert!(done.is_some_and(|(told, ())| told.status.is_none()));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_pause_of_the_owner_or_of_the_credential_that_another_replica_ends_ends_here_too() {
    futures_util::future::join(
        a_batch_goes_on_once_pauses_are_over(0),
        a_batch_goes_on_once_pauses_are_over(1),
    )
    .await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn counts_that_redis_cannot_keep_are_kept_by_each_replica() {
    let (counting, redis) = (Counting::start().await, RedisServer::start().await);
    let daemons = counting.fleet(&redis).await;
    daemons[0].find(find().number(&number(0))).await.unwrap();
    for key in redis.keys().into_iter().filter(|key| key.contains("{q:")) {
        redis.run::<()>(&["DEL", &key]);
        redis.run::<()>(&["SET", &key, "of another type"]);
    }
    for n in 1..4 {
        daemons[0]
            .find(find().number(&number(n)).within(Duration::from_secs(5)))
            .await
            .unwrap();
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_redis_whose_clock_was_set_back_is_used_again_within_seconds() {
    let (counting, redis) = (Counting::start().await, RedisServer::start().await);
    let daemons = counting.fleet(&redis).await;
    daemons[0].find(find().number(&number(0))).await.unwrap();
    let head = redis
        .keys()
        .into_iter()
        .find(|key| key.ends_with("{log}:h"))
        .unwrap();
    redis.run::<()>(&["HSET", &head, "since", "99999999999999"]);
    sleep(Duration::from_secs(1)).await;
    for n in 1..4 {
        daemons[0]
            .find(find().number(&number(n)).within(Duration::from_secs(5)))
            .await
            .unwrap();
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn phones_are_not_overtaken_once_another_replica_has_verified_their_credential() {
    let redis = RedisServer::start().await;
    let reply = |seen: &Seen| example(seen, &[]).after(Duration::from_millis(700));
    let crm = FakeCrm::start(reply).await;
    let quota = "[connectors.example.quota]\nrate = 4\nper = \"1s\"\nburst = 4";
    let (one, other) = (
        replica_with(&crm, &redis, quota).await,
        replica_with(&crm, &redis, quota).await,
    );
    // Both know whose credential it is, and it is not verified.
    for (n, daemon) in [&one, &other].into_iter().enumerate() {
        daemon.find(find().number(&number(n))).await.unwrap();
    }
    forget(&other, everything()).await.unwrap();
    // Their calls leave the window.
    sleep(Duration::from_secs(2)).await;
    let calls = || crm.seen().len() + crm.asked_who();
    let before = calls();
    let answered = Mutex::new(Vec::new());
    let ring = async |(daemon, group): (&TestDaemon, &'static str), n: usize| {
        let request = find().number(&number(n)).within(Duration::from_secs(14));
        daemon.find(request).await.unwrap();
        answered.lock().push(group);
    };
    let fill = join_all((2..5).map(|n| ring((&one, "verifies"), n)));
    let older = async {
        eventually("the window is full", || calls() >= before + 4).await;
        join_all((10..13).map(|n| ring((&other, "older"), n))).await
    };
    let younger = async {
        let is_verified = || answered.lock().contains(&"verifies");
        eventually("the credential is verified", is_verified).await;
        join_all((20..28).map(|n| ring((&other, "younger"), n))).await
    };
    tokio::join!(fill, older, younger);
    let mut answered = answered.into_inner();
    answered.retain(|group| *group != "verifies");
    // Four calls at a time are on the wire, and their replies come in any order.
    assert!(!answered[8..].contains(&"older"), "{answered:?}");
}
