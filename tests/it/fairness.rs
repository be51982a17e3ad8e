//! Nobody takes up what belongs to everybody: not a user whose CRM is paused, not a CRM that hangs,
//! not a caller that leaves at once, not an address that is busy, not a CRM whose replies are
//! large. `attacks` tests what floods do, each to a daemon of its own.

mod addresses;
mod attacks;
mod replies;

use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::{
    FindContactRequest, InvalidateContactsRequest, PhoneNumbers, PrefetchContactsRequest, Source,
};
use futures_util::future::join_all;
use tonic::Code;

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, names};
use crate::support::fleet::{replicas, source};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

fn number(n: u32) -> String {
    format!("+1650{:07}", 2_000_000 + n)
}

/// Users `names` rest for ten minutes; the others get a contact with this name.
fn but_resting(
    resting: &'static str,
    name: &'static str,
) -> impl Fn(&crate::support::crm::Seen) -> Reply + Send {
    move |seen| {
        let rests = seen
            .authorization
            .as_deref()
            .is_some_and(|auth| auth.contains(resting));
        if rests && !seen.asks_who() {
            return Reply::status(429).header("retry-after", "600");
        }
        example(
            seen,
            &[contact(1, name, seen.param("phone").unwrap_or_default())],
        )
    }
}

#[tokio::test]
async fn a_user_whose_crm_rests_holds_up_nobody_elses_refreshes() {
    let crm = FakeCrm::start(but_resting("nobody", "v1")).await;
    let daemon = TestDaemon::over(&crm).await;
    let rings = |user: &'static str, n| daemon.find(find().user(user).number(&number(n)));
    for n in 0..40 {
        rings("resting", n).await.unwrap();
    }
    rings("awake", 0).await.unwrap();
    crm.becomes(but_resting("resting", "v2"));
    daemon.clock.advance(Duration::from_secs(700));
    for n in 0..40 {
        assert_eq!(names(&rings("resting", n).await.unwrap()), ["v1"]);
    }
    let before = crm.searches();
    rings("awake", 0).await.unwrap();
    eventually("the other user's answer is refreshed", || {
        crm.searches() > before
    })
    .await;
    let fresh = async { while names(&rings("awake", 0).await.unwrap()) != ["v2"] {} };
    clock::timeout(Duration::from_secs(5), fresh)
        .await
        .expect("and served");
}

fn batch(user: &str, numbers: std::ops::Range<u32>) -> PrefetchContactsRequest {
    let FindContactRequest {
        user, auth_header, ..
    } = find().user(user);
    let phone_numbers = numbers.map(number).collect();
    PrefetchContactsRequest {
        user,
        auth_header,
        phone_numbers,
        ..Default::default()
    }
}

#[tokio::test]
async fn batches_of_users_whose_crm_rests_hold_up_no_other_batch() {
    let crm = FakeCrm::start(but_resting("nobody", "v1")).await;
    let daemon = TestDaemon::over(&crm).await;
    let users: Vec<String> = (0..12).map(|n| format!("resting {n}")).collect();
    for user in &users {
        daemon.find(find().user(user)).await.unwrap();
    }
    crm.becomes(but_resting("resting", "v2"));
    let mut held = Vec::new();
    for user in &users {
        held.push(
            daemon
                .client
                .clone()
                .prefetch_contacts(batch(user, 0..100))
                .await
                .unwrap(),
        );
    }
    let asked = || {
        crm.seen()
            .iter()
            .filter(|seen| seen.authorization.as_deref() != Some("Bearer awake"))
            .count()
    };
    eventually("each of them has heard that it should rest", || {
        asked() >= 2 * users.len()
    })
    .await;
    // If it were held up, it would take ten minutes.
    let told = clock::timeout(Duration::from_secs(30), async {
        let mut events = daemon
            .client
            .clone()
            .prefetch_contacts(batch("awake", 0..50))
            .await
            .unwrap()
            .into_inner();
        let mut told = 0;
        while events.message().await.unwrap().is_some() {
            told += 1;
        }
        told
    });
    assert_eq!(
        told.await.expect("the batch ends"),
        52,
        "it is told of 50 numbers"
    );
}

/// A CRM that hangs for everybody who is not called "quick".
fn hanging(seen: &crate::support::crm::Seen) -> Reply {
    let reply = example(
        seen,
        &[contact(1, "Ada", seen.param("phone").unwrap_or_default())],
    );
    let quick = seen
        .authorization
        .as_deref()
        .is_some_and(|auth| auth.contains("quick"));
    if quick {
        reply
    } else {
        reply.after(Duration::from_secs(600))
    }
}

/// Calls of many that hang, and what they get.
async fn hung(daemon: &TestDaemon, users: u32, each: u32) -> Vec<Code> {
    let calls = (0..users).flat_map(|user| (0..each).map(move |n| (user, n)));
    let calls = calls.map(|(user, n)| {
        daemon.find(
            find()
                .platform("dead")
                .user(&format!("u{user}"))
                .number(&number(n)),
        )
    });
    join_all(calls)
        .await
        .into_iter()
        .filter_map(Result::err)
        .map(|status| status.code())
        .collect()
}

#[tokio::test]
async fn a_crm_that_hangs_costs_its_own_users_only() {
    let (dead, alive) = (FakeCrm::start(hanging).await, FakeCrm::start(hanging).await);
    let connector = |name: &str, url: String| {
        format!(
            "[connectors.{name}]\nkind = \"example\"\nbase_url = \"{url}\"\n\
             quota = {{ rate = 10000, per = \"1s\", burst = 10000, scope = \"user\", prefetch_share = 0.5 }}\n"
        )
    };
    let limits = "[grpc]\nmax_in_flight = 64\n[lookup]\ncall_timeout = \"3s\"\ntimeout = \"3s\"\n";
    let daemon = TestDaemon::start(
        &[
            limits,
            &connector("dead", dead.url()),
            &connector("alive", alive.url()),
        ]
        .concat(),
    )
    .await;
    let rings = |n| daemon.find(find().platform("alive").user("quick").number(&number(n)));
    rings(0).await.unwrap();
    let others = async {
        eventually("the dead CRM is asked by many", || dead.seen().len() > 60).await;
        for n in 0..100 {
            rings(0).await.expect("a hit is never refused");
            rings(n)
                .await
                .expect("nor is a look-up in the CRM that works");
        }
    };
    let stopwatch = Stopwatch::start();
    let (codes, ()) = tokio::join!(hung(&daemon, 20, 20), others);
    assert!(stopwatch.elapsed() < Duration::from_secs(20));
    assert_eq!(codes.len(), 400);
    let refused = codes
        .iter()
        .filter(|code| **code == Code::ResourceExhausted)
        .count();
    assert!(
        refused > 200,
        "{refused}: the dead CRM's callers are not all held"
    );
}

#[tokio::test]
async fn one_user_whose_calls_hang_leaves_places_to_the_others_of_the_same_crm() {
    let crm = FakeCrm::start(hanging).await;
    let more = "[grpc]\nmax_in_flight = 16\n[lookup]\ncall_timeout = \"3s\"\ntimeout = \"3s\"\n";
    let daemon = TestDaemon::with(&crm, "example", more).await;
    let hangs = join_all((0..40).map(|n| daemon.find(find().user("slow").number(&number(n)))));
    let others = async {
        eventually("it is asked as often as it may be", || crm.searches() >= 16).await;
        for n in 0..20 {
            daemon
                .find(find().user("quick").number(&number(n)))
                .await
                .expect("another user is served");
        }
    };
    let (hung, ()) = tokio::join!(hangs, others);
    let refused = hung
        .into_iter()
        .filter_map(Result::err)
        .filter(|status| status.code() == Code::ResourceExhausted);
    assert_eq!(refused.count(), 24);
}

#[tokio::test]
async fn one_user_does_not_take_the_places_of_all_batches() {
    let crm = FakeCrm::start(hanging).await;
    let more =
        "[grpc]\nmax_prefetch_jobs = 4\n[lookup]\ncall_timeout = \"30s\"\ntimeout = \"30s\"\n";
    let daemon = TestDaemon::with(&crm, "example", more).await;
    daemon
        .find(find().user("quick"))
        .await
        .expect("the CRM accepts the credential");
    let starts = |user: &'static str| {
        let mut client = daemon.client.clone();
        async move {
            client
                .prefetch_contacts(batch(user, 0..10))
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let slow = join_all((0..8).map(|_| starts("slow"))).await;
    let (held, refused): (Vec<_>, Vec<_>) = slow.into_iter().partition(Result::is_ok);
    assert_eq!(
        (held.len(), refused.len()),
        (2, 6),
        "two places are one user's"
    );
    for refused in refused {
        assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    }
    let others = clock::timeout(Duration::from_secs(10), starts("quick"))
        .await
        .expect("it starts")
        .unwrap();
    drop((held, others));
}

const FALSE_TOKENS: &str = "[grpc]\nmax_in_flight = 4\n[lookup]\ncall_timeout = \"30s\"\ntimeout = \"30s\"\n\
    [connectors.example]\nkind = \"example\"\n\
    quota = { rate = 1, per = \"60s\", burst = 1, scope = \"user\", prefetch_share = 1.0 }\n";

#[tokio::test]
async fn callers_that_leave_at_once_under_a_false_token_leave_nothing_behind() {
    let crm = FakeCrm::start(|seen| match seen.authorization.as_deref() {
        Some("Bearer quick") => hanging(seen),
        _ => Reply::status(401),
    })
    .await;
    let daemon = TestDaemon::start(&format!("{FALSE_TOKENS}base_url = \"{}\"\n", crm.url())).await;
    let leaves = |n: u32| {
        let request = find()
            .user("victim")
            .auth(&format!("Bearer false {}", n % 40))
            .number(&number(n));
        daemon.find(request.within(Duration::from_millis(30)))
    };
    for round in 0..20 {
        join_all((0..10).map(|n| leaves(round * 10 + n))).await;
    }
    let calls = || crm.seen().len() + crm.asked_who();
    let made = calls();
    let rings = daemon.find(find().user("quick")).await;
    assert!(rings.is_ok(), "{rings:?}: their look-ups hold no places");
    assert!(
        made < 200,
        "{made} calls for 200 look-ups under tokens that the CRM refuses"
    );
}

#[tokio::test]
async fn a_look_up_that_its_caller_left_makes_no_further_call_unless_the_credential_is_proven() {
    let crm = FakeCrm::start(|seen| {
        let hangs = !seen
            .authorization
            .as_deref()
            .is_some_and(|auth| auth.contains("quick"));
        example(seen, &[]).after(if hangs {
            Duration::from_secs(600)
        } else {
            Duration::ZERO
        })
    })
    .await;
    let more = "[grpc]\nmax_in_flight = 100\n[lookup]\ncall_timeout = \"30s\"\ntimeout = \"30s\"\n\
        [connectors.example]\nkind = \"example\"\nidentity = \"caller\"\n\
        quota = { rate = 1, per = \"2s\", burst = 1, scope = \"user\", prefetch_share = 1.0 }\n";
    let daemon = TestDaemon::start(&format!("{more}base_url = \"{}\"\n", crm.url())).await;
    let leaves = |user: &str, n: u32| {
        let call = find()
            .user(user)
            .number(&number(n))
            .within(Duration::from_secs(20));
        let client = daemon.client.clone();
        async move { client.clone().find_contact(call).await.map(|_| ()) }
    };
    // Both spend their user's only call of two seconds; the next one stands in line when its caller
    // leaves.
    for user in ["quick", "unverified"] {
        let first = clock::timeout(Duration::from_millis(300), leaves(user, 0)).await;
        assert_eq!(first.is_some(), user == "quick");
        assert!(
            clock::timeout(Duration::from_millis(300), leaves(user, 1))
                .await
                .is_none()
        );
    }
    let searches = |user: &str| {
        let auth = format!("Bearer {user}");
        crm.seen()
            .iter()
            .filter(|seen| seen.authorization.as_deref() == Some(&auth))
            .count()
    };
    eventually("the verified one's look-up goes on", || {
        searches("quick") >= 2
    })
    .await;
    clock::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        searches("unverified"),
        1,
        "the call on the wire, and none after it"
    );
}

/// Has 10,000 numbers of a user forgotten, the first of which is `number(0)`.
async fn forget_many(daemon: &TestDaemon, user: &str) {
    let phone_numbers = (0..10_000).map(number).collect();
    let scope = Some(Scope::Numbers(PhoneNumbers { phone_numbers }));
    let request = InvalidateContactsRequest {
        user: find().user(user).user,
        scope,
    };
    daemon
        .client
        .clone()
        .invalidate_contacts(request)
        .await
        .unwrap();
}

#[tokio::test]
async fn forgetting_many_numbers_of_one_user_leaves_the_others_in_memory() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", &number(0))]).await;
    let daemon = TestDaemon::over(&crm).await;
    let rings = |user: &'static str| daemon.find(find().user(user).number(&number(0)));
    for user in ["noisy", "quiet"] {
        rings(user).await.unwrap();
    }
    for _ in 0..11 {
        forget_many(&daemon, "noisy").await;
    }
    assert_eq!(source(&rings("quiet").await.unwrap()), Source::Memory);
    assert_eq!(source(&rings("noisy").await.unwrap()), Source::Crm);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn forgetting_many_numbers_makes_no_replica_lose_its_place_in_the_log() {
    let (crm, server) = (
        FakeCrm::with(vec![contact(1, "Ada", &number(0))]).await,
        RedisServer::start().await,
    );
    let daemons = replicas(&crm, &server.url(), 2).await;
    let rings = |user: &'static str| daemons[1].find(find().user(user).number(&number(0)));
    for user in ["noisy", "quiet"] {
        rings(user).await.unwrap();
    }
    join_all((0..3).map(|_| forget_many(&daemons[0], "noisy"))).await;
    // Once the CRM is asked again the other replica has heard of it.
    let heard = async { while source(&rings("noisy").await.unwrap()) == Source::Memory {} };
    clock::timeout(Duration::from_secs(5), heard)
        .await
        .expect("the other replica hears of it");
    assert_eq!(source(&rings("quiet").await.unwrap()), Source::Memory);
    let events: usize = server.run(&["XLEN", "contactd:{log}:s"]);
    assert!(events < 100, "{events} events");
}
