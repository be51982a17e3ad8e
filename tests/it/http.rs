//! The Connect protocol and `GET /v1/name` on the port of gRPC, over both versions of HTTP.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use contactd::clock::sleep;
use contactd::pb::v1::{FindContactRequest, FindContactResponse};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::daemon::Changed as _;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

use calls::{Answer, BOTH, FIND, INVALIDATE, Port, Version, question, question_of};

pub(crate) mod calls;
mod hostile;
mod limits;
mod name;
mod programs;
mod streams;

async fn ada() -> FakeCrm {
    FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await
}

/// A CRM that hangs.
async fn hanging() -> FakeCrm {
    FakeCrm::start(|_| Reply::status(200).after(Duration::from_secs(60))).await
}

fn encoded(message: &str) -> String {
    url::form_urlencoded::byte_serialize(message.as_bytes()).collect()
}

#[tokio::test]
async fn a_look_up_by_json_is_the_seeds_object_over_both_versions_of_http() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    for (version, user) in BOTH.into_iter().zip(["one", "two"]) {
        let port = Port::new(daemon.grpc, version);
        for source in ["SOURCE_CRM", "SOURCE_MEMORY"] {
            let answer = port.json(FIND, &question_of(user)).await;
            assert_eq!(answer.names(), ["Ada"], "{version:?}");
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.header("cache-control"), "no-store");
            let json = answer.json();
            let contact = &json["matchedContactInfo"][0];
            assert_eq!(contact["isNewContact"], false);
            assert_eq!(contact["id"], "1");
            assert_eq!(contact["email"], "", "fields without a value are there");
            assert_eq!(json["matchedContactInfo"][1]["id"], "createNewContact");
            assert_eq!(json["returnMessage"]["messageType"], "success");
            assert_eq!(json["returnMessage"]["ttl"], 3000);
            assert_eq!(json["lookup"]["source"], source);
        }
    }
}

#[tokio::test]
async fn a_look_up_by_proto_is_the_message_that_grpc_answers() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(find()).await.unwrap();
    let mut expected = daemon.find(find()).await.unwrap();
    expected.lookup.as_mut().unwrap().age = None;
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        let request = port.post(FIND, "application/proto", find().encode_to_vec());
        let answer = Answer::to(request.header("connect-protocol-version", "1")).await;
        assert_eq!(answer.header("content-type"), "application/proto");
        let mut response = FindContactResponse::decode(&*answer.body).unwrap();
        response.lookup.as_mut().unwrap().age = None;
        assert_eq!(response, expected, "{version:?}");
    }
}

#[tokio::test]
async fn a_look_up_may_be_asked_by_get() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let message = question().to_string();
    let proto = find().auth("Bearer user-1").encode_to_vec();
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        for query in [
            format!("connect=v1&encoding=json&message={}", encoded(&message)),
            format!("message={}&encoding=json&base64=0", encoded(&message)),
            format!(
                "encoding=json&base64=1&message={}",
                URL_SAFE.encode(&message)
            ),
            format!(
                "encoding=json&base64=1&message={}",
                URL_SAFE_NO_PAD.encode(&message)
            ),
            format!(
                "encoding=json&compression=identity&message={}",
                encoded(&message)
            ),
        ] {
            let answer = Answer::to(port.get(&format!("{FIND}?{query}"))).await;
            assert_eq!(answer.names(), ["Ada"], "{query}");
        }
        let query = format!(
            "encoding=proto&base64=1&message={}",
            URL_SAFE.encode(&proto)
        );
        let answer = Answer::to(port.get(&format!("{FIND}?{query}"))).await;
        let response = FindContactResponse::decode(&*answer.body).unwrap();
        assert_eq!(response.matched_contact_info[0].name, "Ada");
        for (query, field) in [
            (String::new(), "encoding"),
            (
                format!("encoding=xml&message={}", encoded(&message)),
                "encoding",
            ),
            ("encoding=json".to_owned(), "message"),
            ("encoding=json&message={}&message={}".to_owned(), "message"),
            ("encoding=json&base64=1&message=*".to_owned(), "message"),
            ("encoding=json&base64=yes&message={}".to_owned(), "base64"),
            ("encoding=json&connect=v2&message={}".to_owned(), "connect"),
            ("encoding=json&message={}".to_owned(), "user"),
        ] {
            let failure = Answer::to(port.get(&format!("{FIND}?{query}")))
                .await
                .failure();
            assert_eq!(failure.kind(), (400, "invalid_argument", "INVALID_REQUEST"));
            assert_eq!(failure.fields, [field], "{query}");
        }
    }
    let port = Port::new(daemon.grpc, Version::Http1);
    let request = port.get(&format!("{INVALIDATE}?encoding=json&message={{}}"));
    let answer = Answer::to(request).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn what_was_invalidated_is_asked_again() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        port.json(FIND, &question()).await.names();
        let before = crm.searches();
        let user = question()["user"].clone();
        let forget = json!({ "user": user, "numbers": { "phoneNumbers": ["+16505551234"] } });
        let answer = port.json(INVALIDATE, &forget).await;
        assert_eq!((answer.status, answer.text()), (200, "{}"));
        port.json(FIND, &question()).await.names();
        assert_eq!(crm.searches(), before + 1, "{version:?}");
        let failure = port
            .json(INVALIDATE, &json!({ "user": user }))
            .await
            .failure();
        assert_eq!(failure.fields, ["scope"]);
    }
}

/// The name of the code in the Connect protocol.
fn name(code: Code) -> String {
    let words = format!("{code:?}");
    let mut name = String::new();
    for c in words.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// HTTP status, reason, the CRM's reply, and the question.
type Case = (u16, &'static str, fn() -> Reply, FindContactRequest);

#[tokio::test]
async fn a_failure_has_the_code_the_message_and_the_details_that_grpc_has() {
    let crm = ada().await;
    let daemon = TestDaemon::start(&format!(
        "[lookup]\nmax_reply = \"256KiB\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    ))
    .await;
    let limited = || Reply::status(429).header("retry-after", "7");
    let cases: [Case; 8] = [
        (401, "CRM_UNAUTHENTICATED", || Reply::status(401), find()),
        (403, "CRM_FORBIDDEN", || Reply::status(403), find()),
        (503, "CRM_UNAVAILABLE", || Reply::status(500), find()),
        (500, "CRM_BAD_REPLY", Reply::html, find()),
        (400, "INVALID_REQUEST", Reply::html, find().platform("none")),
        (400, "INVALID_REQUEST", Reply::html, find().region("XX")),
        (
            400,
            "INVALID_REQUEST",
            Reply::html,
            find().number("no digits"),
        ),
        (429, "CRM_RATE_LIMITED", limited, find()),
    ];
    for (n, (http, reason, reply, request)) in cases.into_iter().enumerate() {
        crm.becomes(move |_| reply());
        for version in BOTH {
            // Users of their own, because some failures are remembered.
            let request = request.clone();
            let of = |wire: &str| {
                request
                    .clone()
                    .user(&format!("user-{n}-{version:?}-{wire}"))
            };
            let status = daemon.find(of("grpc")).await.unwrap_err();
            let port = Port::new(daemon.grpc, version);
            let call = port.post(FIND, "application/proto", of("http").encode_to_vec());
            let answer = Answer::to(call).await;
            let failure = answer.failure();
            let code = name(status.code());
            assert_eq!(failure.kind(), (http, &*code, reason), "{version:?}");
            assert_eq!(failure.message, status.message());
            assert_eq!(answer.header("content-type"), "application/json");
            let details = tonic_types::pb::Status::decode(status.details())
                .unwrap()
                .details;
            let expected: Vec<_> = details
                .iter()
                .map(|any| {
                    let name = any.type_url.rsplit('/').next().unwrap();
                    (json!(name), json!(STANDARD_NO_PAD.encode(&any.value)))
                })
                .collect();
            let json = answer.json();
            let got = json["details"].as_array().unwrap().iter();
            let got: Vec<_> = got
                .map(|detail| (detail["type"].clone(), detail["value"].clone()))
                .collect();
            assert_eq!(got, expected);
            let words = &json["details"].as_array().unwrap().last().unwrap()["debug"];
            assert!(words["message"].is_string() && words["ttl"].is_number());
            let wait = if http == 429 { "7" } else { "" };
            assert_eq!(answer.header("retry-after"), wait);
        }
    }
}

#[tokio::test]
async fn a_call_ends_with_its_time_limit_and_the_look_up_goes_on() {
    let crm = FakeCrm::start(|seen| {
        let contacts = [contact(1, "Ada", "+16505551234")];
        crate::support::crm::example(seen, &contacts).after(Duration::from_millis(400))
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    for (version, user) in BOTH.into_iter().zip(["one", "two"]) {
        let port = Port::new(daemon.grpc, version);
        let ask = |limit: &'static str| {
            let request = port.post(FIND, "application/json", question_of(user).to_string());
            Answer::to(request.header("connect-timeout-ms", limit))
        };
        let failure = ask("100").await.failure();
        let expected = (504, "deadline_exceeded", "DEADLINE_EXCEEDED");
        assert_eq!(failure.kind(), expected, "{version:?}");
        assert_eq!(ask("5000").await.names(), ["Ada"]);
        for wrong in ["", "-1", "1s", "12345678901"] {
            let failure = ask(wrong).await.failure();
            assert_eq!(failure.fields, ["connect-timeout-ms"], "{wrong:?}");
        }
    }
    assert_eq!(crm.searches(), 2, "each look-up was made once");
}

#[tokio::test]
async fn look_ups_are_counted_as_those_of_grpc_even_if_the_client_leaves() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let count = async |labels: &str| {
        let series = format!("contactd_lookups_total{{platform=\"{labels}\"}}");
        daemon.metric(&series).await.unwrap_or_default()
    };
    for (n, version) in (1..).zip(BOTH) {
        let port = Port::new(daemon.grpc, version);
        let user = format!("user-{n}");
        port.json(FIND, &question_of(&user)).await.names();
        port.json(FIND, &question_of(&user)).await.names();
        port.json(FIND, &json!({})).await.failure();
        let incoming = "example\",trigger=\"incoming_call\",source=";
        let [from_crm, from_memory] =
            ["crm", "memory"].map(|source| format!("{incoming}\"{source}\",outcome=\"found"));
        assert_eq!(count(&from_crm).await, f64::from(n));
        assert_eq!(count(&from_memory).await, f64::from(n));
        let refused =
            "unknown\",trigger=\"incoming_call\",source=\"none\",outcome=\"invalid_request";
        assert_eq!(count(refused).await, f64::from(n));
    }
    crm.becomes(|_| Reply::status(200).after(Duration::from_secs(60)));
    for (n, version) in (1..).zip(BOTH) {
        let port = Port::new(daemon.grpc, version);
        let question = question_of(&format!("left-{n}"));
        let call = port.json(FIND, &question);
        drop(contactd::clock::timeout(Duration::from_millis(300), call).await);
        let cancelled = "example\",trigger=\"incoming_call\",source=\"none\",outcome=\"cancelled";
        let counted = async {
            while count(cancelled).await < f64::from(n) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let counted = contactd::clock::timeout(Duration::from_secs(10), counted).await;
        assert!(counted.is_some(), "{version:?}");
    }
}

#[tokio::test]
async fn withheld_numbers_and_enums_by_name_are_read_as_by_grpc() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let port = Port::new(daemon.grpc, Version::Http1);
    let with = |field: &str, value: Value| {
        let mut question = question();
        question[field] = value;
        question
    };
    let withheld = port
        .json(FIND, &with("phoneNumber", json!("anonymous")))
        .await;
    assert!(withheld.names().is_empty() && crm.seen().is_empty());
    port.json(FIND, &question()).await.names();
    let refresh = with("trigger", json!("TRIGGER_MANUAL_REFRESH"));
    let source = port.json(FIND, &refresh).await.json()["lookup"]["source"].clone();
    assert_eq!(source, "SOURCE_CRM");
    let unknown = port.json(FIND, &with("trigger", json!(99))).await.failure();
    assert_eq!(unknown.fields, ["trigger"]);
}
