//! Every way in which a CRM can fail, and what the caller is told.

use std::time::Duration;

use tonic::Code;

use crate::support::crm::example;
use crate::support::daemon::{Changed as _, details};
use crate::support::wire::failure_within;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find, refresh};

/// Time and size limits small enough for a test.
const LIMITS: &str = "[lookup]\ncall_timeout = \"400ms\"\ntimeout = \"900ms\"\n";

#[tokio::test]
async fn each_failure_of_the_crm_has_its_status_reason_and_words() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, "example", LIMITS).await;
    for (reply, code, reason) in [
        (
            Reply::status(401),
            Code::Unauthenticated,
            "CRM_UNAUTHENTICATED",
        ),
        (Reply::status(403), Code::PermissionDenied, "CRM_FORBIDDEN"),
        (
            Reply::status(429),
            Code::ResourceExhausted,
            "CRM_RATE_LIMITED",
        ),
        (Reply::status(500), Code::Unavailable, "CRM_UNAVAILABLE"),
        (Reply::status(503), Code::Unavailable, "CRM_UNAVAILABLE"),
        (Reply::status(408), Code::Unavailable, "CRM_UNAVAILABLE"),
        (Reply::cut(), Code::Unavailable, "CRM_UNAVAILABLE"),
        (Reply::drip(), Code::Unavailable, "CRM_UNAVAILABLE"),
        (
            Reply::json(serde_json::json!({"contacts": []})).after(Duration::from_secs(60)),
            Code::Unavailable,
            "CRM_UNAVAILABLE",
        ),
        (Reply::html(), Code::Internal, "CRM_BAD_REPLY"),
        (Reply::status(404), Code::Internal, "CRM_BAD_REPLY"),
        (Reply::status(204), Code::Internal, "CRM_BAD_REPLY"),
        (Reply::huge(50_000_000), Code::Internal, "CRM_BAD_REPLY"),
        (
            Reply::json(serde_json::json!({"contacts": "none"})),
            Code::Internal,
            "CRM_BAD_REPLY",
        ),
        (
            Reply::json(serde_json::json!([])),
            Code::Internal,
            "CRM_BAD_REPLY",
        ),
    ] {
        let label = format!("{reply:.80?}");
        crm.becomes(move |_| reply.clone());
        // A user of their own each, because a refused rate pauses the user's quota.
        let status = daemon.find(find().user(&label)).await.unwrap_err();
        assert_eq!(status.code(), code, "{label}");
        let details = details(&status);
        assert_eq!(
            (details.reason.as_str(), details.domain.as_str()),
            (reason, "contactd"),
            "{label}"
        );
        let person = details.message.unwrap();
        assert!(!person.message.is_empty() && !person.details.is_empty() && person.ttl > 0);
        assert!(["warning", "danger"].contains(&person.message_type.as_str()));
        let told = format!("{status:?}");
        assert!(
            !told.contains("6505551234") && !told.contains("token-1") && !told.contains("scripted"),
            "{told}"
        );
    }

    // None of it was kept: the CRM is asked again and its answer is an answer.
    crm.becomes(|seen| example(seen, &[contact(1, "Ada", "+16505551234")]));
    assert_eq!(
        daemon.find(find()).await.unwrap().matched_contact_info[0].name,
        "Ada"
    );
}

#[tokio::test]
async fn each_call_is_counted_once_by_its_status_or_as_an_error() {
    let crm = FakeCrm::with(vec![]).await;
    // One call for each look-up: nobody asks whose credential it is.
    let connector = format!(
        "[connectors.example]\nkind = \"example\"\nidentity = \"caller\"\nbase_url = \"{}\"",
        crm.url()
    );
    let daemon = TestDaemon::start(&format!("{LIMITS}\n{connector}\n")).await;
    let count = async |status: &str| {
        let name =
            format!("contactd_crm_requests_total{{platform=\"example\",status=\"{status}\"}}");
        daemon.metric(&name).await.unwrap_or(0.0)
    };
    let late = Reply::json(serde_json::json!({"contacts": []})).after(Duration::from_secs(60));
    for (n, (reply, status)) in (1..).zip([
        (Reply::drip(), "error"),
        (Reply::cut(), "error"),
        (late, "error"),
        (Reply::huge(50_000_000), "error"),
        (Reply::html(), "2xx"),
        (Reply::status(401), "4xx"),
        (Reply::status(404), "4xx"),
        (Reply::status(204), "2xx"),
        (Reply::status(500), "5xx"),
    ]) {
        let label = format!("{reply:.80?}");
        crm.becomes(move |_| reply.clone());
        let before = count(status).await;
        daemon.find(find().user(&label)).await.unwrap_err();
        assert!((count(status).await - before - 1.0).abs() < 0.1, "{label}");
        let mut all = 0.0;
        for status in ["2xx", "3xx", "4xx", "5xx", "error"] {
            all += count(status).await;
        }
        assert!((all - f64::from(n)).abs() < 0.1, "{label}: {all} of {n}");
    }
}

#[tokio::test]
async fn retry_after_is_passed_on_from_seconds_and_from_a_date() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    // The daemon's clock shows 2026-01-01T00:00:00Z.
    for (header, seconds) in [
        (Some("7"), 7),
        (Some("Thu, 01 Jan 2026 00:00:30 GMT"), 30),
        (Some("Wed, 31 Dec 2025 23:59:00 GMT"), 0),
        (Some("soon"), 60),
        (None, 60),
    ] {
        crm.becomes(move |_| match header {
            Some(value) => Reply::status(429).header("retry-after", value),
            None => Reply::status(429),
        });
        let status = daemon
            .find(find().user(&format!("{header:?}")))
            .await
            .unwrap_err();
        assert_eq!(details(&status).retry_after, Some(seconds), "{header:?}");
    }
}

#[tokio::test]
async fn a_crm_that_refuses_connections_is_unavailable() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    drop(crm);
    let status = daemon.find(find()).await.unwrap_err();
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::Unavailable, "CRM_UNAVAILABLE")
    );
}

#[tokio::test]
async fn a_failed_refresh_leaves_the_good_answer() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    for status in [500, 429] {
        crm.becomes(move |_| Reply::status(status));
        assert!(daemon.find(refresh()).await.is_err());
    }
    assert_eq!(
        daemon.find(find()).await.unwrap().matched_contact_info[0].name,
        "Ada"
    );
}

#[tokio::test]
async fn the_callers_deadline_is_deadline_exceeded() {
    let slow = Reply::json(serde_json::json!({"contacts": [], "next_page": null}))
        .after(Duration::from_millis(500));
    let crm = FakeCrm::start(move |_| slow.clone()).await;
    let daemon = TestDaemon::over(&crm).await;
    let status = failure_within(daemon.grpc, &find(), Duration::from_millis(100)).await;
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
}

#[tokio::test]
async fn more_calls_than_the_limit_are_refused_at_once() {
    let slow = Reply::json(serde_json::json!({"contacts": [], "next_page": null}))
        .after(Duration::from_millis(300));
    let crm = FakeCrm::start(move |_| slow.clone()).await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_in_flight = 2\n").await;
    let calls = (0..5).map(|n| daemon.find(find().number(&format!("+1650555000{n}"))));
    let results = futures_util::future::join_all(calls).await;
    let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 3);
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = details(&status);
        assert_eq!(
            (details.reason.as_str(), details.retry_after),
            ("OVERLOADED", Some(0))
        );
    }
}
