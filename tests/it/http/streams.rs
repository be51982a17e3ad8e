//! `PrefetchContacts` as a Connect server stream.

use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::prefetch_contacts_response::Event;
use contactd::pb::v1::{PrefetchContactsRequest, PrefetchContactsResponse};
use prost::Message as _;
use serde_json::{Value, json};

use super::calls::{Answer, BOTH, Failure, PREFETCH, Port, Version, envelope, opened};
use super::{ada, hanging};
use crate::support::{FakeCrm, Reply, TestDaemon, eventually, find};

const JSON: &str = "application/connect+json";
const PROTO: &str = "application/connect+proto";

fn batch(user: &str, numbers: &[&str]) -> Value {
    json!({
        "user": { "id": user, "platform": "example" },
        "authHeader": format!("Bearer {user}"),
        "phoneNumbers": numbers,
    })
}

async fn run(port: &Port, batch: &Value) -> Answer {
    let body = envelope(0, batch.to_string().as_bytes());
    Answer::to(port.post(PREFETCH, JSON, body)).await
}

/// The messages of a stream, and its last word.
fn read(answer: &Answer) -> (Vec<Value>, Value) {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, JSON),
        "{}",
        answer.text()
    );
    let mut messages = opened(&answer.body);
    let (flags, last) = messages.pop().expect("a stream has a last message");
    assert_eq!(flags, 2);
    let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let events = messages.iter().map(|(flags, message)| {
        assert_eq!(*flags, 0);
        parsed(message)
    });
    (events.collect(), parsed(&last))
}

/// The failure with which a stream ended.
fn failure(answer: &Answer) -> Failure {
    let (_, last) = read(answer);
    Failure::of(answer.status, &last["error"])
}

#[tokio::test]
async fn a_batch_streams_its_progress_as_json_and_as_proto() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    for (version, user) in BOTH.into_iter().zip(["one", "two"]) {
        let port = Port::new(daemon.grpc, version);
        let answer = run(
            &port,
            &batch(user, &["+16505551234", "none", "+16505551235"]),
        )
        .await;
        let (events, last) = read(&answer);
        assert_eq!(last, json!({}));
        assert_eq!(events[0]["started"]["distinct"], 3, "{events:?}");
        let mut outcomes: Vec<_> = events[1..4]
            .iter()
            .map(|e| e["result"]["outcome"].clone())
            .collect();
        outcomes.sort_by_key(ToString::to_string);
        assert_eq!(
            outcomes,
            [
                "PREFETCH_OUTCOME_FOUND",
                "PREFETCH_OUTCOME_INVALID_NUMBER",
                "PREFETCH_OUTCOME_NOT_FOUND"
            ]
        );
        assert_eq!(events[4]["finished"]["found"], 1);

        let request = PrefetchContactsRequest {
            user: Some(contactd::pb::v1::User {
                id: user.to_owned(),
                ..find().user.unwrap()
            }),
            auth_header: format!("Bearer {user}"),
            phone_numbers: vec!["+16505551234".to_owned()],
            ..Default::default()
        };
        let body = envelope(0, &request.encode_to_vec());
        let answer = Answer::to(port.post(PREFETCH, PROTO, body)).await;
        assert_eq!(answer.header("content-type"), PROTO);
        let messages = opened(&answer.body);
        let Some(Event::Started(started)) = PrefetchContactsResponse::decode(&*messages[0].1)
            .unwrap()
            .event
        else {
            panic!("it starts: {messages:?}")
        };
        assert_eq!(started.already_cached, 1);
        assert_eq!(messages.last().unwrap(), &(2, b"{}".to_vec()));
    }
}

#[tokio::test]
async fn a_failure_is_the_last_message_of_the_stream() {
    let crm = FakeCrm::start(|_| Reply::status(401)).await;
    let daemon = TestDaemon::over(&crm).await;
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        let answer = run(&port, &batch("user-1", &["+16505551234"])).await;
        let refused = (200, "unauthenticated", "CRM_UNAUTHENTICATED");
        assert_eq!(failure(&answer).kind(), refused, "{version:?}");
        let invalid = (200, "invalid_argument", "INVALID_REQUEST");
        let mut unknown = batch("user-1", &[]);
        unknown["numbers"] = json!([]);
        let answer = run(&port, &unknown).await;
        assert_eq!(failure(&answer).kind(), invalid);
        assert_eq!(failure(&answer).fields, ["numbers"]);
        let empty = Answer::to(port.post(PREFETCH, JSON, "")).await;
        assert_eq!(failure(&empty).fields, ["request"]);
        let cut = Answer::to(port.post(PREFETCH, JSON, "\0\0\0\0\x09{}")).await;
        assert_eq!(failure(&cut).fields, ["request"]);
        let compressed = Answer::to(port.post(PREFETCH, JSON, envelope(1, b"{}"))).await;
        assert_eq!(
            (compressed.status, compressed.failure().code.as_str()),
            (501, "unimplemented")
        );
        let unary = Answer::to(port.post(PREFETCH, "application/json", "{}")).await;
        assert_eq!(unary.status, 415);
        assert!(unary.header("accept-post").contains(JSON));
    }
}

#[tokio::test]
async fn a_batch_ends_with_its_time_limit() {
    let crm = hanging().await;
    let daemon = TestDaemon::over(&crm).await;
    for (version, user) in BOTH.into_iter().zip(["one", "two"]) {
        let port = Port::new(daemon.grpc, version);
        let body = envelope(0, batch(user, &["+16505551234"]).to_string().as_bytes());
        let request = port.post(PREFETCH, JSON, body);
        let answer = Answer::to(request.header("connect-timeout-ms", "200")).await;
        let expected = (200, "deadline_exceeded", "DEADLINE_EXCEEDED");
        assert_eq!(failure(&answer).kind(), expected, "{version:?}");
    }
    no_job_runs(&daemon).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_batch() {
    let crm = hanging().await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_prefetch_jobs = 1\n").await;
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        let batch = batch("user-1", &["+16505551234"]);
        let running = run(&port, &batch);
        let left = clock::timeout(Duration::from_millis(500), running).await;
        assert!(left.is_none(), "{version:?}: it waits for the CRM");
        no_job_runs(&daemon).await;
    }
}

#[tokio::test]
async fn a_batch_keeps_its_place_among_batches_until_it_ends() {
    let crm = hanging().await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_prefetch_jobs = 1\n").await;
    let port = Port::new(daemon.grpc, Version::Http2);
    let held = batch("user-1", &["+16505551234"]);
    let (mut running, mut asked) = (Box::pin(run(&port, &held)), false);
    while !asked {
        let _ = clock::timeout(Duration::from_millis(20), &mut running).await;
        asked = crm.asked_who() + crm.searches() > 0;
    }
    let answer = run(&port, &batch("user-2", &["+16505551234"])).await;
    let full = (200, "resource_exhausted", "OVERLOADED");
    assert_eq!(failure(&answer).kind(), full);
    drop(running);
    no_job_runs(&daemon).await;
    eventually("the CRM was asked", || crm.asked_who() > 0).await;
}

async fn no_job_runs(daemon: &TestDaemon) {
    let ended = async {
        while daemon
            .metric("contactd_prefetch_jobs{platform=\"example\"}")
            .await
            != Some(0.0)
        {
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = clock::timeout(Duration::from_secs(10), ended).await;
    assert!(ended.is_some(), "the job ends");
}
