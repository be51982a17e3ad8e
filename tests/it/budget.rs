//! What may be spent on a CRM: per HTTP call, by scope, by what the CRM says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contactd::clock::{self, Instant, Stopwatch};
use contactd::pb::v1::PrefetchContactsRequest;
use contactd::pb::v1::prefetch_contacts_response::Event;
use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use tonic::Code;

use crate::support::at_once::AtOnceCrm;
use crate::support::crm::{example, user_named};
use crate::support::daemon::{Changed as _, details, names};
use crate::support::strict::StrictCrm;
use crate::support::wire::failure_within;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

/// The window of the tests below.
const PER: Duration = Duration::from_secs(1);

async fn limited(crm: &FakeCrm, quota: &str) -> TestDaemon {
    let url = crm.url();
    TestDaemon::start(&format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\nquota = {quota}\n"
    ))
    .await
}

fn number(n: usize) -> String {
    format!("+1650{:07}", 2_000_000 + n)
}

#[tokio::test]
async fn calls_are_spent_one_by_one_not_by_look_up() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16502000000")]).await;
    let daemon = limited(&crm, r#"{ rate = 3, per = "180s", burst = 3 }"#).await;
    let found = daemon
        .find(
            find()
                .number("+16502000000")
                .within(Duration::from_secs(30)),
        )
        .await
        .unwrap();
    assert_eq!(found.lookup.unwrap().crm_requests, 2, "search and deals");
    assert_eq!(
        crm.asked_who(),
        1,
        "and the call that asks whose credential it is: all in the burst"
    );
    let fourth = daemon
        .find(
            find()
                .number("+16502000001")
                .within(Duration::from_secs(30)),
        )
        .await
        .unwrap_err();
    assert_eq!(
        details(&fourth).reason,
        "BUDGET_EXHAUSTED",
        "the fourth call would wait for its interval"
    );
    let waited = daemon
        .metric("contactd_quota_wait_seconds_count{platform=\"example\",lane=\"call_pop\"}")
        .await;
    assert_eq!(waited, Some(3.0));
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_fails_at_once_and_says_when_to_come_back() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = limited(&crm, r#"{ rate = 2, per = "60s", burst = 2 }"#).await;
    daemon.find(find()).await.unwrap();
    // The second is longer than the wait, and longer than the time of a look-up.
    for deadline in [20, 120] {
        let stopwatch = Stopwatch::start();
        let status = daemon
            .find(
                find()
                    .number(&number(1))
                    .within(Duration::from_secs(deadline)),
            )
            .await
            .unwrap_err();
        assert!(stopwatch.elapsed() < Duration::from_secs(10));
        let details = details(&status);
        assert_eq!(
            (status.code(), details.reason.as_str()),
            (Code::ResourceExhausted, "BUDGET_EXHAUSTED"),
            "{deadline} s"
        );
        assert!(
            (40..=60).contains(&details.retry_after.unwrap()),
            "{:?}",
            details.retry_after
        );
    }
    assert_eq!(crm.searches(), 1);
    assert!(
        daemon.find(find()).await.is_ok(),
        "what is cached needs no quota"
    );
}

#[tokio::test]
async fn users_have_quotas_of_their_own_and_accounts_share_one() {
    let crm = FakeCrm::with(vec![]).await;
    let of = |user: &str, n: usize| {
        let mut request = find().user(user).number(&number(n));
        request.user.as_mut().unwrap().account_id = "acme".to_owned();
        request.within(Duration::from_secs(20))
    };
    let daemon = limited(
        &crm,
        r#"{ rate = 2, per = "60s", burst = 2, scope = "user" }"#,
    )
    .await;
    assert!(daemon.find(of("a", 1)).await.is_ok() && daemon.find(of("b", 1)).await.is_ok());
    let daemon = limited(
        &crm,
        r#"{ rate = 2, per = "60s", burst = 2, scope = "account" }"#,
    )
    .await;
    assert!(daemon.find(of("a", 1)).await.is_ok());
    assert_eq!(
        details(&daemon.find(of("b", 1)).await.unwrap_err()).reason,
        "BUDGET_EXHAUSTED"
    );
}

#[tokio::test]
async fn false_tokens_cannot_use_up_an_accounts_quota_for_a_credential_that_is_proven() {
    let crm = FakeCrm::start(|seen| match seen.authorization.as_deref() {
        _ if seen.asks_who() => Reply::status(404),
        Some("Bearer token-1") => example(seen, &[]),
        _ => Reply::status(401),
    })
    .await;
    let daemon = limited(
        &crm,
        r#"{ rate = 6, per = "60s", burst = 6, scope = "account" }"#,
    )
    .await;
    let of = |auth: &str, n: usize| {
        let mut request = find().auth(auth).number(&number(n));
        request.user.as_mut().unwrap().account_id = "acme".to_owned();
        request.within(Duration::from_secs(2))
    };
    daemon.find(of("Bearer token-1", 0)).await.unwrap();
    let strangers = (1..20).map(|n| daemon.find(of(&format!("Bearer false-{n}"), n)));
    let refused = join_all(strangers)
        .await
        .into_iter()
        .map(|answer| details(&answer.unwrap_err()).reason);
    assert!(
        refused
            .filter(|reason| reason == "BUDGET_EXHAUSTED")
            .count()
            >= 16,
        "the quota is used up"
    );
    daemon.find(of("Bearer token-1", 20)).await.unwrap();
    let next = daemon.find(of("Bearer token-1", 21)).await.unwrap_err();
    assert_eq!(
        details(&next).reason,
        "BUDGET_EXHAUSTED",
        "one call was kept"
    );
}

#[tokio::test]
async fn a_429_pauses_the_user_as_long_as_the_crm_says() {
    let crm = FakeCrm::start(|_| Reply::status(429).header("retry-after", "4")).await;
    let daemon = limited(&crm, r#"{ rate = 1000, per = "1s", burst = 1000 }"#).await;
    let stopwatch = Stopwatch::start();
    assert_eq!(
        details(&daemon.find(find()).await.unwrap_err()).reason,
        "CRM_RATE_LIMITED"
    );
    crm.becomes(|seen| example(seen, &[contact(1, "Ada", "+16505551234")]));
    let refused = failure_within(daemon.grpc, &find(), Duration::from_millis(500)).await;
    assert_eq!(
        details(&refused).reason,
        "BUDGET_EXHAUSTED",
        "asking on would only lengthen it"
    );
    assert_eq!(
        names(
            &daemon
                .find(find().within(Duration::from_secs(15)))
                .await
                .unwrap()
        ),
        ["Ada"]
    );
    let waited = stopwatch.elapsed();
    assert!(waited >= Duration::from_secs(4), "{waited:?}");
    assert_eq!(crm.searches(), 2);
    assert!(
        daemon.find(find().user("another")).await.is_ok(),
        "other users are not paused"
    );
}

#[tokio::test]
async fn a_remaining_of_zero_waits_for_the_reset_in_seconds_or_unix_time() {
    // The daemon's clock stands at 2026-01-01T00:00:00Z, so that Unix time is two seconds ahead.
    for reset in ["2", "1767225602"] {
        let crm = FakeCrm::start(move |seen| {
            let empty = seen.param("phone") == Some("+16502000001");
            let reply = example(seen, &[]);
            let reply = reply
                .header("x-ratelimit-limit", "100")
                .header("x-ratelimit-reset", reset);
            reply.header("x-ratelimit-remaining", if empty { "0" } else { "90" })
        })
        .await;
        let daemon = limited(&crm, r#"{ rate = 1000, per = "1s", burst = 1000 }"#).await;
        let stopwatch = Stopwatch::start();
        daemon.find(find().number(&number(1))).await.unwrap();
        daemon.find(find().number(&number(2))).await.unwrap();
        let waited = stopwatch.elapsed();
        assert!(
            waited >= Duration::from_secs(2) && waited < Duration::from_secs(12),
            "{reset}: {waited:?}"
        );
    }
}

#[tokio::test]
async fn the_quota_is_kept_under_a_flood_of_call_pops() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = limited(&crm, r#"{ rate = 50, per = "1s", burst = 10 }"#).await;
    let stopwatch = Stopwatch::start();
    let answers = join_all((0..60).map(|n| {
        let daemon = &daemon;
        async move {
            daemon
                .find(find().number(&number(n)).within(Duration::from_secs(10)))
                .await
        }
    }))
    .await;
    assert!(answers.iter().all(Result::is_ok));
    let took = stopwatch.elapsed();
    // Ten at once, then fifty at 20 ms each.
    assert!(
        took >= Duration::from_millis(980) && took < Duration::from_secs(6),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_strict_crm_refuses_nothing_when_a_token_that_is_in_use_comes_with_new_user_ids() {
    let (rate, per) = (10, Duration::from_secs(1));
    for seed in 0..3 {
        let strict = StrictCrm::start(rate, per, seed).await;
        let toml = format!(
            "lookup.call_timeout = \"1s\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n\
             quota = {{ rate = {rate}, per = \"1s\", burst = {rate} }}\n",
            strict.crm.url()
        );
        let daemon = TestDaemon::start(&toml).await;
        let of = |user: usize, n: usize| {
            let mut request = find().number(&number(n));
            request.user.as_mut().unwrap().id = format!("user-{user}");
            daemon.find(request.within(Duration::from_secs(20)))
        };
        of(0, 0).await.unwrap();
        for round in 0..4 {
            // Long enough for all that was counted before to be forgotten.
            clock::sleep(per.mul_f64(2.5)).await;
            let known = (0..rate).map(|n| of(0, 1 + round * 100 + n));
            let new = (0..rate).map(|n| of(1 + round * rate + n, 50 + round * 100 + n));
            let (known, new) = join(join_all(known), async {
                clock::sleep(per / 4).await;
                join_all(new).await
            })
            .await;
            let failed: Vec<_> = known
                .iter()
                .chain(&new)
                .filter_map(|r| r.as_ref().err())
                .collect();
            assert!(failed.is_empty(), "{failed:?}");
        }
        assert_eq!(
            strict.refused(),
            0,
            "of {} calls, seed {seed}",
            strict.calls()
        );
    }
}

#[tokio::test]
async fn a_token_whose_owner_is_known_counts_for_the_owner_though_the_crm_does_not_say_it_again() {
    let (calls, says) = (
        Arc::<Mutex<Vec<Instant>>>::default(),
        Arc::new(AtomicBool::new(true)),
    );
    let (log, speaks) = (Arc::clone(&calls), Arc::clone(&says));
    let crm = FakeCrm::start(move |seen| {
        log.lock().push(clock::now());
        match seen.asks_who() {
            true if !speaks.load(Ordering::Relaxed) => Reply::status(503),
            true => user_named("ada"),
            false => example(seen, &[]),
        }
    })
    .await;
    let daemon = limited(&crm, r#"{ rate = 10, per = "1s", burst = 10 }"#).await;
    let of = |user: &str, token: &str, n: usize| {
        let mut request = find().auth(token).number(&number(n));
        request.user.as_mut().unwrap().id = user.to_owned();
        daemon.find(request.within(Duration::from_secs(15)))
    };
    of("a", "Bearer one", 0).await.unwrap();
    of("a", "Bearer two", 1).await.unwrap();
    says.store(false, Ordering::Relaxed);
    clock::sleep(Duration::from_secs(2)).await;
    of("b", "Bearer two", 2).await.unwrap();
    clock::sleep(Duration::from_secs(3)).await;
    calls.lock().clear();
    let one = join_all((100..110).map(|n| of("a", "Bearer one", n)));
    let two = join_all((200..210).map(|n| of("b", "Bearer two", n)));
    let (one, two) = join(one, two).await;
    assert!(one.iter().chain(&two).all(Result::is_ok));
    let calls = calls.lock();
    let within = |first: &Instant| {
        calls
            .iter()
            .filter(|call| (*first..*first + PER).contains(*call))
            .count()
    };
    let most = calls.iter().map(within).max().unwrap();
    assert!(most <= 10, "{most} calls in a second");
}

#[tokio::test]
async fn a_crm_that_counts_calls_at_once_refuses_nothing_over_all_kinds_and_lanes() {
    let takes = Duration::from_millis(200);
    for (limit, quota) in [
        (1, "rate = 1000, per = \"1s\", burst = 1000, concurrent = 1"),
        (5, "rate = 1000, per = \"1s\", burst = 1000, concurrent = 5"),
        (
            3,
            "rate = 1000, per = \"1s\", burst = 1000, concurrent = 3, search = { rate = 500, per = \"1s\" }",
        ),
    ] {
        let strict = AtOnceCrm::start(limit, takes, 1).await;
        let daemon = limited(&strict.crm, &format!("{{ {quota} }}")).await;
        let of = |n: usize| find().number(&number(n)).within(Duration::from_secs(30));
        let phones = join_all((0..30).map(|n| daemon.find(of(n))));
        let numbers = (100..130).map(number).collect();
        let (phones, events) = join(phones, prefetched(&daemon, numbers)).await;
        assert!(phones.iter().all(Result::is_ok), "{quota}");
        assert_eq!(events, 30, "{quota}");
        assert_eq!(strict.refused(), 0, "{quota}: of {}", strict.calls());
        assert_eq!(strict.most(), limit, "{quota}");
    }
}

/// Prefetches, and returns how many numbers were looked up.
async fn prefetched(daemon: &TestDaemon, phone_numbers: Vec<String>) -> u32 {
    let request = PrefetchContactsRequest {
        user: find().user,
        auth_header: find().auth_header,
        phone_numbers,
        overriding_formats: Vec::new(),
    };
    let batch = daemon.client.clone().prefetch_contacts(request).await;
    let mut events = batch.unwrap().into_inner();
    let mut last = None;
    while let Some(event) = events.message().await.unwrap() {
        last = event.event;
    }
    let Some(Event::Finished(finished)) = last else {
        panic!("{last:?}")
    };
    finished.not_found
}

#[tokio::test]
async fn a_phone_is_refused_if_all_calls_at_once_are_taken_until_its_deadline() {
    let crm = FakeCrm::with(vec![]).await;
    let quota = r#"{ rate = 1000, per = "1s", burst = 1000, concurrent = 1 }"#;
    let daemon = limited(&crm, quota).await;
    daemon.find(find().number(&number(0))).await.unwrap();
    let asked = crm.searches();
    crm.becomes(|seen| example(seen, &[]).after(Duration::from_secs(4)));
    let first = find().number(&number(1)).within(Duration::from_secs(30));
    let first = daemon.find(first);
    let second = async {
        eventually("a call is on the wire", || crm.searches() > asked).await;
        let request = find().number(&number(2));
        failure_within(daemon.grpc, &request, Duration::from_millis(700)).await
    };
    let (_first, refused) = join(first, second).await;
    let details = details(&refused);
    assert_eq!(details.reason, "BUDGET_EXHAUSTED");
    assert!(details.retry_after.is_some());
}

#[tokio::test]
async fn a_day_that_is_used_up_says_when_there_are_calls_again() {
    let crm = FakeCrm::with(vec![]).await;
    let quota =
        r#"{ rate = 4, per = "1s", burst = 4, per_day = 4, search = { rate = 4, per = "1s" } }"#;
    let daemon = limited(&crm, quota).await;
    let mut answered = 0;
    let refused = loop {
        let request = find()
            .number(&number(answered))
            .within(Duration::from_secs(20));
        match daemon.find(request).await {
            Ok(_) => answered += 1,
            Err(status) => break details(&status),
        }
    };
    assert_eq!(crm.searches() + crm.asked_who(), 4, "calls of all kinds");
    assert_eq!(refused.reason, "BUDGET_EXHAUSTED");
    let retry_after = refused.retry_after.unwrap();
    assert!((86_000..88_000).contains(&retry_after), "{retry_after}");
    assert!(
        daemon.find(find().number(&number(0))).await.is_ok(),
        "what is cached needs no quota"
    );
}
