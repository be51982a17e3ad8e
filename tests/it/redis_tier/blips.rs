//! Short silences and slow connections: what they cost, and that they leave nothing behind.

use std::time::Duration;

use contactd::clock::{Stopwatch, sleep, timeout};
use contactd::redis_link::{Link, LinkConfig, LinkError};

use crate::faults::loopback;
use crate::support::chaos::{ChaosProxy, Mode};
use crate::support::redis::{RedisServer, config, link_with};

async fn ping(link: &Link) -> Result<(), LinkError> {
    link.query(redis::cmd("PING")).await
}

/// Asks until an answer comes.
async fn answers(link: &Link) {
    let answered = async {
        while ping(link).await.is_err() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        timeout(Duration::from_secs(10), answered).await.is_some(),
        "Redis is asked again"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_blip_costs_one_timeout_and_not_the_connection() {
    let server = RedisServer::start().await;
    let proxy = ChaosProxy::before(loopback(server.port)).await;
    let (link, up) = link_with(&config(&format!("redis://{}", proxy.addr)));
    answers(&link).await;
    let connections = proxy.accepted();
    for _ in 0..4 {
        proxy.becomes(Mode::Stall).await;
        let (blip, mut unanswered) = (Stopwatch::start(), Vec::new());
        while blip.elapsed() < Duration::from_millis(300) {
            unanswered.push(ping(&link).await.unwrap_err());
            sleep(Duration::from_millis(5)).await;
        }
        let timeouts = unanswered
            .iter()
            .filter(|error| **error == LinkError::Timeout)
            .count();
        assert_eq!(timeouts, 1, "{unanswered:?}");
        proxy.restore().await;
        answers(&link).await;
        assert_eq!(
            (proxy.accepted(), up.get()),
            (connections, 1),
            "it is the same connection"
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_slow_connection_within_the_timeout_is_used_again_after_a_blip() {
    let server = RedisServer::start().await;
    let proxy = ChaosProxy::before(loopback(server.port)).await;
    let timeout = Duration::from_secs(1);
    let (link, _) = link_with(&LinkConfig {
        timeout,
        ..config(&format!("redis://{}", proxy.addr))
    });
    answers(&link).await;
    let connections = proxy.accepted();
    proxy.becomes(Mode::Stall).await;
    assert_eq!(ping(&link).await, Err(LinkError::Timeout));
    proxy.becomes(Mode::Slow(timeout * 3 / 5)).await;
    answers(&link).await;
    for _ in 0..3 {
        assert_eq!(ping(&link).await, Ok(()));
    }
    assert_eq!(proxy.accepted(), connections);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_silence_that_lasts_costs_the_connection() {
    let server = RedisServer::start().await;
    let proxy = ChaosProxy::before(loopback(server.port)).await;
    let (link, up) = link_with(&config(&format!("redis://{}", proxy.addr)));
    answers(&link).await;
    proxy.becomes(Mode::Stall).await;
    assert_eq!(ping(&link).await, Err(LinkError::Timeout));
    crate::support::eventually("it is given up", || !link.is_up() && up.get() == 0).await;
    proxy.restore().await;
    answers(&link).await;
}
