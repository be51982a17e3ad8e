//! What no client would send: bodies, paths, methods, types, heads.

use std::time::Duration;

use contactd::clock;
use futures_util::future::poll_immediate;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, SendStream};
use serde_json::json;
use tokio::net::TcpStream;
use tonic::codegen::Bytes;
use tonic::codegen::http::Request;

use super::ada;
use super::calls::{
    Answer, BOTH, FIND, INVALIDATE, PREFETCH, Port, Version, Wire, question, written,
};
use crate::support::TestDaemon;

const JSON: &str = "application/json";
const SERVICE: &str = "/contactd.v1.ContactService";

/// Headers of refusals.
const NONE: (&str, &str) = ("", "");
const GET_OR_POST: (&str, &str) = ("allow", "GET, POST");
const TYPES: (&str, &str) = ("accept-post", "application/json, application/proto");

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_with_the_path_of_its_fault() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let deep = |n: usize| {
        let nested = format!("{}1{}", r#"{"a":"#.repeat(n), "}".repeat(n));
        format!(r#"{{"user":{{"id":"u","platform":"example","settings":{nested}}}}}"#)
    };
    let many = format!(
        r#"{{"authHeader":"Bearer x","phoneNumber":"+16505551234",
            "user":{{"id":"u","platform":"example","settings":{{"a":[{}0]}}}}}}"#,
        "0,".repeat(2000)
    );
    let cases = [
        (String::new(), "request"),
        ("[]".to_owned(), "request"),
        ("{".to_owned(), "request"),
        ("{}{}".to_owned(), "request"),
        ("\u{feff}{}".to_owned(), "request"),
        ("[".repeat(60_000), "request"),
        (r#"{"user":"x"}"#.to_owned(), "user"),
        (r#"{"user":{"id":1}}"#.to_owned(), "user.id"),
        (r#"{"phoneNumber":16505551234}"#.to_owned(), "phone_number"),
        (r#"{"isExtension":"yes"}"#.to_owned(), "is_extension"),
        (r#"{"trigger":"RING"}"#.to_owned(), "trigger"),
        (
            r#"{"overridingFormats":["*",7]}"#.to_owned(),
            "overriding_formats[1]",
        ),
        (r#"{"user":{"hostnam":"x"}}"#.to_owned(), "user.hostnam"),
        (r#"{"number":"+1"}"#.to_owned(), "number"),
        (r#"{"user":{"id":"1","id":"2"}}"#.to_owned(), "user.id"),
        (
            r#"{"phoneNumber":"1","phone_number":"1"}"#.to_owned(),
            "phone_number",
        ),
        (
            r#"{"user":{"settings":{"a":1,"a":2}}}"#.to_owned(),
            "user.settings",
        ),
        (r#"{"user":{"settings":{"a":1e999}}}"#.to_owned(), "request"),
        (r#"{"phoneNumber":"\ud800"}"#.to_owned(), "request"),
        (deep(20), "user.settings"),
        (deep(100), "user.settings"),
        (deep(9000), "user.settings"),
        (many, "user.settings"),
        (format!("{{}}{}", " ".repeat(64 << 10)), "request"),
    ];
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        for (body, field) in &cases {
            let answer = Answer::to(port.post(FIND, JSON, body.clone())).await;
            let (failure, shown) = (answer.failure(), &body[..body.len().min(80)]);
            let expected = (400, "invalid_argument", "INVALID_REQUEST");
            assert_eq!(failure.kind(), expected, "{version:?} {shown}");
            assert_eq!(failure.fields, [*field], "{shown}");
        }
        let bytes = Answer::to(port.post(FIND, JSON, &b"{\"phoneNumber\":\"\xff\"}"[..])).await;
        assert_eq!(bytes.failure().fields, ["request"]);
        let proto = Answer::to(port.post(FIND, "application/proto", &b"\xff\xff"[..])).await;
        assert_eq!(proto.failure().fields, ["request"]);
        // Beyond the limit, an honest client still hears why.
        let large = Answer::to(port.post(FIND, JSON, vec![b' '; 300 << 10])).await;
        assert!(large.failure().message.contains("larger than 65536 bytes"));
        let large = Answer::to(port.post(INVALIDATE, JSON, vec![b' '; (1 << 20) + 1])).await;
        assert!(
            large
                .failure()
                .message
                .contains("larger than 1048576 bytes")
        );
    }
    assert!(crm.seen().is_empty(), "the CRM heard nothing of it");
}

#[tokio::test]
async fn other_paths_methods_types_and_encodings_are_refused_as_http_does() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    for version in BOTH {
        let port = Port::new(daemon.grpc, version);
        let body = question().to_string();
        let post = |path: &str, media: &str| port.post(path, media, body.clone());
        let with = |name: &str, value: &str| post(FIND, JSON).header(name, value);
        for (request, status, (header, value)) in [
            (post("/", JSON), 404, NONE),
            (post("/v1/names", JSON), 404, NONE),
            (post(&format!("{SERVICE}/findContact"), JSON), 404, NONE),
            (post(&format!("{SERVICE}/"), JSON), 404, NONE),
            (post(&format!("{SERVICE}/FindContact/x"), JSON), 404, NONE),
            (port.get("/favicon.ico"), 404, NONE),
            (
                port.client.put(format!("{}{FIND}", port.url)),
                405,
                GET_OR_POST,
            ),
            (
                port.client.head(format!("{}{FIND}", port.url)),
                405,
                GET_OR_POST,
            ),
            (port.get(PREFETCH), 405, ("allow", "POST")),
            (post(FIND, "text/plain"), 415, TYPES),
            (post(FIND, "application/connect+json"), 415, TYPES),
            (post(FIND, "application/jsonx"), 415, TYPES),
            (with("content-encoding", "gzip"), 501, NONE),
            (with("connect-protocol-version", "2"), 400, NONE),
            (with("origin", "https://example.com"), 403, NONE),
            (with("sec-fetch-site", "cross-site"), 403, NONE),
            (with("sec-fetch-site", "none"), 200, NONE),
            (with("content-encoding", "identity"), 200, NONE),
            (post(FIND, "Application/JSON; charset=utf-8"), 200, NONE),
        ] {
            let shown = format!("{version:?} {request:?}");
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, status, "{shown}");
            assert!(
                header.is_empty() || answer.header(header) == value,
                "{shown}"
            );
        }
    }
    // gRPC is HTTP/2, and needs trailers.
    let port = Port::new(daemon.grpc, Version::Http1);
    let grpc = Answer::to(port.post(FIND, "application/grpc", "")).await;
    assert_eq!(grpc.status, 415);
}

#[tokio::test]
async fn a_connection_of_http1_carries_one_request_after_the_other() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let mut wire = Wire::to(daemon.grpc).await;
    let request = written(FIND, &question());
    for _ in 0..3 {
        wire.say(&request).await;
        assert!(wire.hear("}").await.starts_with("HTTP/1.1 200 OK"));
    }
    // In small pieces, and then several at once.
    for byte in request.as_bytes() {
        wire.say([*byte]).await;
    }
    wire.hear("}").await;
    wire.say(request.repeat(3)).await;
    let mut heard = String::new();
    while heard.matches("HTTP/1.1 200 OK").count() < 3 {
        heard += &wire.hear("}").await;
    }
    let chunked = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let head = format!("POST {FIND} HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\n");
    wire.say(format!("{head}{chunked}")).await;
    assert!(wire.hear("}").await.starts_with("HTTP/1.1 400 "));
    wire.say(format!("{head}connection: close\r\n{chunked}"))
        .await;
    assert!(
        wire.hear("").await.starts_with("HTTP/1.1 400 "),
        "and it ends"
    );
}

#[tokio::test]
async fn a_head_that_is_none_or_has_no_end_closes_its_connection_only() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let long = "x".repeat(64 << 10);
    for (said, begin) in [
        ("hello\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("\0\0\0\0\0".to_owned(), "HTTP/1.1 400"),
        ("PRI x".to_owned(), ""),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), "HTTP/1.1 4"),
        (
            format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"),
            "HTTP/1.1 431",
        ),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200)),
            "HTTP/1.1 431",
        ),
        (
            format!("POST {FIND} HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{{}}"),
            "HTTP/1.1 400",
        ),
    ] {
        let mut wire = Wire::to(daemon.grpc).await;
        // It may close before it has read all of it.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut wire.0, said.as_bytes()).await;
        let heard = wire.hear("").await;
        let shown = &said[..said.len().min(40)];
        // What was not read makes the system throw the answer away.
        assert!(
            heard.starts_with(begin) || heard.is_empty(),
            "{shown}: {heard}"
        );
    }
    let port = Port::new(daemon.grpc, Version::Http1);
    port.json(FIND, &question()).await.names();
}

#[tokio::test]
async fn half_requests_give_way_to_newer_ones_and_whole_ones_are_answered() {
    let crm = ada().await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_in_flight = 4\n").await;
    let port = Port::new(daemon.grpc, Version::Http1);
    let half = format!(
        "POST {FIND} HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: 100\r\n\r\n{{"
    );
    let mut wires = Vec::new();
    for _ in 0..39 {
        let mut wire = Wire::to(daemon.grpc).await;
        wire.say(&half).await;
        wires.push(wire);
    }
    // Connections are served by several threads: only after that the next one is the newest.
    let refused = "contactd_calls_refused_total{reason=\"overloaded\"}";
    while daemon.metric(refused).await < Some(35.0) {
        clock::sleep(Duration::from_millis(5)).await;
    }
    let mut last = Wire::to(daemon.grpc).await;
    last.say(&half).await;
    port.json(FIND, &question()).await.names();
    let told = clock::timeout(Duration::from_secs(8), wires[0].hear("}]}")).await;
    let told = told.expect("well before the time for a request is over");
    assert!(told.starts_with("HTTP/1.1 429"), "{told}");
    assert!(told.contains("OVERLOADED"));
    let refused = daemon
        .metric("contactd_calls_refused_total{reason=\"overloaded\"}")
        .await;
    assert!(refused.unwrap() >= 30.0, "{refused:?}");
    // The newest has kept its place.
    last.say(" ".repeat(98) + "}").await;
    let answer = last.hear("}]}").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("user is required"));
}

#[tokio::test]
async fn half_a_head_and_an_idle_connection_are_closed() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let whole = written(FIND, &json!({}));
    let ended = async |said: &str, answers: usize| {
        let (mut wire, stopwatch) = (Wire::to(daemon.grpc).await, clock::Stopwatch::start());
        wire.say(said).await;
        let mut bytes = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut wire.0, &mut bytes);
        let read = clock::timeout(Duration::from_secs(60), read).await;
        assert!(read.is_some(), "{said:?} is not ended");
        let heard = String::from_utf8_lossy(&bytes);
        assert_eq!(heard.matches("HTTP/1.1 400").count(), answers, "{heard}");
        stopwatch.elapsed().as_secs()
    };
    let (nothing, preface, head, idle) = tokio::join!(
        ended("", 0),
        ended("PR", 0),
        ended(&whole[..40], 0),
        ended(&whole, 1)
    );
    assert!((9..15).contains(&nothing) && (9..15).contains(&preface));
    assert!(
        (29..40).contains(&head) && (29..40).contains(&idle),
        "{head} {idle}"
    );
}

#[tokio::test]
async fn a_half_request_ends_when_its_time_is_over() {
    let crm = ada().await;
    let daemon = TestDaemon::over(&crm).await;
    let mut wire = Wire::to(daemon.grpc).await;
    let whole = written(FIND, &json!({}));
    wire.say(&whole[..whole.len() - 1]).await;
    let told = wire.hear("}]}").await;
    assert!(told.starts_with("HTTP/1.1 504"), "{told}");
    assert!(told.contains("REQUEST_TOO_SLOW"));
    assert!(told.contains("connection: close") || wire.hear("").await.is_empty());
}

/// The head of a request over HTTP/2, once the daemon has certainly seen it.
async fn half_a_request(
    addr: std::net::SocketAddr,
    path: &str,
    media_type: &str,
) -> (SendRequest<Bytes>, ResponseFuture, SendStream<Bytes>) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the last sender")]
    drop(tokio::spawn(connection));
    let request = Request::post(format!("http://{addr}{path}")).header("content-type", media_type);
    let mut sender = sender.ready().await.unwrap();
    let (response, upload) = sender
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    // The daemon reads the second ping only after it has written the answer to the first one.
    for _ in 0..2 {
        pings.ping(Ping::opaque()).await.unwrap();
    }
    (sender, response, upload)
}

/// curl 7.88 does not show an answer whose stream is reset before it has sent the request's body.
#[tokio::test]
async fn a_refusal_comes_once_the_request_has_arrived_or_half_a_second_later() {
    let crm = ada().await;
    let tokens = format!(
        "[grpc]\ntokens = [{{ name = \"pbx\", sha256 = \"{}\" }}]\n",
        "0".repeat(64)
    );
    let daemon = TestDaemon::with(&crm, "example", &tokens).await;
    for (path, media_type, status) in [
        (FIND, JSON, 401),
        (FIND, "text/plain", 415),
        ("/nowhere", JSON, 404),
    ] {
        let (_sender, mut response, mut upload) =
            half_a_request(daemon.grpc, path, media_type).await;
        let early = poll_immediate(&mut response).await;
        assert!(early.is_none(), "{path}: {early:?}");
        upload.send_data(Bytes::from_static(b"{}"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), status, "{path}");

        let stopwatch = clock::Stopwatch::start();
        let (_sender, response, _upload) = half_a_request(daemon.grpc, path, media_type).await;
        let response = clock::timeout(Duration::from_secs(30), response).await;
        let response = response.expect("nobody waits for ever").unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(stopwatch.elapsed() >= Duration::from_millis(400), "{path}");
    }
}
