//! Several replicas over one Redis.

mod clock_steps;
mod forgetting;
mod loads;
mod lost_counts;
mod quota;
mod scripts;
mod strict;
mod totals;

use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::Source;
use futures_util::future::join_all;

use crate::support::daemon::{Changed as _, names};
use crate::support::fleet::{
    ada, answers, everything, forget, named, number, redis_is, replicas, source, the_number,
};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, find};

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_answer_loaded_by_one_is_a_redis_hit_for_the_others() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 3).await;
    daemons[0].find(find()).await.unwrap();
    for daemon in &daemons[1..] {
        let first = daemon.find(find()).await.unwrap();
        assert_eq!(
            (names(&first), first.lookup.as_ref().unwrap().source()),
            (vec!["Ada"], Source::Redis)
        );
        assert_eq!(
            daemon.find(find()).await.unwrap().lookup.unwrap().source(),
            Source::Memory
        );
    }
    assert_eq!(crm.searches(), 1);
    for key in redis.keys() {
        assert!(
            !key.contains("6505551234") && !key.contains("user-1"),
            "{key}"
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn three_replicas_with_a_hundred_callers_each_make_the_calls_of_one_look_up() {
    let (crm, redis) = (
        FakeCrm::start(|seen| ada(seen).after(Duration::from_millis(150))).await,
        RedisServer::start().await,
    );
    let daemons = replicas(&crm, &redis.url(), 3).await;
    let callers = daemons
        .iter()
        .flat_map(|daemon| (0..100).map(move |_| daemon.find(find())));
    let answers = join_all(callers).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|answer| names(answer) == ["Ada"]))
    );
    let from_crm = answers
        .iter()
        .flatten()
        .filter(|answer| source(answer) == Source::Crm)
        .count();
    assert_eq!(from_crm, 100, "only the callers of the replica that asked");
    // The credential of each replica's first caller is known to Redis once one of them has used it.
    assert_eq!(crm.seen().len(), 2, "one search and one list of deals");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn what_is_forgotten_at_one_is_forgotten_at_all_within_a_second() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 3).await;
    for daemon in &daemons {
        daemon.find(find()).await.unwrap();
    }
    crm.becomes(|seen| named("Ada King", seen));
    forget(&daemons[0], the_number()).await.unwrap();
    let told = daemons
        .iter()
        .map(|daemon| answers(daemon, "Ada King", Duration::from_secs(1)));
    join_all(told).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn erasing_a_user_leaves_no_key_of_theirs() {
    let (crm, redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 1).await;
    let before: Vec<String> = redis.keys();
    for number in ["+16505551234", "+16505550000", "+16505550001"] {
        daemons[0].find(find().number(number)).await.unwrap();
    }
    assert!(redis.keys().len() > before.len());
    forget(&daemons[0], everything()).await.unwrap();
    let left: Vec<String> = redis
        .keys()
        .into_iter()
        .filter(|key| {
            key.contains('{')
                && !key.contains("log")
                && !key.contains("{q:")
                && !key.ends_with(":q")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let searches = crm.searches();
    daemons[0].find(find()).await.unwrap();
    assert_eq!(crm.searches(), searches + 1);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn redis_going_away_and_coming_back_fails_no_look_up() {
    let (crm, mut redis) = (FakeCrm::start(ada).await, RedisServer::start().await);
    let daemons = replicas(&crm, &redis.url(), 1).await;
    daemons[0].find(find()).await.unwrap();
    redis.stop();
    assert_eq!(
        daemons[0]
            .find(find())
            .await
            .unwrap()
            .lookup
            .unwrap()
            .source(),
        Source::Memory
    );
    assert_eq!(
        daemons[0]
            .find(find().number("+16505550000"))
            .await
            .unwrap()
            .lookup
            .unwrap()
            .source(),
        Source::Crm
    );
    redis.restart().await;
    redis_is(&daemons[0], true).await;
    // From the next poll of the log on.
    let kept_again = async {
        for n in 1.. {
            daemons[0].find(find().number(&number(n))).await.unwrap();
            if redis.keys().iter().any(|key| key.contains(":a:")) {
                break;
            }
        }
    };
    let waited = clock::timeout(Duration::from_secs(5), kept_again).await;
    assert!(waited.is_some(), "and answers are kept there again");
}
