//! A cached answer is served only under a credential that the CRM has accepted for this user.

use std::time::Duration;

use contactd::pb::v1::Freshness;
use futures_util::future::join_all;
use tonic::Code;

use crate::support::crm::{Seen, example, user_named};
use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

/// A CRM that knows two tokens of one user.
fn guarded(seen: &Seen) -> Reply {
    match seen.authorization.as_deref() {
        Some("Bearer token-1" | "Bearer token-2") if seen.asks_who() => user_named("ada"),
        Some("Bearer token-1" | "Bearer token-2") => {
            let phone = seen.param("phone").unwrap_or_default().to_owned();
            example(seen, &[contact(1, "Ada", &phone)])
        }
        _ => Reply::status(401),
    }
}

#[tokio::test]
async fn a_stolen_user_id_with_a_false_token_gets_no_contact() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    for _ in 0..3 {
        let status = daemon.find(find().auth("Bearer false")).await.unwrap_err();
        assert_eq!(
            (status.code(), details(&status).reason.as_str()),
            (Code::Unauthenticated, "CRM_UNAUTHENTICATED")
        );
    }
    let mut cached = find().auth("Bearer false");
    cached.only_if_cached = true;
    assert_eq!(
        daemon.find(cached).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        names(&daemon.find(find()).await.unwrap()),
        ["Ada"],
        "the rightful user is not disturbed"
    );
}

#[tokio::test]
async fn a_rotated_token_costs_one_call_not_a_cold_cache() {
    let crm = FakeCrm::start(move |seen| guarded(seen).after(Duration::from_millis(50))).await;
    let daemon = TestDaemon::over(&crm).await;
    let numbers: Vec<String> = (0..20).map(|n| format!("+165020000{n:02}")).collect();
    for number in &numbers {
        daemon.find(find().number(number)).await.unwrap();
    }
    let before = crm.searches();
    let answers = join_all(
        numbers
            .iter()
            .map(|number| daemon.find(find().number(number).auth("Bearer token-2"))),
    )
    .await;
    assert!(
        answers
            .iter()
            .all(|answer| names(answer.as_ref().unwrap()) == ["Ada"])
    );
    assert_eq!(
        crm.searches(),
        before,
        "no search: the CRM says that it is the same user"
    );
    assert_eq!(crm.asked_who(), 2, "once for each token");
    daemon.find(find().number(&numbers[0])).await.unwrap();
    assert_eq!(
        (crm.searches(), crm.asked_who()),
        (before, 2),
        "and the old one is still good"
    );
}

#[tokio::test]
async fn a_401_takes_the_trust_back() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    crm.becomes(|_| Reply::status(401));
    assert_eq!(
        daemon
            .find(find().number("+16502000000"))
            .await
            .unwrap_err()
            .code(),
        Code::Unauthenticated
    );
    assert_eq!(
        daemon.find(find()).await.unwrap_err().code(),
        Code::Unauthenticated,
        "the cached one is not served either"
    );
    crm.becomes(guarded);
    assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
}

#[tokio::test]
async fn a_credential_is_trusted_for_its_own_user_and_for_a_limited_time() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::with(&crm, "example", "[cache]\nadmitted = \"1m\"\n").await;
    daemon.find(find()).await.unwrap();
    daemon
        .find(find().user("user-2").auth("Bearer token-1"))
        .await
        .unwrap();
    assert_eq!(
        (crm.searches(), crm.asked_who()),
        (2, 2),
        "once for each user id that is claimed"
    );
    daemon.clock.advance(Duration::from_secs(47));
    daemon.find(find()).await.unwrap();
    assert_eq!((crm.searches(), crm.asked_who()), (2, 2));
    daemon.clock.advance(Duration::from_secs(14));
    assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"]);
    assert_eq!(
        (crm.searches(), crm.asked_who()),
        (2, 3),
        "after a minute it proves itself again"
    );
}

#[tokio::test]
async fn a_403_admits_nobody() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    crm.becomes(|seen| {
        if seen.authorization.as_deref() == Some("Bearer low") {
            Reply::status(403)
        } else {
            guarded(seen)
        }
    });
    for _ in 0..2 {
        assert_eq!(
            daemon
                .find(find().auth("Bearer low"))
                .await
                .unwrap_err()
                .code(),
            Code::PermissionDenied
        );
    }
}

#[tokio::test]
async fn a_credential_that_was_accepted_before_outlives_an_outage_of_the_crm_and_nothing_else() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::with(&crm, "example", "[lookup]\nsoft_deadline = \"300ms\"\n").await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(Duration::from_secs(7200));
    for down in [Reply::status(503), Reply::cut(), guarded_slowly()] {
        let shown = format!("{down:.60?}");
        crm.becomes(move |_| down.clone());
        let answer = daemon.find(find()).await.unwrap();
        assert_eq!(
            (names(&answer), answer.lookup.as_ref().unwrap().freshness()),
            (vec!["Ada"], Freshness::Stale),
            "{shown}"
        );
        assert!(
            daemon.find(find().auth("Bearer token-2")).await.is_err(),
            "one that was never accepted does not"
        );
        // For this time the CRM is not asked again whose the credential is.
        daemon.clock.advance(Duration::from_secs(20 * 60));
    }
    crm.becomes(|_| Reply::status(429));
    let limited = daemon.find(find()).await.unwrap_err();
    assert_eq!(
        details(&limited).reason,
        "CRM_RATE_LIMITED",
        "a CRM that says its limit is reached is there"
    );
}

/// No reply for much longer than anybody waits.
fn guarded_slowly() -> Reply {
    Reply::status(200).after(Duration::from_secs(30))
}

#[tokio::test]
async fn a_credential_that_was_accepted_before_does_not_outlive_its_end() {
    let crm = FakeCrm::start(guarded).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    daemon.clock.advance(Duration::from_secs(7200));
    crm.becomes(|_| Reply::status(401));
    for _ in 0..2 {
        assert_eq!(
            daemon.find(find()).await.unwrap_err().code(),
            Code::Unauthenticated
        );
    }
}
