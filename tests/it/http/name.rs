//! `GET /v1/name`: what a telephone system shows.

use std::time::Duration;

use serde_json::json;

use super::calls::{Answer, BOTH, Port, Version};
use super::{ada, hanging};
use crate::support::{FakeCrm, Reply, TestDaemon, contact};

const QUERY: &str = "platform=example&user=user-1";

fn asked(port: &Port, query: &str) -> reqwest::RequestBuilder {
    port.get(&format!("/v1/name?{query}"))
        .header("x-crm-authorization", "Bearer token-1")
}

#[tokio::test]
async fn the_name_of_a_caller_is_text_however_the_plus_was_written() {
    let crm = FakeCrm::with(vec![contact(1, "Zoë Ångström", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        for number in [
            "%2B16505551234",
            "+16505551234",
            "tel:%2B1-650-555-1234",
            "(650)%20555-1234&region=US",
            "(650)+555-1234&region=US",
        ] {
            let answer = Answer::to(asked(&port, &format!("{QUERY}&number={number}"))).await;
            assert_eq!(
                (answer.status, answer.text()),
                (200, "Zoë Ångström"),
                "{number}"
            );
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    assert_eq!(crm.searches(), 2, "one question with a region, one without");
}

#[tokio::test]
async fn nobody_and_a_contact_that_may_be_another_have_an_empty_answer() {
    let unverified = json!({"id": 1, "kind": "person", "name": "Who Knows", "phones": []});
    for contacts in [
        vec![],
        vec![unverified],
        vec![contact(1, "Other", "+16505550000")],
    ] {
        let crm = FakeCrm::with(contacts).await;
        let daemon = TestDaemon::over(&crm).await;
        let port = Port::new(daemon.grpc, Version::Http1);
        let answer = Answer::to(asked(&port, &format!("{QUERY}&number=%2B16505551234"))).await;
        assert_eq!((answer.status, answer.text()), (204, ""));
        assert!(
            answer.header("x-contactd-message").is_empty(),
            "nobody is no mistake"
        );
    }
}

#[tokio::test]
async fn an_empty_answer_about_a_number_that_cannot_be_looked_up_says_why_in_a_header() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        for (number, why) in [
            ("anonymous", "withheld"),
            ("", "withheld"),
            ("911", "Short codes, such as emergency numbers"),
            ("%2B999123456", "calling code that no country uses"),
            ("6505551234", "region"),
        ] {
            let answer = Answer::to(asked(&port, &format!("{QUERY}&number={number}"))).await;
            assert_eq!((answer.status, answer.text()), (204, ""), "{number}");
            let message = answer.header("x-contactd-message");
            assert!(message.contains(why), "{number}: {message}");
            assert!(!message.contains(|c: char| c.is_ascii_digit()), "{message}");
        }
    }
    assert_eq!(crm.searches(), 0);
}

#[tokio::test]
async fn a_likely_name_is_good_enough() {
    let crm = FakeCrm::with(vec![
        json!({"id": 1, "kind": "person", "name": "Unverified", "phones": []}),
        contact(2, "Likely", "16505551234"),
    ])
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let port = Port::new(daemon.grpc, Version::Http1);
    let query = format!("{QUERY}&region=US&number=%2B16505551234");
    assert_eq!(Answer::to(asked(&port, &query)).await.text(), "Likely");
}

#[tokio::test]
async fn a_failure_has_no_body_that_somebody_would_be_shown() {
    let crm = FakeCrm::start(|_| Reply::status(401)).await;
    let daemon = TestDaemon::over(&crm).await;
    let number = "number=%2B16505551234";
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        for (query, status, reason, message) in [
            (
                format!("{QUERY}&{number}"),
                401,
                "CRM_UNAUTHENTICATED",
                "the CRM does not accept the credential",
            ),
            (
                format!("user=u&{number}"),
                400,
                "INVALID_REQUEST",
                "platform is required",
            ),
            (
                format!("platform=example&{number}"),
                400,
                "INVALID_REQUEST",
                "user is required",
            ),
            (
                QUERY.to_owned(),
                400,
                "INVALID_REQUEST",
                "number is required",
            ),
            (
                format!("{QUERY}&number=no+digits"),
                400,
                "INVALID_REQUEST",
                "number ",
            ),
            (
                format!("{QUERY}&{number}&{number}"),
                400,
                "INVALID_REQUEST",
                "number is given twice",
            ),
            (
                format!("{QUERY}&{number}&region=XX"),
                400,
                "INVALID_REQUEST",
                "region is not",
            ),
            (
                format!("{QUERY}&{number}&timeout_ms=1s"),
                400,
                "INVALID_REQUEST",
                "timeout_ms is not",
            ),
            (
                format!("{QUERY}&{number}&token=7"),
                400,
                "INVALID_REQUEST",
                "the query has an unknown parameter",
            ),
        ] {
            let answer = Answer::to(asked(&port, &query)).await;
            assert_eq!((answer.status, answer.text()), (status, ""), "{query}");
            assert_eq!(answer.header("x-contactd-reason"), reason, "{query}");
            let said = answer.header("x-contactd-message");
            assert!(said.starts_with(message), "{query}: {said}");
        }
        let without = port.get(&format!("/v1/name?{QUERY}&{number}"));
        let without = Answer::to(without.header("authorization", "Bearer token-1")).await;
        let said = without.header("x-contactd-message");
        assert!(
            said.starts_with("x-crm-authorization is required"),
            "{said}"
        );
        let posted = Answer::to(port.post("/v1/name", "text/plain", "")).await;
        assert_eq!((posted.status, posted.header("allow")), (405, "GET"));
    }
}

#[tokio::test]
async fn a_time_limit_may_be_given_in_the_query_or_in_a_header() {
    let crm = hanging().await;
    let daemon = TestDaemon::over(&crm).await;
    let port = Port::new(daemon.grpc, Version::Http1);
    let query = format!("{QUERY}&number=%2B16505551234");
    for request in [
        asked(&port, &format!("{query}&timeout_ms=100")),
        asked(&port, &query).header("connect-timeout-ms", "100"),
    ] {
        let answer = contactd::clock::timeout(Duration::from_secs(5), Answer::to(request)).await;
        let answer = answer.expect("it ends in time");
        assert_eq!((answer.status, answer.text()), (504, ""));
        assert_eq!(answer.header("x-contactd-reason"), "DEADLINE_EXCEEDED");
    }
}

#[tokio::test]
async fn all_of_a_user_can_be_given_in_the_query() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let port = Port::new(daemon.grpc, Version::Http1);
    let query = format!(
        "{QUERY}&account=a&hostname=x.example.com&region=US&format=(%23%23%23)+%23%23%23-%23%23%23%23&format=*&number=6505551234"
    );
    let answer = Answer::to(asked(&port, &query)).await;
    assert!(
        answer.text() == "Ada" || answer.header("x-contactd-message").starts_with("hostname"),
        "{answer:?}"
    );
}
