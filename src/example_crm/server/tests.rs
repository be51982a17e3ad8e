use std::time::Duration;

use axum::body::{Body, to_bytes};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use super::*;
use crate::example_crm::{DataSet, ExampleCrm, Options};

fn crm(options: Options) -> Arc<ExampleCrm> {
    Arc::new(ExampleCrm::new(Options {
        contacts: 2_000,
        ..options
    }))
}

async fn send(
    crm: &Arc<ExampleCrm>,
    method: &str,
    path: &str,
    authorization: Option<&str>,
) -> (StatusCode, HeaderMap, Value) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    let response = router(Arc::clone(crm))
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (
        head.status,
        head.headers,
        serde_json::from_slice(&body).unwrap(),
    )
}

async fn get_as(crm: &Arc<ExampleCrm>, path: &str, token: &str) -> (StatusCode, HeaderMap, Value) {
    send(crm, "GET", path, Some(&format!("Bearer {token}"))).await
}

async fn status(crm: &Arc<ExampleCrm>, path: &str) -> u16 {
    let (status, _, body) = get_as(crm, path, "demo").await;
    assert_eq!(body["error"].is_string(), !status.is_success());
    status.as_u16()
}

fn find(data: &DataSet, wanted: impl Fn(&SampleContact) -> bool) -> &SampleContact {
    (1..=data.len())
        .filter_map(|id| data.contact(id))
        .find(|contact| wanted(contact))
        .unwrap()
}

#[tokio::test]
async fn contacts_are_found_by_phone() {
    let crm = crm(Options::default());
    let samples = crm.data().samples();
    let (status, headers, body) = get_as(
        &crm,
        &format!("/api/v1/contacts?phone={}", samples.one),
        "demo",
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "application/json");
    assert!(!headers.contains_key("x-ratelimit-limit"));
    assert_eq!(body["next_page"], Value::Null);
    let found = body["contacts"].as_array().unwrap();
    assert!(found.len() >= 2);
    let keys: Vec<&String> = found[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "id",
            "kind",
            "name",
            "title",
            "company",
            "email",
            "phones",
            "created_at",
            "last_activity_at"
        ]
    );
    let keys: Vec<&String> = found[0]["phones"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["label", "number"]);

    let (_, _, again) = get_as(
        &crm,
        &format!("/api/v1/contacts?phone={}&page=2", samples.one),
        "demo",
    )
    .await;
    assert_eq!(again, json!({ "contacts": [], "next_page": null }));
    let (_, _, short) = get_as(&crm, "/api/v1/contacts?phone=12345", "demo").await;
    assert_eq!(short["contacts"], json!([]));
}

#[tokio::test]
async fn contacts_are_found_by_extension() {
    let crm = crm(Options::default());
    let extension = crm.data().samples().extension;
    let (status, _, body) = get_as(
        &crm,
        &format!("/api/v1/contacts?extension={extension}"),
        "demo",
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["contacts"].as_array().unwrap().len(), 1);
    assert_eq!(body["contacts"][0]["extension"], extension.as_str());
    let (_, _, nobody) = get_as(&crm, "/api/v1/contacts?extension=100", "demo").await;
    assert_eq!(nobody["contacts"], json!([]));
}

#[tokio::test]
async fn deals_are_paged() {
    let crm = crm(Options::default());
    let busy = find(crm.data(), |contact| contact.deals.len() > PAGE_SIZE);
    let (mut ids, mut next) = (Vec::new(), Some(1));
    while let Some(number) = next {
        let (status, _, body) = get_as(
            &crm,
            &format!("/api/v1/contacts/{}/deals?page={number}", busy.id),
            "demo",
        )
        .await;
        assert_eq!(status, StatusCode::OK);
        let deals = body["deals"].as_array().unwrap();
        assert!(!deals.is_empty() && deals.len() <= PAGE_SIZE);
        assert!(
            deals
                .iter()
                .all(|deal| ["open", "won", "lost"].contains(&deal["stage"].as_str().unwrap()))
        );
        ids.extend(deals.iter().map(|deal| deal["id"].as_u64().unwrap()));
        next = body["next_page"].as_u64();
    }
    assert_eq!(ids.len(), busy.deals.len());
    assert!(ids.is_sorted_by(|a, b| a < b));

    let idle = find(crm.data(), |contact| contact.deals.is_empty());
    let (_, _, body) = get_as(&crm, &format!("/api/v1/contacts/{}/deals", idle.id), "demo").await;
    assert_eq!(body, json!({ "deals": [], "next_page": null }));
}

#[test]
fn pages_end_where_the_items_do() {
    let items: Vec<usize> = (0..100).collect();
    let at = |number| page(&items, NonZeroUsize::new(number).unwrap());
    assert_eq!(at(1), (&items[..50], Some(2)));
    assert_eq!(at(2), (&items[50..], None));
    assert_eq!(at(3), (&items[..0], None));
    assert_eq!(at(usize::MAX), (&items[..0], None));
}

#[tokio::test]
async fn what_is_wrong_is_refused_as_json() {
    let crm = crm(Options::default());
    let paths = [
        (400, "/api/v1/contacts"),
        (400, "/api/v1/contacts?phone=6505551234&page=0"),
        (400, "/api/v1/contacts?phone=1&phone=2"),
        (400, "/api/v1/contacts/1/deals?page=x"),
        (404, "/api/v1/contacts/0/deals"),
        (404, "/api/v1/contacts/2001/deals"),
        (404, "/api/v1/contacts/x/deals"),
        (404, "/api/v1/contacts/1"),
        (404, "/"),
    ];
    for (expected, path) in paths {
        assert_eq!(status(&crm, path).await, expected, "{path}");
    }
    let (status, _, body) = send(&crm, "POST", "/api/v1/contacts", Some("Bearer demo")).await;
    assert_eq!(
        (status, body["error"].is_string()),
        (StatusCode::NOT_FOUND, true)
    );
    assert_eq!(crm.requests(), 10);
}

#[tokio::test]
async fn tokens_decide() {
    let crm = crm(Options::default());
    let path = "/api/v1/contacts?phone=6505551234";
    for (expected, authorization) in [
        (401, None),
        (401, Some("Bearer other")),
        (401, Some("Basic demo")),
        (401, Some("demo")),
        (403, Some("Bearer demo-forbidden")),
        (200, Some("Bearer demo-user-1")),
        (200, Some("bearer demo")),
    ] {
        let (status, headers, body) = send(&crm, "GET", path, authorization).await;
        assert_eq!(status.as_u16(), expected, "{authorization:?}");
        assert_eq!(body["error"].is_string(), expected != 200);
        assert_eq!(headers.contains_key(WWW_AUTHENTICATE), expected == 401);
    }
    let (status, ..) = send(&crm, "GET", "/nowhere", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_rate_limit_refuses_and_tells() {
    let crm = crm(Options {
        rate_limit: Some("2/60s".parse().unwrap()),
        ..Options::default()
    });
    let path = "/api/v1/contacts?phone=6505551234";
    for (expected, remaining, reset) in [(200, "1", "30"), (200, "0", "60"), (429, "0", "60")] {
        let (status, headers, body) = get_as(&crm, path, "demo").await;
        assert_eq!(status.as_u16(), expected);
        assert_eq!(headers["x-ratelimit-limit"], "2");
        assert_eq!(headers["x-ratelimit-remaining"], remaining);
        assert_eq!(headers["x-ratelimit-reset"], reset);
        assert_eq!(headers.contains_key("retry-after"), expected == 429);
        assert_eq!(body["error"].is_string(), expected == 429);
    }
    let (_, headers, _) = get_as(&crm, path, "demo").await;
    let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    let (status, ..) = get_as(&crm, path, "demo-other").await;
    assert_eq!(status, StatusCode::OK);
    // Before the token is checked, and on refusals of all kinds.
    for expected in [401, 401, 429] {
        let (status, headers, _) = get_as(&crm, path, "wrong").await;
        assert_eq!(status.as_u16(), expected);
        assert!(headers.contains_key("x-ratelimit-remaining"));
    }
    assert_eq!(crm.requests(), 8);
}

#[tokio::test]
async fn requests_fail_as_often_as_asked() {
    let path = "/api/v1/contacts?phone=6505551234";
    let always = crm(Options {
        error_rate: 1.0,
        ..Options::default()
    });
    assert_eq!(status(&always, path).await, 500);
    let (status_of_stranger, ..) = get_as(&always, path, "wrong").await;
    assert_eq!(status_of_stranger, StatusCode::UNAUTHORIZED);

    let half = crm(Options {
        error_rate: 0.5,
        ..Options::default()
    });
    let mut failed = 0;
    for _ in 0..200 {
        failed += usize::from(status(&half, path).await == 500);
    }
    assert!((60..140).contains(&failed), "{failed}");
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::disallowed_methods,
    reason = "the paused clock of the test is what is measured"
)]
async fn every_reply_takes_the_latency() {
    let latency = Duration::from_millis(250);
    let crm = crm(Options {
        latency,
        rate_limit: Some("1/1h".parse().unwrap()),
        error_rate: 1.0,
        ..Options::default()
    });
    for (token, expected) in [
        ("demo", 500),
        ("demo", 429),
        ("wrong", 401),
        ("demo-forbidden", 403),
    ] {
        let before = tokio::time::Instant::now();
        let (status, ..) = get_as(&crm, "/api/v1/contacts?phone=6505551234", token).await;
        assert_eq!(status.as_u16(), expected);
        let waited = before.elapsed();
        // The timer may round up to its next millisecond.
        assert!(
            waited >= latency && waited < latency + Duration::from_millis(5),
            "{waited:?}"
        );
    }
}

#[tokio::test]
async fn serves_over_tcp_until_told_to_stop() {
    let crm = crm(Options::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let client = async {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = "GET /api/v1/contacts?extension=1000 HTTP/1.1\r\nHost: crm.example\r\n\
            Authorization: Bearer demo\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        connection.read_to_string(&mut reply).await.unwrap();
        // Left open and idle: the server must not wait for it.
        let _idle = TcpStream::connect(address).await.unwrap();
        stop.send(()).unwrap();
        reply
    };
    let serve = Arc::clone(&crm).serve(listener, async move { stopped.await.unwrap_or_default() });
    let (served, reply) = tokio::join!(serve, client);
    served.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains("\"extension\":\"1000\""), "{reply}");
    assert_eq!(crm.requests(), 1);
}
