//! Invalidations while a load is under way or a replica is cut off.

use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::{FindContactRequest, InvalidateContactsRequest, PhoneNumbers};
use tonic::Code;

use crate::support::chaos::{ChaosProxy, Mode};
use crate::support::daemon::{Changed as _, details, names};
use crate::support::fleet::{
    ada, answers, everything, forget, named, number, redis_is, replica, replicas, source,
    the_number,
};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, eventually, find};

/// How long a replica may take to apply an invalidation.
const SOON: Duration = Duration::from_secs(5);

/// A CRM that takes its time.
fn slow_ada(seen: &crate::support::crm::Seen) -> Reply {
    ada(seen).after(Duration::from_millis(600))
}

/// A load at one replica, and in the middle of it an invalidation at `at`. Afterwards nobody serves
/// what it brought.
async fn in_the_middle_of_a_load(scope: Scope, at: usize) {
    let (crm, redis) = (FakeCrm::start(slow_ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 2).await;
    let forgetting = async {
        eventually("the load is under way", || crm.searches() == 1).await;
        forget(&daemons[at], scope).await.unwrap();
        // The deals of the old answer are still to be asked for.
        crm.becomes(|seen| named("Ada King", seen));
    };
    let (old, ()) = tokio::join!(daemons[0].find(find()), forgetting);
    assert_eq!(
        names(&old.unwrap()),
        ["Ada"],
        "who asked before gets what was true then"
    );
    for daemon in &daemons {
        answers(daemon, "Ada King", SOON).await;
    }
    let after = crm.searches();
    for daemon in &daemons {
        assert_eq!(
            names(&daemon.find(find()).await.unwrap()),
            ["Ada King"],
            "and it stays so"
        );
    }
    assert_eq!(crm.searches(), after, "from a tier");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_load_that_began_before_its_number_was_invalidated_here_fills_no_tier() {
    in_the_middle_of_a_load(the_number(), 0).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_load_that_began_before_its_number_was_invalidated_elsewhere_fills_no_tier() {
    in_the_middle_of_a_load(the_number(), 1).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_load_that_began_before_its_user_was_erased_here_fills_no_tier() {
    in_the_middle_of_a_load(everything(), 0).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_load_that_began_before_its_user_was_erased_elsewhere_fills_no_tier() {
    in_the_middle_of_a_load(everything(), 1).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_load_under_way_while_its_user_is_erased_leaves_no_key() {
    let (crm, redis) = (FakeCrm::start(slow_ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 1).await;
    let before = users(&redis);
    let forgetting = async {
        eventually("the load is under way", || crm.searches() == 1).await;
        assert_ne!(users(&redis), before, "the load has begun in Redis");
        forget(&daemons[0], everything()).await.unwrap();
    };
    let (found, ()) = tokio::join!(daemons[0].find(find()), forgetting);
    found.unwrap();
    // What the load writes at its end, it writes before it answers.
    assert_eq!(users(&redis), before);
}

/// The keys that belong to users.
fn users(redis: &RedisServer) -> Vec<String> {
    let shared = ["{log}", "{q:"];
    redis
        .keys()
        .into_iter()
        .filter(|key| !shared.iter().any(|part| key.contains(part)))
        .collect()
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_replica_that_was_cut_off_from_the_log_is_right_within_seconds_of_its_return() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let proxy = ChaosProxy::before(format!("127.0.0.1:{}", redis.port).parse().unwrap()).await;
    let teller = replica(&crm, &redis.url(), "").await;
    let cut_off = replica(&crm, &format!("redis://{}", proxy.addr), "").await;
    for (name, mode, scope) in [
        ("Ada King", Mode::Stall, the_number()),
        ("Ada Byron", Mode::Refuse, everything()),
        ("Ada Lovelace", Mode::Cut, the_number()),
    ] {
        cut_off.find(find()).await.unwrap();
        proxy.becomes(mode).await;
        redis_is(&cut_off, false).await;
        crm.becomes(move |seen| named(name, seen));
        forget(&teller, scope).await.unwrap();
        assert_eq!(names(&teller.find(find()).await.unwrap()), [name]);
        proxy.restore().await;
        redis_is(&cut_off, true).await;
        answers(&cut_off, name, SOON).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_replica_whose_redis_was_flushed_trusts_nothing_that_it_had() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 2).await;
    for daemon in &daemons {
        daemon.find(find()).await.unwrap();
    }
    crm.becomes(|seen| named("Ada King", seen));
    forget(&daemons[0], the_number()).await.unwrap();
    // The message goes with all the rest, most likely before it was read.
    redis.flush();
    for daemon in &daemons {
        answers(daemon, "Ada King", SOON).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn what_was_invalidated_does_not_come_back_with_older_data_of_redis() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 2).await;
    daemons[0].find(find()).await.unwrap();
    let before = redis.dump();
    crm.becomes(|seen| named("Ada King", seen));
    forget(&daemons[0], the_number()).await.unwrap();
    // As after a failover to a server that lagged behind.
    clock::sleep(Duration::from_millis(500)).await;
    redis.set_back(&before);
    for daemon in &daemons {
        answers(daemon, "Ada King", SOON).await;
    }
}

/// Before a replica notices it, it may have read an invalidated answer.
#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn what_is_in_memory_does_not_count_once_redis_has_older_data() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 1).await;
    let before = redis.dump();
    daemons[0].find(find()).await.unwrap();
    assert_eq!(
        source(&daemons[0].find(find()).await.unwrap()),
        contactd::pb::v1::Source::Memory
    );
    clock::sleep(Duration::from_millis(500)).await;
    crm.becomes(|seen| named("Ada King", seen));
    redis.set_back(&before);
    answers(&daemons[0], "Ada King", SOON).await;
}

/// Until its next poll, a replica that reaches Redis again does not know which data Redis has.
#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn nothing_of_older_data_counts_at_a_replica_that_reaches_redis_again() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let proxy = ChaosProxy::before(format!("127.0.0.1:{}", redis.port).parse().unwrap()).await;
    let other = replica(&crm, &redis.url(), "").await;
    let cut_off = replica(&crm, &format!("redis://{}", proxy.addr), "").await;
    cut_off.find(find()).await.unwrap();
    let asked = FindContactRequest {
        only_if_cached: true,
        ..find().number(&number(1))
    };
    other.find(find().number(&number(1))).await.unwrap();
    let before = redis.dump();
    forget(&other, everything()).await.unwrap();
    // As after a failover to a server that lagged behind.
    clock::sleep(Duration::from_millis(500)).await;
    proxy.becomes(Mode::Refuse).await;
    redis_is(&cut_off, false).await;
    redis.set_back(&before);
    proxy.restore().await;
    let reached = redis_is(&cut_off, true);
    let asks_all_the_time = async {
        loop {
            let answer = cut_off.find(asked.clone()).await;
            assert_eq!(
                answer.map(|_| ()).unwrap_err().code(),
                Code::NotFound,
                "it was invalidated"
            );
        }
    };
    tokio::select! { () = reached => {}, () = asks_all_the_time => {} }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_invalidation_that_does_not_reach_redis_is_reported_as_failed() {
    let (crm, mut redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 1).await;
    daemons[0].find(find()).await.unwrap();
    redis.stop();
    redis_is(&daemons[0], false).await;
    crm.becomes(|seen| named("Ada King", seen));
    let status = forget(&daemons[0], the_number()).await.unwrap_err();
    assert_eq!(
        crate::support::daemon::details(&status).reason,
        "REDIS_UNAVAILABLE"
    );
    let here = daemons[0].find(find()).await.unwrap();
    assert_eq!(
        names(&here),
        ["Ada King"],
        "this replica has forgotten all the same"
    );
    assert_eq!(source(&here), contactd::pb::v1::Source::Crm);
}

/// A replica whose connection to Redis has just left a call without an answer.
async fn in_doubt(redis: &RedisServer) -> (FakeCrm, TestDaemon, ChaosProxy) {
    let crm = FakeCrm::start(ada).await;
    let proxy = ChaosProxy::before(format!("127.0.0.1:{}", redis.port).parse().unwrap()).await;
    // A silence of twice the timeout is still short.
    let daemon = replica(&crm, &format!("redis://{}", proxy.addr), "timeout = \"1s\"").await;
    daemon.find(find()).await.unwrap();
    proxy.becomes(Mode::Stall).await;
    let status = async || daemon.page("/status.json").await.1;
    let doubted = async {
        while status().await.contains("\"failures_in_a_row\":0") {
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(clock::timeout(SOON, doubted).await.is_some());
    (crm, daemon, proxy)
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_invalidation_waits_for_a_redis_that_is_silent_for_a_moment() {
    for scope in [the_number(), everything()] {
        let redis = RedisServer::start().await;
        let (crm, daemon, proxy) = in_doubt(&redis).await;
        let other = replica(&crm, &redis.url(), "").await;
        assert_eq!(names(&other.find(find()).await.unwrap()), ["Ada"]);
        crm.becomes(|seen| named("Ada King", seen));
        let mut invalidation = std::pin::pin!(forget(&daemon, scope));
        let moment = Duration::from_millis(50);
        let early = clock::timeout(moment, &mut invalidation).await;
        assert!(early.is_none(), "it is still tried: {early:?}");
        proxy.restore().await;
        invalidation.await.expect("Redis answers again");
        answers(&other, "Ada King", SOON).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_invalidation_waits_for_a_silent_redis_no_longer_than_its_caller() {
    let redis = RedisServer::start().await;
    let (_crm, daemon, _proxy) = in_doubt(&redis).await;
    let mut request = tonic::Request::new(InvalidateContactsRequest {
        user: find().user,
        scope: Some(the_number()),
    });
    request.set_timeout(Duration::from_millis(500));
    let status = daemon.client.clone().invalidate_contacts(request).await;
    assert_eq!(details(&status.unwrap_err()).reason, "REDIS_UNAVAILABLE");
}

/// The keys of the log are there, and hold something of another type.
async fn an_invalidation_fails_over(key: &str) {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 2).await;
    for daemon in &daemons {
        daemon.find(find()).await.unwrap();
    }
    redis.run::<()>(&["SET", key, "of another type"]);
    crm.becomes(|seen| named("Ada King", seen));
    for scope in [the_number(), everything()] {
        let status = forget(&daemons[0], scope).await.unwrap_err();
        assert_eq!(
            (status.code(), details(&status).reason.as_str()),
            (Code::Unavailable, "REDIS_UNAVAILABLE"),
            "{key}"
        );
    }
    let here = daemons[0].find(find()).await.unwrap();
    assert_eq!(names(&here), ["Ada King"], "the answer is invalid here");
    redis.run::<u32>(&["DEL", key]);
    forget(&daemons[0], the_number()).await.unwrap();
    answers(&daemons[1], "Ada King", SOON).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_invalidation_fails_openly_if_the_counter_of_the_log_is_of_another_type() {
    an_invalidation_fails_over("contactd:{log}:h").await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_invalidation_fails_openly_if_the_stream_of_the_log_is_of_another_type() {
    an_invalidation_fails_over("contactd:{log}:s").await;
}

#[tokio::test]
async fn while_redis_is_away_all_numbers_are_invalid_here_and_the_caller_gets_an_error() {
    let (crm, mut redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemon = replica(&crm, &redis.url(), "").await;
    for n in 1..=3 {
        daemon.find(find().number(&number(n))).await.unwrap();
    }
    redis.stop();
    redis_is(&daemon, false).await;
    let numbers = PhoneNumbers {
        phone_numbers: (1..=3).map(number).collect(),
    };
    let told = forget(&daemon, Scope::Numbers(numbers)).await.unwrap_err();
    assert_eq!(details(&told).reason, "REDIS_UNAVAILABLE");
    for n in 1..=3 {
        let mut cached = find().number(&number(n));
        cached.only_if_cached = true;
        assert_eq!(
            daemon.find(cached).await.unwrap_err().code(),
            Code::NotFound,
            "number {n}"
        );
    }
}

#[tokio::test]
async fn a_number_that_cannot_be_read_does_not_pass_for_invalidated() {
    let crm = FakeCrm::start(ada).await;
    let daemon = crate::support::TestDaemon::over(&crm).await;
    let scope = |text: &str| {
        Scope::Numbers(PhoneNumbers {
            phone_numbers: vec![text.to_owned()],
        })
    };
    let told = forget(&daemon, scope("6505551234")).await.unwrap_err();
    assert_eq!(
        (told.code(), details(&told).fields),
        (
            Code::InvalidArgument,
            vec!["numbers.phone_numbers[0]".to_owned()]
        )
    );
    forget(&daemon, scope("4711"))
        .await
        .expect("may be an extension");
}
