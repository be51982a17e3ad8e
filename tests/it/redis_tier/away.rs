//! Redis in trouble: what it costs, and how it comes back.

use std::time::Duration;

use contactd::clock::{Stopwatch, sleep};
use contactd::redis_link::{Link, LinkError};

use super::{begin, entry, key, load, store, stored};
use crate::support::eventually;
use crate::support::ports::free_port;
use crate::support::redis::{RedisServer, config, link_to, link_with, tier_on};

/// The timeout and what a busy machine adds; a call without a timeout would not end at all.
const AT_MOST: Duration = Duration::from_secs(2);

async fn ping(link: &Link) -> (Result<(), LinkError>, Duration) {
    let watch = Stopwatch::start();
    let pinged = link.query(redis::cmd("PING")).await;
    (pinged, watch.elapsed())
}

async fn comes_back(link: &Link) {
    eventually("the link is up again", || link.is_up()).await;
    assert_eq!(ping(link).await.0, Ok(()));
}

/// Asks until the connection is given up; each call fails within the timeout.
async fn goes_down(link: &Link) {
    for _ in 0..3 {
        let (pinged, took) = ping(link).await;
        assert!(pinged.is_err());
        assert!(took < AT_MOST, "{took:?}");
    }
    eventually("the connection is given up", || !link.is_up()).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_absent_server_delays_nobody_and_is_found_when_it_comes() {
    let mut server = RedisServer::on(free_port(), &[]);
    let (link, up) = link_with(&config(&server.url()));
    let (pinged, took) = ping(&link).await;
    assert_eq!(pinged, Err(LinkError::Down));
    assert!(took < AT_MOST, "{took:?}");
    let watch = Stopwatch::start();
    for _ in 0..100 {
        assert_eq!(ping(&link).await.0, Err(LinkError::Down));
    }
    assert!(
        watch.elapsed() < AT_MOST,
        "nobody asks a dead one: {:?}",
        watch.elapsed()
    );
    assert_eq!(up.get(), 0);
    server.restart().await;
    comes_back(&link).await;
    eventually("the gauge tells", || up.get() == 1).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_paused_server_costs_one_timeout_and_then_nothing() {
    let server = RedisServer::start().await;
    let (link, up) = link_with(&config(&server.url()));
    assert_eq!(ping(&link).await.0, Ok(()));
    server.pause();
    let (pinged, took) = ping(&link).await;
    assert_eq!(pinged, Err(LinkError::Timeout));
    assert!(took < AT_MOST, "{took:?}");
    let watch = Stopwatch::start();
    for _ in 0..100 {
        assert_eq!(ping(&link).await.0, Err(LinkError::Down));
    }
    assert!(watch.elapsed() < AT_MOST, "{:?}", watch.elapsed());
    eventually("the gauge tells", || up.get() == 0).await;
    server.resume();
    comes_back(&link).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_restarted_server_is_used_again_and_has_nothing() {
    let mut server = RedisServer::start().await;
    let link = link_to(&server.url());
    let tier = tier_on(link.clone());
    let begun = begin(&tier, &key("u", 1)).await.unwrap();
    server.stop();
    goes_down(&link).await;
    assert_eq!(stored(&tier, &key("u", 1)).await, Err(LinkError::Down));
    server.restart().await;
    comes_back(&link).await;
    assert_eq!(
        store(&tier, &key("u", 1), &begun.number_token, &entry("old", 1)).await,
        Ok(false)
    );
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_connection_that_the_server_closed_is_replaced_at_once() {
    let server = RedisServer::start().await;
    let link = link_to(&server.url());
    for _ in 0..5 {
        assert_eq!(ping(&link).await.0, Ok(()));
        server.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        // The first call may find the connection closed; the second waits for the new one.
        let _ = ping(&link).await;
        assert_eq!(ping(&link).await.0, Ok(()));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_full_server_refuses_to_store_and_goes_on_answering() {
    let server = RedisServer::start().await;
    let link = link_to(&server.url());
    let tier = tier_on(link.clone());
    let begun = begin(&tier, &key("u", 1)).await.unwrap();
    assert!(load(&tier, &key("u", 2), &entry("Bob", 1)).await);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..5 {
        let kept = store(&tier, &key("u", 1), &begun.number_token, &entry("Ann", 1)).await;
        assert_eq!(kept, Err(LinkError::Failed("OOM".to_owned())));
    }
    assert_eq!(stored(&tier, &key("u", 2)).await, Ok(Some(entry("Bob", 1))));
    assert!(link.is_up());
    tier.invalidate_user(key("u", 1).user()).await.unwrap();
    assert_eq!(
        server.keys(),
        Vec::<String>::new(),
        "erasing needs no memory"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_read_only_server_answers_what_it_has() {
    let server = RedisServer::start().await;
    let link = link_to(&server.url());
    let tier = tier_on(link.clone());
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    server.run::<()>(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    for _ in 0..5 {
        assert_eq!(
            begin(&tier, &key("u", 2)).await.unwrap_err(),
            LinkError::Failed("READONLY".to_owned())
        );
        assert_eq!(
            tier.invalidate_user(key("u", 1).user()).await,
            Err(LinkError::Failed("READONLY".to_owned()))
        );
    }
    assert_eq!(stored(&tier, &key("u", 1)).await, Ok(Some(entry("Ann", 1))));
    server.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    assert!(load(&tier, &key("u", 2), &entry("Bob", 1)).await);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_wrong_password_keeps_it_down_until_it_is_right() {
    let server = RedisServer::start().await;
    let link = link_to(&server.url().replace("://", "://u:pw%40@"));
    sleep(Duration::from_millis(300)).await;
    let (pinged, took) = ping(&link).await;
    assert_eq!(pinged, Err(LinkError::Down));
    assert!(took < AT_MOST, "{took:?}");
    server.run::<()>(&["ACL", "SETUSER", "u", "on", ">pw@", "~*", "+@all"]);
    comes_back(&link).await;
    server.run::<()>(&["ACL", "SETUSER", "u", "-set"]);
    let refused = link
        .query::<()>(redis::cmd("SET").arg("a").arg("b").to_owned())
        .await;
    assert_eq!(refused, Err(LinkError::Failed("NOPERM".to_owned())));
    assert_eq!(ping(&link).await.0, Ok(()));
    server.run::<()>(&["ACL", "DELUSER", "u"]);
    goes_down(&link).await;
}
