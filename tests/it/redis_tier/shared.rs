//! What replicas share beside answers: leases and admissions.

use std::sync::Arc;
use std::time::Duration;

use contactd::admission::{self, Admissions, Standing};
use contactd::clock::{ManualClock, Stopwatch, pause};
use contactd::domain::{AuthTag, Lane, Timestamp};
use contactd::lease::{Acquired, Lease, Leases};
use tokio_util::task::TaskTracker;

use super::key;
use crate::support::redis::{RedisServer, link_to, tier_on};

fn auth(n: u8) -> AuthTag {
    AuthTag::from_bytes([n; 16])
}

fn taken(acquired: Acquired) -> Lease {
    match acquired {
        Acquired::Lease(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn replicas(server: &RedisServer) -> [Leases; 2] {
    [(); 2].map(|()| Leases::new(link_to(&server.url()), TaskTracker::new()))
}

#[tokio::test]
async fn one_replica_loads_and_the_others_wait() {
    let server = RedisServer::start().await;
    let [one, other] = replicas(&server).await;
    let lease = taken(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
    assert!(matches!(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await, Acquired::Held));
    assert!(matches!(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await, Acquired::Held));
    for (key, auth) in [(key("u", 2), auth(1)), (key("v", 1), auth(1)), (key("u", 1), auth(2))] {
        taken(other.acquire(&key, auth, Lane::Prefetch).await).release().await;
    }
    lease.release().await;
    taken(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
}

#[tokio::test]
async fn a_ringing_phone_takes_the_lease_from_work_behind_the_scenes() {
    let server = RedisServer::start().await;
    let [one, other] = replicas(&server).await;
    let warming = taken(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
    assert!(matches!(other.acquire(&key("u", 1), auth(1), Lane::Revalidate).await, Acquired::Held));
    let ringing = taken(other.acquire(&key("u", 1), auth(1), Lane::CallPop).await);
    assert!(matches!(one.acquire(&key("u", 1), auth(1), Lane::CallPop).await, Acquired::Held));
    warming.release().await;
    assert!(matches!(one.acquire(&key("u", 1), auth(1), Lane::CallPop).await, Acquired::Held), "it was not its own");
    ringing.release().await;
    taken(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
}

#[tokio::test]
async fn a_lease_is_kept_for_as_long_as_the_load_takes_and_then_free() {
    let server = RedisServer::start().await;
    let [one, other] = replicas(&server).await;
    let lease = taken(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
    let loaded = lease.keep(async {
        pause(Duration::from_millis(3500)).await;
        assert!(matches!(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await, Acquired::Held));
        "loaded"
    });
    assert_eq!(loaded.await, "loaded");
    lease.release().await;
    taken(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
}

#[tokio::test]
async fn a_lease_that_is_dropped_is_given_back() {
    let server = RedisServer::start().await;
    let [one, other] = replicas(&server).await;
    let watch = Stopwatch::start();
    drop(taken(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await));
    while matches!(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await, Acquired::Held) {}
    // A machine that stood still for so long proves nothing either way.
    assert!(watch.elapsed() < Duration::from_secs(3), "it was not waited for until it expired");
}

#[tokio::test]
async fn a_lease_is_given_back_though_redis_stands_still_just_then() {
    let server = RedisServer::start().await;
    let [one, other] = replicas(&server).await;
    let watch = Stopwatch::start();
    let lease = taken(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
    server.pause();
    drop(lease);
    pause(Duration::from_millis(200)).await;
    server.resume();
    while !matches!(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await, Acquired::Lease(_)) {
        pause(Duration::from_millis(10)).await;
    }
    assert!(watch.elapsed() < Duration::from_secs(3), "it was not waited for until it expired");
}

#[tokio::test]
async fn the_lease_of_a_killed_holder_is_free_within_three_seconds() {
    let server = RedisServer::start().await;
    let [one, other] = replicas(&server).await;
    let killed = taken(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
    assert!(matches!(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await, Acquired::Held));
    pause(Duration::from_millis(3050)).await;
    let next = taken(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
    killed.release().await;
    assert!(
        matches!(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await, Acquired::Held),
        "a late holder frees its own only"
    );
    next.release().await;
}

#[tokio::test]
async fn without_redis_everybody_may_load() {
    let mut server = RedisServer::start().await;
    let [one, other] = replicas(&server).await;
    let lease = taken(one.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
    server.stop();
    for _ in 0..3 {
        assert!(matches!(other.acquire(&key("u", 1), auth(1), Lane::Prefetch).await, Acquired::Unavailable));
    }
    assert_eq!(lease.keep(async { 1 }).await, 1);
}

/// A load of user "u" has begun, which is when anything of a user is first written.
async fn begin(server: &RedisServer) {
    tier_on(link_to(&server.url())).begin(&key("u", 1)).await.unwrap();
}

fn admissions(server: &RedisServer) -> (Admissions, ManualClock) {
    let clock = ManualClock::new(Timestamp(1_000_000));
    let config = admission::Config { admitted: Duration::from_secs(3600), remembered: Duration::from_secs(7200) };
    (Admissions::new(config, Arc::new(clock.clone()), Some(link_to(&server.url()))), clock)
}

#[tokio::test]
async fn a_credential_accepted_at_one_replica_is_admitted_at_another() {
    let mut server = RedisServer::start().await;
    let ((one, _), (other, clock)) = (admissions(&server), admissions(&server));
    let user = key("u", 1).user();
    assert!(!other.is_admitted(user, auth(1)).await);
    begin(&server).await;
    one.admit(user, auth(1), Timestamp(1_000_000)).await;
    assert!(other.is_admitted(user, auth(1)).await);
    assert!(!other.is_admitted(user, auth(2)).await);
    assert!(!other.is_admitted(key("v", 1).user(), auth(1)).await);
    server.stop();
    assert!(other.is_admitted(user, auth(1)).await, "memory knows");
    assert!(!other.is_admitted(user, auth(2)).await, "trouble admits nobody");
    clock.advance(Duration::from_secs(3600));
    assert_eq!(other.standing(user, auth(1)).await, Standing::Lapsed);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(other.standing(user, auth(1)).await, Standing::Unknown, "and not for longer than Redis would have");
}

#[tokio::test]
async fn a_revoked_credential_is_admitted_nowhere() {
    let server = RedisServer::start().await;
    let ((one, _), (other, _), (third, _)) = (admissions(&server), admissions(&server), admissions(&server));
    let user = key("u", 1).user();
    begin(&server).await;
    one.admit(user, auth(1), Timestamp(1_000_000)).await;
    assert!(other.is_admitted(user, auth(1)).await);
    one.revoke(user, auth(1)).await;
    other.revoke_here(user, auth(1));
    for admissions in [one, other, third] {
        assert!(!admissions.is_admitted(user, auth(1)).await);
    }
}

#[tokio::test]
async fn an_erased_user_leaves_no_lease_and_no_admission() {
    let server = RedisServer::start().await;
    let user = key("u", 1).user();
    let (one, _) = admissions(&server);
    let [leases, _] = replicas(&server).await;
    begin(&server).await;
    one.admit(user, auth(1), Timestamp(1_000_000)).await;
    let lease = taken(leases.acquire(&key("u", 1), auth(1), Lane::Prefetch).await);
    // The admission that the index has lost is void with the generation.
    let lost = server.keys().into_iter().find(|name| name.contains(":c:")).unwrap();
    let index = server.keys().into_iter().find(|name| name.ends_with(":i")).unwrap();
    server.run::<()>(&["ZREM", &index, lost.split("}:").last().unwrap()]);
    tier_on(link_to(&server.url())).forget_user(user).await.unwrap();
    assert_eq!(server.keys(), [lost]);
    let (fresh, _) = admissions(&server);
    assert!(!fresh.is_admitted(user, auth(1)).await);
    lease.release().await;
    assert_eq!(server.keys().len(), 1, "giving a lease back brings nothing back");
    one.admit(user, auth(2), Timestamp(1_000_000)).await;
    assert_eq!(server.keys().len(), 1, "nor does a load that began before");
}
