//! The same over HTTP/2, which a CRM may choose by ALPN: frames that are too many, too large or
//! against the rules.

use contactd::grpc::client::ContactServiceClient;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tonic::transport::Endpoint;

use super::LIMITS;
use super::replies::{bomb, gzip};
use crate::support::daemon::{Changed as _, details};
use crate::support::find;
use crate::support::program::Program;
use crate::support::raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PUSH_PROMISE, RST_STREAM, RawCrm,
    SETTINGS, Said, data, fields, frame,
};

const BAD: &str = "CRM_BAD_REPLY";
const AWAY: &str = "CRM_UNAVAILABLE";

fn head(more: &[(&str, &str)]) -> Vec<u8> {
    let all = [
        &[(":status", "200"), ("content-type", "application/json")],
        more,
    ]
    .concat();
    frame(HEADERS, END_HEADERS, 1, &fields(&all))
}

fn reply(more: &[(&str, &str)], body: &[u8]) -> Said {
    Said::once([head(more), data(body)].concat())
}

/// What a look-up gets from a CRM that speaks so.
async fn outcome(said: Said) -> String {
    let dir = tempfile::tempdir().unwrap();
    let crm = RawCrm::over_http2(said, dir.path()).await;
    let url = format!("https://localhost:{}", crm.addr.port());
    let toml = format!(
        "{LIMITS}[connectors.example]\nkind = \"example\"\nidentity = \"caller\"\nbase_url = \"{url}\"\n"
    );
    let certificate = dir.path().join("c.pem");
    let trusted = [("SSL_CERT_FILE", certificate.to_str().unwrap())];
    let program = Program::start_with(&toml, "info", &trusted).await;
    let channel = Endpoint::from_shared(program.grpc.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = ContactServiceClient::new(channel);
    let asked = client.find_contact(find().user("u")).await;
    assert!(crm.accepted() > 0, "it was called");
    match asked {
        Ok(answer) => format!("{} found", answer.into_inner().matched_contact_info.len()),
        Err(status) => details(&status).reason,
    }
}

#[tokio::test]
async fn hostile_frames_end_as_hostile_bytes_do() {
    let empty = json!({"contacts": [], "next_page": null})
        .to_string()
        .into_bytes();
    let packed = [("content-encoding", "gzip")];
    let large = "x".repeat(15_000);
    let open = frame(HEADERS, 0, 1, &fields(&[(":status", "200")]));
    let more = frame(CONTINUATION, 0, 1, &fields(&[("x-a", &"x".repeat(1_000))]));
    let cases = [
        ("a good reply", reply(&[], &empty), "1 found"),
        ("gzip", reply(&packed, &gzip(&empty)), "1 found"),
        ("a bomb", reply(&packed, &bomb(64 << 20)), BAD),
        ("said to be gzip", reply(&packed, &empty), BAD),
        (
            "headers over the limit",
            reply(&[("x-a", &large), ("x-b", &large)], &empty),
            AWAY,
        ),
        (
            "endless continuations",
            Said::for_ever(open.clone(), more),
            AWAY,
        ),
        (
            "empty continuations",
            Said::for_ever(open, frame(CONTINUATION, 0, 1, &[])),
            AWAY,
        ),
        (
            "endless data",
            Said::for_ever(head(&[]), frame(DATA, 0, 1, &[b' '; 16_384])),
            BAD,
        ),
        (
            "empty data",
            Said::for_ever(head(&[]), frame(DATA, 0, 1, &[])),
            AWAY,
        ),
        (
            "endless settings",
            Said::for_ever("", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
            AWAY,
        ),
        (
            "endless early hints",
            Said::for_ever(
                "",
                frame(HEADERS, END_HEADERS, 1, &fields(&[(":status", "103")])),
            ),
            AWAY,
        ),
        (
            "acknowledgements of nothing",
            Said::for_ever("", frame(SETTINGS, ACK, 0, &[])),
            AWAY,
        ),
        (
            "a promise nobody asked for",
            Said::once(frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
            AWAY,
        ),
        (
            "a reset",
            Said::once(frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])),
            AWAY,
        ),
        (
            "going away",
            Said::once(frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11])),
            AWAY,
        ),
        (
            "a frame over the limit",
            Said::once(frame(DATA, 0, 1, &[b' '; 100_000])),
            AWAY,
        ),
        (
            "headers that are no HPACK",
            Said::once(frame(HEADERS, END_HEADERS, 1, &[0xff; 64])),
            AWAY,
        ),
        (
            "no status",
            Said::once(frame(HEADERS, END_HEADERS, 1, &fields(&[("x-a", "1")]))),
            AWAY,
        ),
        (
            "HTTP/1.1 after all",
            Said::once("HTTP/1.1 200 OK\r\n\r\n{}"),
            AWAY,
        ),
    ];
    // A few at a time: each has a daemon of its own.
    let outcomes = stream::iter(cases).map(|(name, said, expected)| async move {
        let got = outcome(said).await;
        (got != expected).then(|| format!("{name}: {got}, not {expected}"))
    });
    let wrong: Vec<_> = outcomes
        .buffer_unordered(6)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}
