//! A browser on the daemon's machine is no client, whatever pages make it send.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{SHARED, bare, crm, daemon_with, file};
use crate::http::calls::{
    Answer, BOTH, FIND, Failure, INVALIDATE, PREFETCH, Port, Version, Wire, builder, envelope,
    opened,
};
use crate::support::daemon::{NUMBER, names};
use crate::support::outside::program;
use crate::support::{FakeCrm, Reply, TestDaemon};

const NAME: &str = "/v1/name?platform=example&user=user-1&number=%2B16505551234";

fn question() -> Value {
    json!({ "user": { "id": "user-1", "platform": "example" }, "phoneNumber": NUMBER })
}

/// All requests that get an answer from the shared login.
fn requests(port: &Port) -> Vec<reqwest::RequestBuilder> {
    let message: String =
        url::form_urlencoded::byte_serialize(question().to_string().as_bytes()).collect();
    vec![
        port.get(NAME),
        port.get(&format!("{FIND}?encoding=json&message={message}")),
        port.post(FIND, "application/json", question().to_string()),
    ]
}

fn untouched(crm: &FakeCrm) -> bool {
    crm.seen().is_empty() && crm.asked_who() == 0
}

#[tokio::test]
async fn programs_on_this_machine_are_answered() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "[grpc]\nhostnames = [\"pbx.internal\"]\n").await;
    let port = daemon.grpc.port();
    for version in BOTH {
        let http = Port::new(daemon.grpc, version);
        for request in requests(&http) {
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, 200, "{version:?} {}", answer.text());
            assert!(answer.text().contains("Ada"));
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
    }
    for host in [
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        "127.0.0.1".to_owned(),
        "PBX.internal".to_owned(),
    ] {
        let answer = asked(
            daemon.grpc,
            &format!("GET {NAME} HTTP/1.1\r\nhost: {host}\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
}

/// The answer to this head.
async fn asked(addr: SocketAddr, head: &str) -> String {
    let mut wire = Wire::to(addr).await;
    wire.say(format!("{head}connection: close\r\n\r\n")).await;
    wire.hear("").await
}

#[tokio::test]
async fn a_name_that_was_made_to_resolve_to_this_machine_gets_nothing() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "").await;
    let evil = |port: u16| format!("evil.example:{port}");
    for head in [
        format!(
            "GET {NAME} HTTP/1.1\r\nhost: {}\r\n",
            evil(daemon.grpc.port())
        ),
        format!("GET {NAME} HTTP/1.1\r\nhost: localhost.evil.example\r\n"),
        format!("GET {NAME} HTTP/1.1\r\nhost: 10.0.0.1\r\n"),
        format!("GET {NAME} HTTP/1.1\r\nhost: \r\n"),
        format!("GET http://evil.example{NAME} HTTP/1.1\r\nhost: localhost\r\n"),
        format!("GET http://localhost{NAME} HTTP/1.1\r\nhost: evil.example\r\n"),
        format!("GET {NAME} HTTP/1.0\r\n"),
    ] {
        let answer = asked(daemon.grpc, &head).await;
        assert!(answer.contains(" 403 "), "{head}{answer}");
        assert!(answer.contains("CALLER_FORBIDDEN") && answer.contains("grpc.hostnames"));
    }
    for version in BOTH {
        // The client writes the name of its URL into Host and :authority.
        let http = Port {
            client: resolving(version, "evil.example", daemon.grpc),
            url: format!("http://evil.example:{}", daemon.grpc.port()),
        };
        for request in requests(&http) {
            let answer = Answer::to(request).await;
            assert_eq!(answer.status, 403, "{version:?} {}", answer.text());
        }
        let mut batch = question();
        batch["phoneNumbers"] = json!([batch.as_object_mut().unwrap().remove("phoneNumber")]);
        let body = envelope(0, batch.to_string().as_bytes());
        let stream = Answer::to(http.post(PREFETCH, "application/connect+json", body)).await;
        let messages = opened(&stream.body);
        let (_, last) = messages.last().expect("a stream has a last message");
        let last: Value = serde_json::from_slice(last).unwrap();
        let refused = Failure::of(stream.status, &last["error"]);
        assert_eq!(refused.reason, "CALLER_FORBIDDEN", "{last}");
        let everything = json!({ "user": question()["user"], "everything": true });
        let refused = http.post(INVALIDATE, "application/json", everything.to_string());
        let refused = Answer::to(refused).await;
        assert_eq!(refused.status, 403, "{version:?} {}", refused.text());
        // Who has a credential may call by any name, as ever.
        let own = http.get(NAME).header("x-crm-authorization", "Bearer own");
        assert_eq!(Answer::to(own).await.text(), "Bob");
    }
    let shared = crm.seen().into_iter();
    assert_eq!(
        shared
            .filter(|call| call.authorization.as_deref() == Some(SHARED))
            .count(),
        0
    );
}

/// A client to which this name is the daemon.
fn resolving(version: Version, name: &str, addr: SocketAddr) -> reqwest::Client {
    builder(version).resolve(name, addr).build().unwrap()
}

#[tokio::test]
async fn the_same_holds_for_grpc() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "").await;
    let by_name = |name: &str| {
        let origin = format!("http://{name}:{}", daemon.grpc.port())
            .parse()
            .unwrap();
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", daemon.grpc));
        let channel = channel.unwrap().origin(origin).connect_lazy();
        contactd::grpc::client::ContactServiceClient::new(channel)
    };
    let status = by_name("evil.example")
        .find_contact(bare())
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status}");
    assert!(untouched(&crm));
    let answer = by_name("localhost").find_contact(bare()).await.unwrap();
    assert_eq!(names(answer.get_ref()), ["Ada"]);
}

#[tokio::test]
async fn a_page_from_elsewhere_gets_nothing_by_a_request_that_browsers_send_without_asking() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "").await;
    for version in BOTH {
        let http = Port::new(daemon.grpc, version);
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:50051"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "same-origin"),
        ] {
            for request in requests(&http) {
                let answer = Answer::to(request.header(name, value)).await;
                assert_eq!(answer.status, 403, "{version:?} {name}: {value}");
                assert_eq!(answer.header("access-control-allow-origin"), "");
            }
        }
        // The types of forms need no preflight request. An old browser does not send the origin of
        // such a request.
        for media in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ] {
            let answer = Answer::to(http.post(FIND, media, question().to_string())).await;
            assert_eq!(answer.status, 415, "{version:?} {media}");
        }
        let untyped = http
            .client
            .post(format!("{}{FIND}", http.url))
            .body(question().to_string());
        assert_eq!(Answer::to(untyped).await.status, 415);
        // The preflight request for any other type gets no permission.
        let url = format!("{}{FIND}", http.url);
        let asks = http.client.request(reqwest::Method::OPTIONS, url);
        let asks = asks
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let answer = Answer::to(asks).await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (403, "")
        );
    }
    assert!(untouched(&crm), "{:?}", crm.seen());
}

/// A token that a connector fetches is a credential of the daemon as well.
#[tokio::test]
async fn a_connector_with_its_own_token_needs_no_header_and_answers_no_page() {
    let crm = FakeCrm::start(|seen| match seen.path.as_str() {
        "/connect/token" => Reply::json(json!({"access_token": "t", "expires_in": 3600})),
        _ => Reply::json(json!({"people": [{"id": 1, "name": "Ada", "phone": NUMBER}]})),
    })
    .await;
    let (spec, secret) = (file(crate::tokens::SPEC), file("s3cret"));
    let secret = secret.path();
    let daemon = TestDaemon::start(&format!(
        "[connectors.example]\nkind = \"file\"\nspec = {:?}\nbase_url = \"{}\"\nregion = \"US\"\n\
         secrets.key = {{ file = {secret:?} }}\nsecrets.client = {{ file = {secret:?} }}\n",
        spec.path(),
        crm.url()
    ))
    .await;
    let http = Port {
        client: resolving(Version::Http1, "evil.example", daemon.grpc),
        url: format!("http://evil.example:{}", daemon.grpc.port()),
    };
    for request in [
        http.get(NAME),
        http.get(NAME).header("x-crm-authorization", "anything"),
    ] {
        assert_eq!(Answer::to(request).await.status, 403);
    }
    assert!(crm.seen().is_empty());
    assert_eq!(names(&daemon.find(bare()).await.unwrap()), ["Ada"]);
    let http = Port::new(daemon.grpc, Version::Http1);
    assert_eq!(Answer::to(http.get(NAME)).await.text(), "Ada");
}

/// A real browser, to which a name of the internet is this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium: tests/run gets it"]
async fn a_browser_that_was_led_to_this_machine_shows_no_name() {
    let crm = crm().await;
    let daemon = daemon_with(&crm, "").await;
    let port = daemon.grpc.port();
    let seen = tokio::task::spawn_blocking(move || {
        ["evil.example", "localhost"].map(|name| browsed(&format!("http://{name}:{port}{NAME}")))
    });
    let [rebound, typed] = seen.await.unwrap();
    assert!(!rebound.contains("Ada"), "{rebound}");
    // If a person types the address, no page made the browser send the request.
    assert!(typed.contains("Ada"), "{typed}");
}

/// What a browser shows at this URL.
fn browsed(url: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let dom = folder.path().join("dom");
    let status = program("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-sync",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--host-resolver-rules=MAP evil.example 127.0.0.1",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(File::create(&dom).unwrap())
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("chromium starts").success());
    std::fs::read_to_string(dom).unwrap()
}
