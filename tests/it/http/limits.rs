//! Who may call over HTTP, how much, and how a connection ends: the same as for gRPC.

use std::sync::Arc;
use std::time::Duration;

use contactd::clock;
use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use super::calls::{
    Answer, BOTH, FIND, PREFETCH, Port, Version, Wire, envelope, opened, question, question_of,
    written,
};
use super::{ada, hanging};
use crate::clients::sha256;
use crate::support::pki::{Authority, Files, Pair};
use crate::support::program::Program;
use crate::support::{TestDaemon, eventually};

fn tokens() -> String {
    format!(
        "[grpc]\ntokens = [{{ name = \"all\", sha256 = \"{}\" }}, {{ name = \"few\", sha256 = \"{}\", \
         platforms = [\"other\"] }}, {{ name = \"slow\", sha256 = \"{}\", rate = 1 }}]\n\
         [connectors.other]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:1\"\n",
        sha256("all"),
        sha256("few"),
        sha256("slow")
    )
}

#[tokio::test]
async fn a_client_is_known_by_its_token_and_asks_what_it_may() {
    let crm = ada().await;
    let daemon = TestDaemon::with(&crm, "example", &tokens()).await;
    let refused = async |reason: &str| {
        let series = format!("contactd_calls_refused_total{{reason=\"{reason}\"}}");
        daemon.metric(&series).await.unwrap_or_default()
    };
    for (n, version) in (1..).zip(BOTH) {
        let port = Port::new(daemon.grpc, version);
        let ask = async |token: Option<&str>| {
            let request = port.post(FIND, "application/json", question().to_string());
            Answer::to(match token {
                Some(token) => request.header("authorization", token),
                None => request,
            })
            .await
        };
        assert_eq!(ask(Some("Bearer all")).await.names(), ["Ada"]);
        for token in [None, Some("Bearer none"), Some("all"), Some("Basic all")] {
            let answer = ask(token).await;
            let expected = (401, "unauthenticated", "CALLER_UNAUTHENTICATED");
            assert_eq!(answer.failure().kind(), expected, "{version:?} {token:?}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        let answer = ask(Some("Bearer few")).await;
        let forbidden = (403, "permission_denied", "CALLER_FORBIDDEN");
        assert_eq!(answer.failure().kind(), forbidden);
        assert_eq!(
            refused("caller_unauthenticated").await,
            f64::from(n * 4 + (n - 1) * 2)
        );
        let series = "contactd_lookups_total{platform=\"unknown\",trigger=\"incoming_call\",source=\"none\",outcome=\"caller_unauthenticated\"}";
        assert_eq!(daemon.metric(series).await, Some(f64::from(n * 4 + n - 1)));

        let name = "/v1/name?platform=example&user=user-1&number=%2B16505551234";
        let with = |token: &str| {
            let request = port
                .get(name)
                .header("x-crm-authorization", "Bearer user-1");
            Answer::to(request.header("authorization", token.to_owned()))
        };
        assert_eq!(with("Bearer all").await.text(), "Ada");
        let stranger = with("Bearer user-1").await;
        assert_eq!((stranger.status, stranger.text()), (401, ""));
        assert_eq!(
            stranger.header("x-contactd-reason"),
            "CALLER_UNAUTHENTICATED"
        );
        assert_eq!(with("Bearer few").await.status, 403);

        let batch = port.post(PREFETCH, "application/connect+json", envelope(0, b"{}"));
        let answer = Answer::to(batch).await;
        assert_eq!(answer.status, 200);
        let last = String::from_utf8(opened(&answer.body).pop().unwrap().1).unwrap();
        assert!(last.contains("CALLER_UNAUTHENTICATED"), "{last}");
    }
    assert_eq!(crm.searches(), 1, "whoever is refused asks nothing");
}

#[tokio::test]
async fn a_client_at_its_limit_is_told_when_to_come_back() {
    let crm = ada().await;
    let daemon = TestDaemon::with(&crm, "example", &tokens()).await;
    let port = Port::new(daemon.grpc, Version::Http1);
    let ask = || {
        let request = port.post(FIND, "application/json", question().to_string());
        Answer::to(request.header("authorization", "Bearer slow"))
    };
    let (first, second) = (ask().await, ask().await);
    assert_eq!(first.names(), ["Ada"]);
    let expected = (429, "resource_exhausted", "OVERLOADED");
    assert_eq!(second.failure().kind(), expected);
    assert_eq!(second.header("retry-after"), "1");
}

#[tokio::test]
async fn when_all_places_are_taken_further_calls_are_refused_at_once() {
    let crm = hanging().await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_in_flight = 1\n").await;
    for (nth, version) in BOTH.into_iter().enumerate() {
        let port = Port::new(daemon.grpc, version);
        // Twice as many places as calls that may wait for a CRM.
        let held: Vec<_> = (0..2)
            .map(|n| {
                let (port, question) =
                    (port.clone(), question_of(&format!("held-{n} {version:?}")));
                #[expect(clippy::disallowed_methods, reason = "aborted below")]
                tokio::spawn(async move { port.json(FIND, &question).await })
            })
            .collect();
        // Connections are served by several threads: a further call could come first.
        eventually("one waits for the CRM", || crm.searches() > nth).await;
        let refused = clock::timeout(Duration::from_secs(10), async {
            loop {
                let question = question_of(&format!("further {version:?}"));
                let call = port.json(FIND, &question);
                if let Some(answer) = clock::timeout(Duration::from_millis(200), call).await {
                    return answer;
                }
            }
        });
        let answer = refused.await.expect("there are two places");
        let expected = (429, "resource_exhausted", "OVERLOADED");
        assert_eq!(answer.failure().kind(), expected, "{version:?}");
        assert_eq!(answer.header("retry-after"), "1");
        held.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// A client for `localhost` that trusts `authority`, with a certificate of its own.
fn over_tls(authority: &Authority, pair: Option<&Pair>, version: Version) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let tls = match pair {
        Some(pair) => {
            let certificate = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            tls.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => tls.with_no_client_auth(),
    };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy();
    // By ALPN.
    match version {
        Version::Http1 => client.http1_only(),
        Version::Http2 => client,
    }
    .build()
    .unwrap()
}

#[tokio::test]
async fn over_tls_both_versions_are_spoken_and_a_certificate_names_its_client() {
    let (crm, authority) = (ada().await, Authority::new());
    let files = Files::new(&authority.issue(&["localhost"], "server"), Some(&authority));
    let tokens = "tokens = [{ name = \"pbx\", certificate = [\"pbx.example\"] }]\n";
    let daemon = TestDaemon::with(&crm, "example", &(files.toml() + tokens)).await;
    let url = format!("https://localhost:{}", daemon.grpc.port());
    for version in BOTH {
        let known = authority.issue(&["pbx.example"], "pbx");
        let stranger = authority.issue(&["other.example"], "other");
        let ask = async |pair: &Pair| {
            let client = over_tls(&authority, Some(pair), version);
            let port = Port {
                client,
                url: url.clone(),
            };
            port.json(FIND, &question()).await
        };
        assert_eq!(ask(&known).await.names(), ["Ada"], "{version:?}");
        assert_eq!(
            ask(&stranger).await.failure().reason,
            "CALLER_UNAUTHENTICATED"
        );
        let client = over_tls(&authority, None, version);
        #[expect(clippy::disallowed_methods, reason = "this is no CRM")]
        let without = client.post(format!("{url}{FIND}")).send().await;
        assert!(without.is_err(), "{version:?}: the handshake fails");
    }
    let mut plain = Wire::to(daemon.grpc).await;
    plain.say(written(FIND, &question())).await;
    assert!(
        !plain.hear("").await.contains("HTTP/1.1"),
        "nothing in the clear"
    );
}

#[tokio::test]
async fn a_stop_answers_what_runs_and_waits_for_no_idle_connection() {
    let crm = crate::support::FakeCrm::start(|seen| {
        let contacts = [crate::support::contact(1, "Ada", "+16505551234")];
        crate::support::crm::example(seen, &contacts).after(Duration::from_secs(1))
    })
    .await;
    let program = Program::start(&format!(
        "[grpc]\ndrain_delay = \"100ms\"\n[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    ))
    .await;
    let addr = program
        .grpc
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let mut idle = Wire::to(addr).await;
    idle.say(written(FIND, &json!({}))).await;
    idle.hear("}").await;
    let mut busy = Wire::to(addr).await;
    busy.say(written(FIND, &question())).await;
    eventually("the CRM is asked", || crm.asked_who() + crm.searches() > 0).await;
    let stopwatch = clock::Stopwatch::start();
    program.signal(Signal::SIGTERM);
    let answer = busy.hear("").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("Ada"),
        "{answer}"
    );
    assert_eq!(idle.hear("").await, "");
    let (code, log) = program.end().await;
    assert_eq!(code, Some(0));
    assert!(!log.contains("did not end within"), "{log}");
    assert!(stopwatch.elapsed() < Duration::from_secs(8));
}
