//! Replies over HTTP/1.1 that are too large, too deep, too slow, or no replies at all.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::{each_gets, example_at, outcome};
use crate::support::crm::example;
use crate::support::daemon::{Changed as _, names};
use crate::support::raw::Said;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

const BAD: &str = "CRM_BAD_REPLY";
const AWAY: &str = "CRM_UNAVAILABLE";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// So many bytes of white space, compressed: a thousandth of it.
pub(crate) fn bomb(bytes: usize) -> Vec<u8> {
    gzip(&vec![b' '; bytes])
}

fn with_body(headers: &str, body: &[u8]) -> Said {
    let head = format!("{OK}{headers}content-length: {}\r\n\r\n", body.len());
    Said::once([head.as_bytes(), body].concat())
}

fn empty() -> Vec<u8> {
    json!({"contacts": [], "next_page": null})
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn json_that_is_too_deep_or_too_large_a_tree_is_a_bad_reply() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::start(&example_at(&crm.url())).await;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let within =
        |inner: &str| format!("{{\"contacts\": [], \"next_page\": null, \"more\": {inner}}}");
    for (name, body) in [
        ("a million brackets", deep(1_000_000)),
        ("a million open brackets", "[".repeat(1_000_000)),
        ("a million open objects", "{\"a\":".repeat(500_000)),
        ("depth beside a good list", within(&deep(40))),
        (
            "two million numbers",
            within(&format!("[{}0]", "0,".repeat(2_000_000))),
        ),
        (
            "a million empty lists",
            within(&format!("[{}[]]", "[],".repeat(1_000_000))),
        ),
        ("two documents", format!("{0}{0}", within("0"))),
        ("half a surrogate and no end", within("\"\\ud800")),
        ("a raw zero between values", within("\u{0}")),
        (
            "depth beside half a surrogate",
            within(&format!("\"\\ud800\", \"deep\": {}", deep(40))),
        ),
    ] {
        crm.becomes(move |_| Reply::text("application/json", body.clone()));
        assert_eq!(outcome(&daemon, name).await, BAD, "{name}");
    }
    crm.becomes(move |_| Reply::text("application/json", within(&deep(20))));
    assert_eq!(
        outcome(&daemon, "harmless depth").await,
        "1 found",
        "the create option"
    );
}

#[tokio::test]
async fn compressed_replies_are_measured_unpacked() {
    let good = gzip(&empty());
    each_gets(vec![
        (
            "gzip",
            with_body("content-encoding: gzip\r\n", &good),
            "1 found",
        ),
        (
            "bomb",
            with_body("content-encoding: gzip\r\n", &bomb(64 << 20)),
            BAD,
        ),
        (
            "bomb in a bomb",
            with_body("content-encoding: gzip\r\n", &gzip(&bomb(64 << 20))),
            BAD,
        ),
        (
            "two layers",
            with_body("content-encoding: gzip, gzip\r\n", &gzip(&good)),
            BAD,
        ),
        (
            "two headers",
            with_body(
                "content-encoding: gzip\r\ncontent-encoding: gzip\r\n",
                &gzip(&good),
            ),
            BAD,
        ),
        (
            "two bombs in a row",
            with_body("content-encoding: gzip\r\n", &bomb(64 << 20).repeat(2)),
            BAD,
        ),
        (
            "said to be gzip",
            with_body("content-encoding: gzip\r\n", &empty()),
            BAD,
        ),
        (
            "cut off",
            with_body("content-encoding: gzip\r\n", &good[..good.len() - 4]),
            BAD,
        ),
        (
            "an encoding nobody asked for",
            with_body("content-encoding: br\r\n", &good),
            BAD,
        ),
        ("not said to be gzip", with_body("", &good), BAD),
    ])
    .await;
}

#[tokio::test]
async fn replies_without_an_end_are_cut_off_by_size_or_time() {
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let endless = format!("{OK}transfer-encoding: chunked\r\n\r\n");
    let header = "x-a: 1\r\n";
    each_gets(vec![
        (
            "endless chunks",
            Said::for_ever(endless.clone(), chunk),
            BAD,
        ),
        (
            "endless body up to the end of the connection",
            Said::for_ever(format!("{OK}\r\n"), " ".repeat(65_536)),
            BAD,
        ),
        (
            "endless chunk size",
            Said::for_ever(endless.clone(), "0".repeat(1024)),
            AWAY,
        ),
        (
            "endless chunk extension",
            Said::for_ever(format!("{endless}1;"), "x".repeat(1024)),
            AWAY,
        ),
        (
            "endless trailers",
            Said::for_ever(format!("{endless}0\r\n"), header),
            AWAY,
        ),
        ("endless headers", Said::for_ever(OK, header), AWAY),
        (
            "one endless header",
            Said::for_ever(format!("{OK}x-a: "), "x".repeat(1024)),
            AWAY,
        ),
        (
            "endless status line",
            Said::for_ever("HTTP/1.1 200 ", "x".repeat(1024)),
            AWAY,
        ),
        (
            "endless early hints",
            Said::for_ever("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
            AWAY,
        ),
        (
            "a body that drips",
            Said::dripping(endless, "1\r\n \r\n"),
            AWAY,
        ),
        (
            "headers that drip",
            Said::dripping("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
            AWAY,
        ),
        (
            "a status line that drips",
            Said::dripping("HTTP/1.1 200 ", "x"),
            AWAY,
        ),
        ("silence", Said::dripping("", ""), AWAY),
    ])
    .await;
}

#[tokio::test]
async fn what_is_no_http_is_an_unavailable_crm() {
    let lines = |count: usize| "x-a: 1\r\n".repeat(count);
    let head = |headers: &str| format!("{OK}{headers}content-length: 2\r\n\r\n{{}}");
    each_gets(vec![
        ("a hundred headers", Said::once(head(&lines(96))), BAD),
        (
            "more headers than that",
            Said::once(head(&lines(101))),
            AWAY,
        ),
        (
            "a header of a megabyte",
            Said::once(head(&format!("x-a: {}\r\n", "x".repeat(1 << 20)))),
            AWAY,
        ),
        (
            "a control character in a header",
            Said::once(head("x-a: a\0b\r\n")),
            AWAY,
        ),
        ("nothing", Said::once(""), AWAY),
        ("noise", Said::once(vec![0xff; 4096]), AWAY),
        (
            "another protocol",
            Said::once("SSH-2.0-OpenSSH_9.2\r\n"),
            AWAY,
        ),
        ("HTTP/0.9", Said::once("{}"), AWAY),
        (
            "a status that is none",
            Said::once("HTTP/1.1 99999 OK\r\n\r\n"),
            AWAY,
        ),
        (
            "a switch of protocols",
            Said::once("HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
            BAD,
        ),
        (
            "an announced size over the limit",
            Said::once(format!("{OK}content-length: 99999999999\r\n\r\n{{}}")),
            BAD,
        ),
        (
            "an announced size beyond all",
            Said::once(format!(
                "{OK}content-length: 99999999999999999999\r\n\r\n{{}}"
            )),
            AWAY,
        ),
        (
            "less than announced",
            Said::once(format!("{OK}content-length: 1000\r\n\r\n{{}}")),
            AWAY,
        ),
        (
            "two sizes",
            Said::once(format!(
                "{OK}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"
            )),
            AWAY,
        ),
        (
            "a chunk size that is none",
            Said::once(format!("{OK}transfer-encoding: chunked\r\n\r\nzz\r\n")),
            AWAY,
        ),
        (
            "a chunk size beyond all",
            Said::once(format!(
                "{OK}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n"
            )),
            AWAY,
        ),
    ])
    .await;
}

#[tokio::test]
async fn pages_without_an_end_are_read_up_to_the_limit() {
    let page = |contacts: serde_json::Value, next: serde_json::Value| {
        Reply::json(json!({"contacts": contacts, "next_page": next}))
    };
    let crm = FakeCrm::start(move |seen| match seen.path.as_str() {
        "/api/v1/contacts" => {
            let next = seen.param("page").unwrap().parse::<u64>().unwrap() + 1;
            page(json!([contact(1, "Ada", "+16505551234")]), json!(next))
        }
        _ => example(seen, &[]),
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let answer = daemon.find(find()).await.unwrap();
    assert_eq!(
        names(&answer),
        ["Ada"],
        "the same contact on each page is one contact"
    );
    assert!(!answer.lookup.unwrap().complete);
    assert_eq!(crm.searches(), 5, "lookup.max_pages");

    crm.becomes(move |_| page(json!([]), json!(u64::MAX)));
    let nobody = daemon.find(find().number("+16505550000")).await.unwrap();
    assert!(!nobody.lookup.unwrap().complete);
    assert_eq!(
        crm.searches(),
        7,
        "a page that was read before ends the list"
    );
}

#[tokio::test]
async fn calls_that_are_each_in_time_end_with_the_time_of_their_look_up() {
    // Each page comes within the time of a call, and all of them would take four seconds.
    let page = || Reply::json(json!({"contacts": [], "next_page": 2}));
    let crm = FakeCrm::start(move |_| page().after(Duration::from_millis(800))).await;
    let limits = "[lookup]\ncall_timeout = \"10s\"\ntimeout = \"1s\"\n";
    let toml = example_at(&crm.url()).replace(super::LIMITS, limits);
    let daemon = TestDaemon::start(&toml).await;
    assert_eq!(outcome(&daemon, "u").await, AWAY);
    assert!(crm.searches() < 5, "lookup.max_pages");
}

#[tokio::test]
async fn a_cursor_or_link_of_a_megabyte_is_not_followed() {
    let long = "x".repeat(1 << 20);
    let crm = FakeCrm::with(vec![]).await;
    let pipedrive = TestDaemon::with(&crm, "pipedrive", "").await;
    let cursor = long.clone();
    crm.becomes(move |_| {
        Reply::json(json!({"success": true, "data": {"items": []}, "additional_data": {"next_cursor": cursor}}))
    });
    let failure = pipedrive
        .find(find().platform("pipedrive"))
        .await
        .unwrap_err();
    assert_eq!(crate::support::daemon::details(&failure).reason, BAD);
    let clio = TestDaemon::with(&crm, "clio", "").await;
    let next = format!("{}/api/v4/contacts.json?{long}", crm.url());
    crm.becomes(move |_| Reply::json(json!({"data": [], "meta": {"paging": {"next": next}}})));
    let failure = clio.find(find().platform("clio")).await.unwrap_err();
    assert_eq!(crate::support::daemon::details(&failure).reason, BAD);
    assert_eq!(crm.seen().len(), 2);
}
