//! Whose answer it is: stored answers belong to whom the CRM says the credential is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contactd::clock::Stopwatch;
use contactd::pb::v1::{Freshness, Source};
use futures_util::future::join_all;
use tonic::Code;

use crate::prefetch::{batch, run};
use crate::support::crm::{Seen, example, themselves, user_named};
use crate::support::daemon::{Changed as _, details, names};
use crate::support::fleet::{number, replica, source};
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

/// A CRM for all tenants. `Bearer PERSON.N` is a token of that person, who sees a contact of that
/// name.
pub(crate) fn tenants(seen: &Seen) -> Reply {
    let token = seen
        .authorization
        .clone()
        .unwrap_or_default()
        .replace("Bearer ", "");
    let person = token.split('.').next().unwrap_or_default().to_owned();
    if !["alice", "bob", "mallory"].contains(&person.as_str()) {
        return Reply::status(401);
    }
    if seen.asks_who() {
        return user_named(&person);
    }
    // Mallory knows nobody.
    let phone = seen.param("phone").unwrap_or_default().to_owned();
    let contacts = if person == "mallory" {
        vec![]
    } else {
        vec![contact(1, &person, &phone)]
    };
    example(seen, &contacts)
}

/// Two calls of 30 ms, one after the other, would take 30 ms more.
#[tokio::test]
#[expect(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
async fn a_first_call_under_a_new_token_takes_as_long_as_the_slower_of_its_two_calls() {
    let crm = FakeCrm::start(|seen| {
        let token = seen
            .authorization
            .clone()
            .unwrap_or_default()
            .replace("Bearer ", "");
        let person = token.split('.').next().unwrap_or_default();
        let reply = if seen.asks_who() {
            user_named(person)
        } else {
            example(seen, &[])
        };
        reply.after(Duration::from_millis(30))
    })
    .await;
    let daemon = TestDaemon::with(&crm, "example", "").await;
    let timed = async |auth: &str, user: &str, n: usize| {
        let stopwatch = Stopwatch::start();
        daemon
            .find(find().user(user).auth(auth).number(&number(n)))
            .await
            .unwrap();
        stopwatch.elapsed()
    };
    let (mut first, mut known) = (Vec::new(), Vec::new());
    for n in 0..60 {
        let (auth, user) = (format!("Bearer person-{n}.1"), format!("user-{n}"));
        first.push(timed(&auth, &user, 2 * n).await);
        known.push(timed(&auth, &user, 2 * n + 1).await);
    }
    assert_eq!((crm.asked_who(), crm.searches()), (60, 120));
    first.sort();
    known.sort();
    let (first, known) = (first[30], known[30]);
    println!(
        "first call under a token {first:?}, one under a known token {known:?} (medians of 60)"
    );
    assert!(
        first <= known + Duration::from_millis(15),
        "{first:?} and {known:?}"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_stolen_user_id_with_a_valid_token_of_somebody_else_finds_and_spoils_nothing() {
    let (crm, redis) = (FakeCrm::start(tenants).await, RedisServer::start().await);
    let daemons = [
        replica(&crm, &redis.url(), "").await,
        replica(&crm, &redis.url(), "").await,
    ];
    let numbers: Vec<String> = (0..20).map(number).collect();
    for number in &numbers {
        daemons[0]
            .find(find().auth("Bearer alice.1").number(number))
            .await
            .unwrap();
    }
    for daemon in &daemons {
        for _ in 0..2 {
            for number in &numbers {
                let mut cached = find().auth("Bearer mallory.1").number(number);
                cached.only_if_cached = true;
                match daemon.find(cached).await {
                    Err(status) => assert_eq!(status.code(), Code::NotFound),
                    Ok(answer) => assert!(names(&answer).is_empty(), "her own empty answer"),
                }
                let answer = daemon
                    .find(find().auth("Bearer mallory.1").number(number))
                    .await
                    .unwrap();
                assert!(names(&answer).is_empty(), "{number}");
            }
        }
        let told = run(
            daemon,
            crate::prefetch::under(batch(numbers.clone()), "Bearer mallory.2"),
        )
        .await;
        assert_eq!(
            told.results
                .iter()
                .map(|result| result.match_count)
                .sum::<u32>(),
            0
        );
    }
    // And Alice's own answers are as they were, for every token of hers.
    let searches = crm.searches();
    for (daemon, token) in daemons.iter().zip(["Bearer alice.1", "Bearer alice.2"]) {
        for number in &numbers {
            let answer = daemon
                .find(find().auth(token).number(number))
                .await
                .unwrap();
            assert_eq!(names(&answer), ["alice"]);
        }
    }
    assert_eq!(crm.searches(), searches, "from a tier");
}

#[tokio::test]
async fn two_agents_on_one_login_share_no_answers_unless_they_share_their_user_id() {
    let crm = FakeCrm::start(tenants).await;
    let daemon = TestDaemon::over(&crm).await;
    for (user, source) in [
        ("one", Source::Crm),
        ("two", Source::Crm),
        ("one", Source::Memory),
    ] {
        let answer = daemon
            .find(find().user(user).auth("Bearer alice.1"))
            .await
            .unwrap();
        assert_eq!(
            (names(&answer), answer.lookup.as_ref().unwrap().source()),
            (vec!["alice"], source),
            "{user}"
        );
    }
}

#[tokio::test]
async fn many_look_ups_under_one_new_credential_ask_once_whose_it_is() {
    let crm = FakeCrm::start(|seen| tenants(seen).after(Duration::from_millis(50))).await;
    let daemon = TestDaemon::over(&crm).await;
    let asks = (0..30).map(|n| {
        daemon.find(
            find()
                .user(&format!("u{}", n % 3))
                .auth("Bearer alice.1")
                .number(&number(n)),
        )
    });
    for answer in join_all(asks).await {
        assert_eq!(names(&answer.unwrap()), ["alice"]);
    }
    assert_eq!((crm.asked_who(), crm.searches()), (1, 30));
    for user in ["u0", "u1", "u2"] {
        let stored = (0..30)
            .filter(|n| user == format!("u{}", n % 3))
            .map(|n| daemon.find(find().user(user).auth("Bearer alice.1").number(&number(n))));
        for answer in join_all(stored).await {
            assert_eq!(
                source(&answer.unwrap()),
                Source::Memory,
                "each user id is known under the credential"
            );
        }
    }
}

#[tokio::test]
async fn if_nothing_is_stored_both_questions_go_at_once_otherwise_the_cheap_one_first() {
    let slow = Duration::from_millis(400);
    let crm = FakeCrm::start(move |seen| tenants(seen).after(slow)).await;
    let daemon = TestDaemon::with(&crm, "example", "[lookup]\ndetails_timeout = \"400ms\"\n").await;
    let stopwatch = Stopwatch::start();
    let first = daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    assert_eq!(names(&first), ["alice"]);
    let took = stopwatch.elapsed();
    // Search and deals, and beside them whose credential it is.
    assert!(took < slow * 5 / 2, "{took:?}");

    crm.becomes(tenants);
    let searches = crm.searches();
    assert_eq!(
        source(&daemon.find(find().auth("Bearer alice.2")).await.unwrap()),
        Source::Memory
    );
    assert_eq!(
        (crm.asked_who(), crm.searches()),
        (2, searches),
        "no search is needed"
    );

    // A CRM that takes long to say it does not hold up the search.
    crm.becomes(move |seen| {
        if seen.asks_who() {
            tenants(seen).after(Duration::from_secs(3))
        } else {
            tenants(seen)
        }
    });
    let stopwatch = Stopwatch::start();
    assert_eq!(
        names(&daemon.find(find().auth("Bearer bob.1")).await.unwrap()),
        ["bob"]
    );
    let took = stopwatch.elapsed();
    assert!(
        took >= Duration::from_millis(150) && took < Duration::from_secs(2),
        "{took:?}"
    );
}

#[tokio::test]
async fn if_the_crm_does_not_say_whose_it_is_a_credential_finds_its_own_answers_only() {
    for refusal in [
        Reply::status(401),
        Reply::status(403),
        Reply::status(404),
        Reply::status(500),
        Reply::html(),
        Reply::json(serde_json::json!({"id": null, "account_id": "a"})),
        Reply::json(serde_json::json!({"account_id": "a"})),
    ] {
        let shown = format!("{refusal:.90?}");
        let crm = FakeCrm::start(move |seen| {
            if seen.asks_who() {
                refusal.clone()
            } else {
                tenants(seen)
            }
        })
        .await;
        let daemon = TestDaemon::over(&crm).await;
        for (token, name) in [
            ("Bearer alice.1", "alice"),
            ("Bearer bob.1", "bob"),
            ("Bearer alice.2", "alice"),
        ] {
            let first = daemon.find(find().auth(token)).await.unwrap();
            assert_eq!(
                (names(&first), source(&first)),
                (vec![name], Source::Crm),
                "{shown}: {token}"
            );
            let second = daemon.find(find().auth(token)).await.unwrap();
            assert_eq!(
                (names(&second), source(&second)),
                (vec![name], Source::Memory),
                "{shown}: {token}"
            );
        }
        assert_eq!(crm.searches(), 3, "{shown}: a rotated token starts cold");
        assert_eq!(
            crm.asked_who(),
            3,
            "{shown}: and is not asked about again at once"
        );
    }
}

#[tokio::test]
async fn a_crm_that_did_not_say_it_is_asked_again_after_one_minute_and_then_less_often() {
    let knows = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&knows);
    let crm = FakeCrm::start(move |seen| {
        if seen.asks_who() && !says.load(Ordering::Relaxed) {
            Reply::status(500)
        } else {
            tenants(seen)
        }
    })
    .await;
    let daemon = TestDaemon::with(
        &crm,
        "example",
        "[cache]\nfound = { fresh = \"2h\", stale = \"24h\" }\nadmitted = \"3h\"\n",
    )
    .await;
    let hit = async || daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    hit().await;
    for (minutes, asked) in [(0, 1), (1, 2), (1, 2), (1, 3), (3, 3), (1, 4)] {
        daemon.clock.advance(Duration::from_secs(minutes * 60));
        // Behind a hit.
        assert_eq!(source(&hit().await), Source::Memory);
        said_who(&crm, &daemon, asked).await;
        hit().await;
        assert_eq!(crm.asked_who(), asked, "after {minutes} minutes more");
        // After a failed renewal none is tried for a while, which is shorter than any of these
        // times.
        daemon.clock.advance(Duration::from_millis(1));
    }
    knows.store(true, Ordering::Relaxed);
    daemon.clock.advance(Duration::from_secs(15 * 60));
    hit().await;
    said_who(&crm, &daemon, 5).await;
    let searches = crm.searches();
    eventually_known(&daemon).await;
    // From now on the answers are the user's, whatever the token.
    assert_eq!(
        source(&daemon.find(find().auth("Bearer alice.2")).await.unwrap()),
        Source::Memory
    );
    assert_eq!(crm.searches(), searches + 1);
}

/// Waits until the CRM was asked so often whose a credential is, and all that it was asked is
/// answered.
async fn said_who(crm: &FakeCrm, daemon: &TestDaemon, times: usize) {
    eventually("the CRM is asked", || crm.asked_who() >= times).await;
    let answered = async {
        let all = |count: f64| count >= (crm.seen().len() + crm.asked_who()) as f64;
        while !daemon
            .metric("contactd_crm_request_duration_seconds_count{platform=\"example\"}")
            .await
            .is_some_and(all)
        {
            contactd::clock::sleep(Duration::from_millis(5)).await;
        }
    };
    contactd::clock::timeout(Duration::from_secs(10), answered)
        .await
        .expect("the CRM answers");
}

/// Waits until a look-up is made anew, for the identity that is known by now.
async fn eventually_known(daemon: &TestDaemon) {
    for _ in 0..500 {
        if source(&daemon.find(find().auth("Bearer alice.1")).await.unwrap()) == Source::Crm {
            return;
        }
        contactd::clock::sleep(Duration::from_millis(10)).await;
    }
    panic!("the identity is still not known");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_refused_credential_ends_for_all_user_ids_on_all_replicas() {
    let (crm, redis) = (FakeCrm::start(tenants).await, RedisServer::start().await);
    let mut daemons = vec![
        replica(&crm, &redis.url(), "").await,
        replica(&crm, &redis.url(), "").await,
    ];
    let ask = |user: &str, number: &str| find().user(user).auth("Bearer alice.1").number(number);
    for user in ["one", "two"] {
        for daemon in &daemons {
            daemon.find(ask(user, &number(1))).await.unwrap();
        }
    }
    crm.becomes(|_| Reply::status(401));
    // Found out by a search of one user id at one replica.
    assert_eq!(
        daemons[0]
            .find(ask("one", &number(2)))
            .await
            .unwrap_err()
            .code(),
        Code::Unauthenticated
    );
    // A replica that starts later knows it from Redis.
    daemons.push(replica(&crm, &redis.url(), "").await);
    contactd::clock::sleep(Duration::from_secs(1)).await;
    for (n, daemon) in daemons.iter().enumerate() {
        for user in ["one", "two"] {
            let failure = daemon.find(ask(user, &number(1))).await.unwrap_err();
            assert_eq!(failure.code(), Code::Unauthenticated, "replica {n}, {user}");
        }
    }
}

#[tokio::test]
async fn trust_is_renewed_behind_a_hit_before_it_ends() {
    let crm = FakeCrm::start(tenants).await;
    let daemon = TestDaemon::with(
        &crm,
        "example",
        "[cache]\nadmitted = \"10m\"\nfound = { fresh = \"2h\", stale = \"24h\" }\n",
    )
    .await;
    daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    for asked in 2..6 {
        daemon.clock.advance(Duration::from_secs(500));
        let answer = daemon.find(find().auth("Bearer alice.1")).await.unwrap();
        assert_eq!(source(&answer), Source::Memory);
        // The renewal before may still be ending on another thread: then the next hit begins one.
        while crm.asked_who() < asked {
            daemon.find(find().auth("Bearer alice.1")).await.unwrap();
            contactd::clock::sleep(Duration::from_millis(5)).await;
        }
        said_who(&crm, &daemon, asked).await;
    }
    crm.becomes(|_| Reply::status(401));
    daemon.clock.advance(Duration::from_secs(500));
    daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    let refused = async {
        while daemon.find(find().auth("Bearer alice.1")).await.is_ok() {
            contactd::clock::sleep(Duration::from_millis(10)).await;
        }
    };
    contactd::clock::timeout(Duration::from_secs(10), refused)
        .await
        .expect("and a refusal ends it at once");
}

#[tokio::test]
async fn a_short_deadline_or_a_used_up_quota_serves_nothing_to_a_lapsed_credential() {
    let crm = FakeCrm::start(tenants).await;
    let quota = "[connectors.example.quota]\nrate = 4\nper = \"60s\"\nburst = 4\n";
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    daemon.clock.advance(Duration::from_secs(2 * 3600));
    crm.becomes(|_| Reply::status(401).after(Duration::from_millis(300)));
    let hurried = (0..50).map(|_| {
        daemon.find(
            find()
                .auth("Bearer alice.1")
                .within(Duration::from_millis(40)),
        )
    });
    for answer in join_all(hurried).await {
        let status = answer.unwrap_err();
        assert!(
            [Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()),
            "{status:?}"
        );
    }
    eventually("the CRM has refused it", || crm.asked_who() == 2).await;

    // Another one, whose quota is used up when its trust has ended.
    crm.becomes(tenants);
    let daemon = TestDaemon::start(&toml).await;
    daemon.find(find().auth("Bearer bob.1")).await.unwrap();
    daemon
        .find(
            find()
                .auth("Bearer bob.1")
                .number(&number(1))
                .within(Duration::from_secs(5)),
        )
        .await
        .ok();
    daemon.clock.advance(Duration::from_secs(2 * 3600));
    let failure = daemon
        .find(find().auth("Bearer bob.1").within(Duration::from_secs(2)))
        .await
        .unwrap_err();
    assert_eq!(details(&failure).reason, "BUDGET_EXHAUSTED");
}

#[tokio::test]
async fn false_tokens_under_a_known_user_id_spend_nothing_of_that_users_quota() {
    let crm = FakeCrm::start(tenants).await;
    let quota = "[connectors.example.quota]\nrate = 6\nper = \"60s\"\nburst = 6\n";
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n{quota}",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    for n in 0..20 {
        let stored_or_not = if n % 2 == 0 {
            find()
        } else {
            find().number(&number(n))
        };
        let failure = daemon
            .find(
                stored_or_not
                    .auth("Bearer false")
                    .within(Duration::from_secs(1)),
            )
            .await;
        let failure = failure.unwrap_err();
        assert!(
            ["CRM_UNAUTHENTICATED", "BUDGET_EXHAUSTED"]
                .contains(&details(&failure).reason.as_str())
        );
    }
    let answer = daemon
        .find(
            find()
                .auth("Bearer alice.1")
                .number(&number(50))
                .within(Duration::from_secs(2)),
        )
        .await;
    assert_eq!(
        names(&answer.unwrap()),
        ["alice"],
        "three of six calls were left to her"
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn the_sandbox_and_production_share_a_redis_and_no_answer() {
    let (sandbox, production) = (FakeCrm::start(tenants).await, FakeCrm::start(tenants).await);
    production.becomes(|seen| {
        if seen.authorization.as_deref() == Some("Bearer alice.1") {
            Reply::status(401)
        } else {
            themselves(seen)
        }
    });
    let redis = RedisServer::start().await;
    let here = replica(&sandbox, &redis.url(), "").await;
    let there = replica(&production, &redis.url(), "").await;
    assert_eq!(
        names(&here.find(find().auth("Bearer alice.1")).await.unwrap()),
        ["alice"]
    );
    let failure = there.find(find().auth("Bearer alice.1")).await.unwrap_err();
    assert_eq!(
        failure.code(),
        Code::Unauthenticated,
        "what one address accepts says nothing about another"
    );
    assert_eq!(
        source(&here.find(find().auth("Bearer alice.1")).await.unwrap()),
        Source::Memory
    );
}

#[tokio::test]
async fn with_identity_caller_any_credential_that_the_crm_accepts_is_the_user_it_names() {
    let crm = FakeCrm::start(tenants).await;
    let toml = format!(
        "[connectors.example]\nkind = \"example\"\nidentity = \"caller\"\nbase_url = \"{}\"\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    assert_eq!(crm.asked_who(), 0, "nobody needs to know");
    let service = daemon.find(find().auth("Bearer bob.1")).await.unwrap();
    assert_eq!(
        (names(&service), source(&service)),
        (vec!["alice"], Source::Memory)
    );
    assert_eq!(
        (crm.asked_who(), crm.searches()),
        (1, 1),
        "one call shows that the credential is good"
    );
    assert_eq!(
        daemon
            .find(find().auth("Bearer false"))
            .await
            .unwrap_err()
            .code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_batch_under_an_unknown_credential_asks_whose_it_is_before_it_says_what_is_stored() {
    let crm = FakeCrm::start(tenants).await;
    let daemon = TestDaemon::over(&crm).await;
    let numbers: Vec<String> = (0..10).map(number).collect();
    run(
        &daemon,
        crate::prefetch::under(batch(numbers.clone()), "Bearer alice.1"),
    )
    .await;
    let searches = crm.searches();
    let again = run(
        &daemon,
        crate::prefetch::under(batch(numbers.clone()), "Bearer alice.2"),
    )
    .await;
    assert_eq!(
        (
            again.started.already_cached,
            again.finished.unwrap().crm_requests
        ),
        (10, 1)
    );
    assert_eq!((crm.searches(), crm.asked_who()), (searches, 2));
    let other = run(
        &daemon,
        crate::prefetch::under(batch(numbers), "Bearer bob.1"),
    )
    .await;
    assert_eq!(
        (other.started.already_cached, other.finished.unwrap().found),
        (0, 10)
    );
}

#[tokio::test]
async fn an_outage_of_the_crm_does_not_open_a_users_answers_to_a_stranger() {
    let crm = FakeCrm::start(tenants).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find().auth("Bearer alice.1")).await.unwrap();
    daemon
        .find(find().auth("Bearer mallory.1").number(&number(1)))
        .await
        .unwrap();
    crm.becomes(|_| Reply::status(503));
    for hours in [0, 2] {
        daemon.clock.advance(Duration::from_secs(hours * 3600));
        let stranger = daemon
            .find(find().auth("Bearer mallory.1"))
            .await
            .unwrap_err();
        assert_eq!(stranger.code(), Code::Unavailable);
        let alice = daemon.find(find().auth("Bearer alice.1")).await.unwrap();
        let freshness = if hours == 0 {
            Freshness::Fresh
        } else {
            Freshness::Stale
        };
        assert_eq!(
            (names(&alice), alice.lookup.as_ref().unwrap().freshness()),
            (vec!["alice"], freshness)
        );
    }
}
