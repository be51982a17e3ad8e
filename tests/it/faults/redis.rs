//! Redis behind a fault proxy, and Redis that refuses.

use std::ops::Range;
use std::time::Duration;

use contactd::clock::Stopwatch;
use contactd::pb::v1::Source;

use super::{loopback, promptly};
use crate::prefetch::{batch, run};
use crate::support::chaos::{ChaosProxy, Mode};
use crate::support::daemon::{Changed as _, TestDaemon, find, names};
use crate::support::fleet::{ada, named, number, redis_is, replica, source};
use crate::support::ports::free_port;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, eventually};

/// A quota that is in nobody's way.
const FREE: &str = "[connectors.example.quota]\nrate = 10000\nper = \"1s\"\nburst = 10000\n";

/// Asks for each of these numbers twice, the second time from memory.
async fn all_are_answered(daemon: &TestDaemon, numbers: Range<usize>) {
    for n in numbers {
        let first = promptly(daemon, n).await.unwrap();
        assert_eq!(names(&first), ["Ada"]);
        assert_eq!(names(&promptly(daemon, n).await.unwrap()), ["Ada"]);
    }
}

async fn time_of(look_ups: impl Future<Output = ()>) -> Duration {
    let stopwatch = Stopwatch::start();
    look_ups.await;
    stopwatch.elapsed()
}

/// What `daemon` loads from now on is shared again. On a busy machine a single command may come too
/// late for Redis' timeout.
async fn it_is_shared_again(daemon: &TestDaemon, other: &TestDaemon, first: usize) {
    for n in first..first + 10 {
        promptly(daemon, n).await.unwrap();
        let answer = promptly(other, n).await.unwrap();
        assert_eq!(names(&answer), ["Ada"]);
        if source(&answer) == Source::Redis {
            return;
        }
    }
    panic!("none of ten answers was shared");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn whatever_the_connection_to_redis_does_look_ups_are_answered_and_it_recovers() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let proxy = ChaosProxy::before(loopback(redis.port)).await;
    let daemon = replica(&crm, &format!("redis://{}", proxy.addr), FREE).await;
    let other = replica(&crm, &redis.url(), FREE).await;
    let alone = TestDaemon::with(&crm, "example", FREE).await;
    let modes = [
        Mode::Refuse,
        Mode::Stall,
        Mode::Cut,
        Mode::Slow(Duration::from_millis(200)),
    ];
    for (round, mode) in modes.into_iter().enumerate() {
        let first = round * 1000;
        all_are_answered(&daemon, first..first + 3).await;
        proxy.becomes(mode).await;
        all_are_answered(&daemon, first..first + 20).await;
        redis_is(&daemon, false).await;
        // From here on no look-up waits for Redis. If each one did, they would take five seconds
        // longer than without Redis, on a machine as busy as this one is now.
        let (took, without) = tokio::join!(
            time_of(all_are_answered(&daemon, first + 100..first + 200)),
            time_of(all_are_answered(&alone, first + 100..first + 200)),
        );
        assert!(
            took < without + Duration::from_millis(2500),
            "{mode:?}: {took:?}, and without Redis {without:?}"
        );
        assert_eq!(
            daemon.metric("contactd_redis_up").await,
            Some(0.0),
            "{mode:?}: still down"
        );
        proxy.restore().await;
        redis_is(&daemon, true).await;
        it_is_shared_again(&daemon, &other, first + 900).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_redis_slower_than_its_timeout_fails_no_look_up_and_one_within_it_is_used() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let proxy = ChaosProxy::before(loopback(redis.port)).await;
    // Replies are 40 ms late, and the timeout is 50 ms: now and then one comes too late.
    let daemon = replica(&crm, &format!("redis://{}", proxy.addr), FREE).await;
    proxy.becomes(Mode::Slow(Duration::from_millis(40))).await;
    all_are_answered(&daemon, 0..20).await;
    // Replies are 150 ms late, and the timeout is two seconds: none comes too late.
    let patient = format!("timeout = \"2s\"\n{FREE}");
    let (one, other) = (
        replica(&crm, &format!("redis://{}", proxy.addr), &patient).await,
        replica(&crm, &format!("redis://{}", proxy.addr), &patient).await,
    );
    proxy.becomes(Mode::Slow(Duration::from_millis(150))).await;
    it_is_shared_again(&one, &other, 100).await;
    assert_eq!(one.metric("contactd_redis_up").await, Some(1.0));
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_password_that_is_refused_costs_redis_and_no_look_up() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let url = redis.url().replace("://", "://contactd:pw@");
    let daemon = TestDaemon::with(&crm, "example", &format!("[redis]\nurl = \"{url}\"\n")).await;
    all_are_answered(&daemon, 0..10).await;
    redis_is(&daemon, false).await;
    redis.run::<()>(&[
        "ACL", "SETUSER", "contactd", "on", ">pw", "~*", "&*", "+@all",
    ]);
    redis_is(&daemon, true).await;
    let other = replica(&crm, &url, FREE).await;
    it_is_shared_again(&daemon, &other, 100).await;
    redis.run::<()>(&["ACL", "DELUSER", "contactd"]);
    all_are_answered(&daemon, 200..210).await;
    redis_is(&daemon, false).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_read_only_or_full_redis_answers_what_it_has_and_fails_no_look_up() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let (daemon, other) = (
        replica(&crm, &redis.url(), FREE).await,
        replica(&crm, &redis.url(), FREE).await,
    );
    let port = free_port().to_string();
    let (full, free) = (
        ["CONFIG", "SET", "maxmemory", "1"],
        ["CONFIG", "SET", "maxmemory", "0"],
    );
    let (follow, lead) = (
        ["REPLICAOF", "127.0.0.1", &port],
        ["REPLICAOF", "NO", "ONE"],
    );
    for (first, fault, remedy) in [(0, &full[..], &free[..]), (1000, &follow[..], &lead[..])] {
        promptly(&daemon, first).await.unwrap();
        redis.run::<()>(fault);
        let kept = promptly(&other, first).await.unwrap();
        assert_eq!(
            source(&kept),
            Source::Redis,
            "{fault:?}: reading needs nothing"
        );
        all_are_answered(&daemon, first + 1..first + 20).await;
        redis.run::<()>(remedy);
        redis_is(&daemon, true).await;
        it_is_shared_again(&daemon, &other, first + 900).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn keys_of_another_type_fail_no_look_up() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let (daemon, other) = (
        replica(&crm, &redis.url(), FREE).await,
        replica(&crm, &redis.url(), FREE).await,
    );
    all_are_answered(&daemon, 0..5).await;
    for key in redis.keys() {
        // What was a string is a list, and what was anything else is a string.
        let kind: String = redis.run(&["TYPE", &key]);
        redis.run::<()>(&["DEL", &key]);
        redis.run::<()>(&if kind == "string" {
            ["LPUSH", &key, "x"]
        } else {
            ["SET", &key, "x"]
        });
    }
    all_are_answered(&other, 0..20).await;
    all_are_answered(&daemon, 20..40).await;
    redis.flush();
    it_is_shared_again(&daemon, &other, 100).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_flush_in_the_middle_of_a_load_fails_nobody_and_the_next_load_is_shared() {
    let crm = FakeCrm::start(|seen| ada(seen).after(Duration::from_millis(400))).await;
    let redis = RedisServer::start().await;
    let (daemon, other) = (
        replica(&crm, &redis.url(), FREE).await,
        replica(&crm, &redis.url(), FREE).await,
    );
    let flush = async {
        eventually("the load is under way", || crm.searches() == 1).await;
        redis.flush();
    };
    let (answer, ()) = tokio::join!(daemon.find(find().number(&number(0))), flush);
    assert_eq!(names(&answer.unwrap()), ["Ada"]);
    // Nobody knows what was invalidated before the flush, so that answer is kept nowhere else.
    crm.becomes(|seen| named("Ada King", seen));
    assert_eq!(
        names(&other.find(find().number(&number(0))).await.unwrap()),
        ["Ada King"]
    );
    crm.becomes(ada);
    it_is_shared_again(&daemon, &other, 1).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_flush_in_the_middle_of_a_prefetch_fails_no_number_of_it() {
    let crm = FakeCrm::start(|seen| ada(seen).after(Duration::from_millis(20))).await;
    let redis = RedisServer::start().await;
    let daemon = replica(&crm, &redis.url(), FREE).await;
    let flush = async {
        eventually("the batch is under way", || crm.searches() >= 50).await;
        redis.flush();
    };
    let (told, ()) = tokio::join!(run(&daemon, batch((0..300).map(number).collect())), flush);
    let sums = told.finished.expect("it ends in peace");
    assert_eq!((sums.found, sums.failed), (300, 0));
    let other = replica(&crm, &redis.url(), FREE).await;
    let again = run(&other, batch((0..300).map(number).collect()))
        .await
        .finished
        .unwrap();
    assert!(
        again.already_cached > 100,
        "what came after the flush is shared: {again:?}"
    );
}
