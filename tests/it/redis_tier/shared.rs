//! What replicas share beside answers: leases and admissions.

use std::sync::Arc;
use std::time::Duration;

use contactd::admission::{AdmissionConfig, Admissions, Trust};
use contactd::clock::{Clock as _, ManualClock, Stopwatch, sleep};
use contactd::domain::{AuthTag, Identity, Lane, SharedTime, Timestamp, UserTag};
use contactd::lease::{Acquired, Lease, Leases};
use contactd::redis_link::{Reads, RedisTime};
use tokio_util::task::TaskTracker;

use super::{HOUR, key, question};
use crate::support::clocks::Clocks;
use crate::support::ports::free_port;
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

/// Two replicas, and the tasks in which they give leases back.
async fn replicas(server: &RedisServer) -> ([Leases; 2], TaskTracker) {
    let tasks = TaskTracker::new();
    (
        [(); 2].map(|()| Leases::new(link_to(&server.url()), tasks.clone())),
        tasks,
    )
}

async fn give_back(lease: Lease, tasks: &TaskTracker) {
    drop(lease);
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn one_replica_loads_and_the_others_wait() {
    let server = RedisServer::start().await;
    let ([one, other], tasks) = replicas(&server).await;
    let lease = taken(
        one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
    assert!(matches!(
        other
            .acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
        Acquired::Held
    ));
    for (question, auth) in [
        (question("u", 2), auth(1)),
        (question("v", 1), auth(1)),
        (question("u", 1), auth(2)),
    ] {
        give_back(
            taken(other.acquire(&question, auth, Lane::Prefetch).await),
            &tasks,
        )
        .await;
    }
    give_back(lease, &tasks).await;
    taken(
        other
            .acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
}

/// As if Redis executed the request for a lease only after its sender had given up the request and
/// released the lease.
#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_lease_that_its_replica_does_not_know_of_holds_up_only_the_others() {
    let server = RedisServer::start().await;
    let ([one, other], tasks) = replicas(&server).await;
    for lane in [Lane::Prefetch, Lane::CallPop] {
        let lost = taken(one.acquire(&question("u", 1), auth(1), lane).await);
        let held = other.acquire(&question("u", 1), auth(1), lane).await;
        assert!(matches!(held, Acquired::Held));
        let next = taken(one.acquire(&question("u", 1), auth(1), lane).await);
        give_back(lost, &tasks).await;
        let held = other.acquire(&question("u", 1), auth(1), lane).await;
        assert!(
            matches!(held, Acquired::Held),
            "the lost one was not its own"
        );
        give_back(next, &tasks).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_ringing_phone_takes_the_lease_from_work_behind_the_scenes() {
    let server = RedisServer::start().await;
    let ([one, other], tasks) = replicas(&server).await;
    let warming = taken(
        one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
    assert!(matches!(
        other
            .acquire(&question("u", 1), auth(1), Lane::Revalidate)
            .await,
        Acquired::Held
    ));
    let ringing = taken(
        other
            .acquire(&question("u", 1), auth(1), Lane::CallPop)
            .await,
    );
    assert!(matches!(
        one.acquire(&question("u", 1), auth(1), Lane::CallPop).await,
        Acquired::Held
    ));
    give_back(warming, &tasks).await;
    assert!(
        matches!(
            one.acquire(&question("u", 1), auth(1), Lane::CallPop).await,
            Acquired::Held
        ),
        "it was not its own"
    );
    give_back(ringing, &tasks).await;
    taken(
        one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_lease_is_kept_for_as_long_as_the_load_takes_and_then_free() {
    let server = RedisServer::start().await;
    let ([one, other], tasks) = replicas(&server).await;
    let lease = taken(
        one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
    let loaded = lease.keep(async {
        sleep(Duration::from_millis(3500)).await;
        assert!(matches!(
            other
                .acquire(&question("u", 1), auth(1), Lane::Prefetch)
                .await,
            Acquired::Held
        ));
        "loaded"
    });
    assert_eq!(loaded.await, "loaded");
    give_back(lease, &tasks).await;
    taken(
        other
            .acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_lease_from_before_the_clock_of_redis_was_set_back_holds_nobody_up() {
    let clocks = Clocks::compile();
    let clock = clocks.clock("redis");
    let mut server = RedisServer::on(free_port(), &[]).with_env(&clock.env());
    server.restart().await;
    let ([one, other], _) = replicas(&server).await;
    let (of_a_gone_replica, asked) = (question("u", 1), auth(1));
    let lease = one.acquire(&of_a_gone_replica, asked, Lane::CallPop).await;
    std::mem::forget(taken(lease));
    clock.step(HOUR, false);
    taken(
        other
            .acquire(&of_a_gone_replica, asked, Lane::Prefetch)
            .await,
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_lease_that_is_dropped_is_given_back() {
    let server = RedisServer::start().await;
    let ([one, other], _) = replicas(&server).await;
    let watch = Stopwatch::start();
    drop(taken(
        one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    ));
    while matches!(
        other
            .acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
        Acquired::Held
    ) {}
    // A machine that stood still for so long proves nothing either way.
    assert!(
        watch.elapsed() < Duration::from_secs(3),
        "it was not waited for until it expired"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_lease_is_given_back_though_redis_stands_still_just_then() {
    let server = RedisServer::start().await;
    let ([one, other], _) = replicas(&server).await;
    let watch = Stopwatch::start();
    let lease = taken(
        one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
    server.pause();
    drop(lease);
    sleep(Duration::from_millis(200)).await;
    server.resume();
    while !matches!(
        other
            .acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
        Acquired::Lease(_)
    ) {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        watch.elapsed() < Duration::from_secs(3),
        "it was not waited for until it expired"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn the_lease_of_a_killed_holder_is_free_within_three_seconds() {
    let server = RedisServer::start().await;
    let ([one, other], tasks) = replicas(&server).await;
    let killed = taken(
        one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
    assert!(matches!(
        other
            .acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
        Acquired::Held
    ));
    sleep(Duration::from_millis(3050)).await;
    let next = taken(
        other
            .acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
    give_back(killed, &tasks).await;
    assert!(
        matches!(
            one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
                .await,
            Acquired::Held
        ),
        "a late holder frees its own only"
    );
    give_back(next, &tasks).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn without_redis_everybody_may_load() {
    let mut server = RedisServer::start().await;
    let ([one, other], _) = replicas(&server).await;
    let lease = taken(
        one.acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
    server.stop();
    for _ in 0..3 {
        assert!(matches!(
            other
                .acquire(&question("u", 1), auth(1), Lane::Prefetch)
                .await,
            Acquired::Unavailable
        ));
    }
    assert_eq!(lease.keep(async { 1 }).await, 1);
}

/// A load of user "u" has begun, which is when anything of a user is first written.
async fn begin(server: &RedisServer) {
    super::begin(&tier_on(link_to(&server.url())), &key("u", 1))
        .await
        .unwrap();
}

/// What one replica knows of credentials, and its clock.
async fn admissions(server: &RedisServer, remembered: Duration) -> (Admissions, ManualClock) {
    let clock = ManualClock::new(Timestamp(1_000_000));
    let config = AdmissionConfig {
        admitted: HOUR,
        remembered,
    };
    let link = link_to(&server.url());
    let (reads, time) = (
        Reads::new(link.clone(), TaskTracker::new()),
        RedisTime::new(Arc::new(clock.clone())),
    );
    // As the first reading of the log would say it.
    let now: (u64, u64) = server.run(&["TIME"]);
    time.apply(SharedTime(now.0 * 1000 + now.1 / 1000));
    (
        Admissions::new(config, Arc::new(clock.clone()), Some((link, reads, time))),
        clock,
    )
}

fn identity(n: u8) -> Identity {
    Identity::Credential(auth(n))
}

async fn trust(admissions: &Admissions, user: UserTag, under: u8) -> Option<Trust> {
    admissions
        .lookup(user, auth(under))
        .await
        .map(|credential| credential.trust)
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_credential_accepted_at_one_replica_is_admitted_at_another_with_its_identity() {
    let mut server = RedisServer::start().await;
    let ((one, clock_of_one), (other, clock)) = (
        admissions(&server, 2 * HOUR).await,
        admissions(&server, 2 * HOUR).await,
    );
    let user = key("u", 1).user();
    assert_eq!(trust(&other, user, 1).await, None);
    begin(&server).await;
    one.admit(user, auth(1), identity(7), clock_of_one.now())
        .await;
    let known = other.lookup(user, auth(1)).await.unwrap();
    assert_eq!(
        (known.trust, known.identity),
        (Trust::Verified, identity(7))
    );
    assert_eq!(trust(&other, user, 2).await, None);
    assert_eq!(trust(&other, key("v", 1).user(), 1).await, None);
    server.stop();
    assert_eq!(
        trust(&other, user, 1).await,
        Some(Trust::Verified),
        "memory knows"
    );
    assert_eq!(trust(&other, user, 2).await, None, "trouble admits nobody");
    clock.advance(HOUR + Duration::from_secs(1));
    assert_eq!(trust(&other, user, 1).await, Some(Trust::Lapsed));
    clock.advance(HOUR);
    assert_eq!(trust(&other, user, 1).await, None);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn replicas_that_keep_answers_for_different_times_agree_on_when_a_credential_was_accepted() {
    let server = RedisServer::start().await;
    let ((long, clock), (short, later)) = (
        admissions(&server, 48 * HOUR).await,
        admissions(&server, 2 * HOUR).await,
    );
    let user = key("u", 1).user();
    begin(&server).await;
    long.admit(user, auth(1), identity(1), clock.now()).await;
    later.advance(HOUR * 3 / 2);
    for _ in 0..3 {
        assert_eq!(
            trust(&short, user, 1).await,
            Some(Trust::Lapsed),
            "not believed as new, again and again"
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_refused_credential_is_admitted_nowhere_and_for_no_user() {
    let server = RedisServer::start().await;
    let (one, clock) = admissions(&server, 2 * HOUR).await;
    let (other, _) = admissions(&server, 2 * HOUR).await;
    let users = [key("u", 1).user(), key("v", 1).user()];
    begin(&server).await;
    super::begin(&tier_on(link_to(&server.url())), &key("v", 1))
        .await
        .unwrap();
    for user in users {
        one.admit(user, auth(1), identity(1), clock.now()).await;
        assert_eq!(trust(&other, user, 1).await, Some(Trust::Verified));
    }
    clock.advance(Duration::from_millis(1));
    assert!(one.revoke_elsewhere(auth(1), clock.now()).await);
    for told in [&one, &other] {
        told.revoke_here(auth(1));
    }
    let (third, _) = admissions(&server, 2 * HOUR).await;
    for admissions in [&one, &other, &third] {
        for user in users {
            assert_eq!(trust(admissions, user, 1).await, None);
        }
    }
    clock.advance(Duration::from_secs(1));
    one.admit(users[0], auth(1), identity(1), clock.now()).await;
    third_time(&third, users).await;
}

/// A later acceptance counts, for the user that it was given to.
async fn third_time(admissions: &Admissions, users: [UserTag; 2]) {
    // Its clock stands still: the acceptance is a second ahead, which clocks may be.
    assert_eq!(trust(admissions, users[0], 1).await, Some(Trust::Verified));
    assert_eq!(trust(admissions, users[1], 1).await, None);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn an_erased_user_leaves_no_lease_and_no_admission() {
    let server = RedisServer::start().await;
    let user = key("u", 1).user();
    let (one, clock) = admissions(&server, 2 * HOUR).await;
    let ([leases, _], tasks) = replicas(&server).await;
    begin(&server).await;
    one.admit(user, auth(1), identity(1), clock.now()).await;
    let lease = taken(
        leases
            .acquire(&question("u", 1), auth(1), Lane::Prefetch)
            .await,
    );
    // The admission that the index has lost is void with the user token.
    let lost = server
        .keys()
        .into_iter()
        .find(|name| name.contains(":c:"))
        .unwrap();
    let index = server
        .keys()
        .into_iter()
        .find(|name| name.ends_with(":i"))
        .unwrap();
    server.run::<()>(&["ZREM", &index, lost.split("}:").last().unwrap()]);
    tier_on(link_to(&server.url()))
        .invalidate_user(user)
        .await
        .unwrap();
    assert_eq!(server.keys(), [lost]);
    let (fresh, _) = admissions(&server, 2 * HOUR).await;
    assert_eq!(trust(&fresh, user, 1).await, None);
    give_back(lease, &tasks).await;
    assert_eq!(
        server.keys().len(),
        1,
        "giving a lease back brings nothing back"
    );
    one.admit(user, auth(2), identity(2), clock.now()).await;
    assert_eq!(server.keys().len(), 1, "nor does a load that began before");
}
