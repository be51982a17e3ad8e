//! Several replicas over one Redis.

use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::{InvalidateContactsRequest, PhoneNumbers, Source};
use futures_util::future::join_all;

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, names};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

async fn replicas(crm: &FakeCrm, redis: &RedisServer, count: usize) -> Vec<TestDaemon> {
    let section = format!("[redis]\nurl = \"{}\"\n", redis.url());
    let mut daemons = Vec::new();
    for _ in 0..count {
        let daemon = TestDaemon::with(crm, "example", &section).await;
        let up = async {
            while daemon.metric("contactd_redis_up").await != Some(1.0) {
                clock::pause(Duration::from_millis(10)).await;
            }
        };
        clock::within(Duration::from_secs(10), up).await.expect("Redis is reached");
        // The first reading of the log empties memory once; it follows within milliseconds.
        clock::pause(Duration::from_millis(150)).await;
        daemons.push(daemon);
    }
    daemons
}

fn ada(seen: &crate::support::crm::Seen) -> Reply {
    example(seen, &[contact(1, "Ada", "+16505551234")])
}

fn forget(scope: Scope) -> InvalidateContactsRequest {
    InvalidateContactsRequest { user: find().user, scope: Some(scope) }
}

fn the_number() -> Scope {
    Scope::Numbers(PhoneNumbers { phone_numbers: vec!["+16505551234".to_owned()] })
}

#[tokio::test]
async fn an_answer_loaded_by_one_is_a_redis_hit_for_the_others() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis, 3).await;
    daemons[0].find(find()).await.unwrap();
    for daemon in &daemons[1..] {
        let first = daemon.find(find()).await.unwrap();
        assert_eq!((names(&first), first.lookup.as_ref().unwrap().source()), (vec!["Ada"], Source::Redis));
        assert_eq!(daemon.find(find()).await.unwrap().lookup.unwrap().source(), Source::Memory);
    }
    assert_eq!(crm.searches(), 1);
    for key in redis.keys() {
        assert!(!key.contains("6505551234") && !key.contains("user-1"), "{key}");
    }
}

#[tokio::test]
async fn three_replicas_with_a_hundred_callers_each_make_the_calls_of_one_look_up() {
    let (crm, redis) =
        (FakeCrm::start(|seen| ada(seen).after(Duration::from_millis(150))).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis, 3).await;
    let callers = daemons.iter().flat_map(|daemon| (0..100).map(move |_| daemon.find(find())));
    let answers = join_all(callers).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| names(answer) == ["Ada"])));
    // The credential of each replica's first caller is known to Redis once one of them has used it.
    assert_eq!(crm.seen().len(), 2, "one search and one list of deals");
}

#[tokio::test]
async fn what_is_forgotten_at_one_is_forgotten_at_all_within_a_second() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis, 3).await;
    for daemon in &daemons {
        daemon.find(find()).await.unwrap();
    }
    crm.becomes(|seen| example(seen, &[contact(1, "Ada King", "+16505551234")]));
    daemons[0].client.clone().invalidate_contacts(forget(the_number())).await.unwrap();
    let told = async {
        for daemon in &daemons {
            while names(&daemon.find(find()).await.unwrap()) != ["Ada King"] {
                clock::pause(Duration::from_millis(20)).await;
            }
        }
    };
    clock::within(Duration::from_secs(1), told).await.expect("all replicas have forgotten");
}

#[tokio::test]
async fn a_load_that_began_before_the_invalidation_fills_no_tier() {
    let (crm, redis) =
        (FakeCrm::start(|seen| ada(seen).after(Duration::from_millis(300))).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis, 2).await;
    let loading = daemons[0].find(find());
    let forgetting = async {
        eventually("the load is under way", || crm.searches() == 1).await;
        daemons[0].client.clone().invalidate_contacts(forget(the_number())).await.unwrap();
        crm.becomes(|seen| example(seen, &[contact(1, "Ada King", "+16505551234")]));
    };
    let (old, ()) = tokio::join!(loading, forgetting);
    assert_eq!(names(&old.unwrap()), ["Ada"]);
    for daemon in &daemons {
        assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada King"]);
    }
}

#[tokio::test]
async fn erasing_a_user_leaves_no_key_of_theirs() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis, 1).await;
    let before: Vec<String> = redis.keys();
    for number in ["+16505551234", "+16505550000", "+16505550001"] {
        daemons[0].find(find().number(number)).await.unwrap();
    }
    assert!(redis.keys().len() > before.len());
    daemons[0].client.clone().invalidate_contacts(forget(Scope::Everything(true))).await.unwrap();
    let left: Vec<String> = redis
        .keys()
        .into_iter()
        .filter(|key| key.contains('{') && !key.contains("log") && !key.contains("{q:") && !key.ends_with(":q"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let searches = crm.searches();
    daemons[0].find(find()).await.unwrap();
    assert_eq!(crm.searches(), searches + 1);
}

#[tokio::test]
async fn redis_going_away_and_coming_back_fails_no_look_up() {
    let (crm, mut redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis, 1).await;
    daemons[0].find(find()).await.unwrap();
    redis.stop();
    assert_eq!(daemons[0].find(find()).await.unwrap().lookup.unwrap().source(), Source::Memory);
    assert_eq!(daemons[0].find(find().number("+16505550000")).await.unwrap().lookup.unwrap().source(), Source::Crm);
    redis.restart().await;
    let back = async {
        while daemons[0].metric("contactd_redis_up").await != Some(1.0) {
            clock::pause(Duration::from_millis(20)).await;
        }
    };
    clock::within(Duration::from_secs(10), back).await.expect("it comes back by itself");
    daemons[0].find(find().number("+16505550001")).await.unwrap();
    assert!(redis.keys().iter().any(|key| key.contains(":n:")), "and answers are kept there again");
}
