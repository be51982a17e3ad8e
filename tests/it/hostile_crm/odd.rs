//! Replies in which one record is not quite JSON: the others are shown as they are.

use serde_json::{Value, json};

use super::example_at;
use crate::support::crm::example;
use crate::support::daemon::{Changed as _, names};
use crate::support::{FakeCrm, Reply, TestDaemon, find};

const JSON: &str = "application/json";

/// Two contacts; the name of the first is put in as it is.
fn two(odd: &[u8]) -> Vec<u8> {
    let head = b"{\"contacts\": [{\"id\": 1, \"kind\": \"person\", \"name\": \"";
    let tail = "\", \"phones\": [{\"number\": \"+16505551234\"}]}, {\"id\": 2, \"kind\": \"person\", \
        \"name\": \"Zoë 😀\", \"phones\": [{\"number\": \"+16505551234\"}]}], \"next_page\": null}";
    [head, odd, tail.as_bytes()].concat()
}

async fn names_in(replies: Vec<(&str, &'static str, Vec<u8>, [&str; 2])>) {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::start(&example_at(&crm.url())).await;
    for (what, kind, body, expected) in replies {
        crm.becomes(move |seen| match seen.path.as_str() {
            "/api/v1/contacts" => Reply::bytes(kind, body.clone()),
            _ => example(seen, &[]),
        });
        let answer = daemon
            .find(find().user(what))
            .await
            .unwrap_or_else(|status| panic!("{what}: {status:?}"));
        assert_eq!(names(&answer), expected, "{what}");
        assert!(answer.lookup.unwrap().complete, "{what}");
    }
}

#[tokio::test]
async fn one_odd_name_hides_nobody() {
    let odd = |what, odd: &[u8], shown| (what, JSON, two(odd), [shown, "Zoë 😀"]);
    names_in(vec![
        odd(
            "the first half of a surrogate pair",
            b"Ada \\ud83d",
            "Ada \u{fffd}",
        ),
        odd("the second half", b"\\ude00 Ada", "\u{fffd} Ada"),
        odd(
            "the halves in the wrong order",
            b"\\ude00\\ud83d",
            "\u{fffd}\u{fffd}",
        ),
        odd(
            "a half as bytes",
            b"Ada \xed\xa0\xbd",
            "Ada \u{fffd}\u{fffd}\u{fffd}",
        ),
        odd("a raw tab", b"Ada\tLovelace", "Ada Lovelace"),
        odd("a raw line break", b"Ada\r\nLovelace", "Ada  Lovelace"),
        odd("a raw zero", b"Ada\0", "Ada "),
        odd("a bad byte", b"Ad\xff", "Ad\u{fffd}"),
        odd("a cut sequence", b"Ad\xc3", "Ad\u{fffd}"),
        odd("an escape that is none", b"O\\'Hara", "O\u{fffd}'Hara"),
        odd(
            "a tab, a half and a byte",
            b"\t\\ud800\xff",
            " \u{fffd}\u{fffd}",
        ),
        odd("entities", b"Tom &amp; Jerry", "Tom &amp; Jerry"),
        (
            "declared in vain",
            "application/json; charset=iso-8859-1",
            two(b"Ada"),
            ["Ada", "Zoë 😀"],
        ),
        (
            "and a raw tab",
            "application/json; charset=iso-8859-1",
            two(b"A\tB"),
            ["A B", "Zoë 😀"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_reply_in_another_encoding_is_read() {
    let text = String::from_utf8(two("Zo\u{eb}".as_bytes()))
        .unwrap()
        .replace("Zoë 😀", "Grace");
    let latin1 = || {
        text.chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect::<Vec<u8>>()
    };
    let utf16 =
        |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let both = ["Zoë", "Grace"];
    names_in(vec![
        (
            "latin-1",
            "application/json; charset=ISO-8859-1",
            latin1(),
            both,
        ),
        (
            "windows",
            "application/json;charset=\"windows-1252\"",
            latin1(),
            both,
        ),
        (
            "latin-1 that is not declared",
            JSON,
            latin1(),
            ["Zo\u{fffd}", "Grace"],
        ),
        (
            "latin-1 declared as UTF-8",
            "application/json; charset=utf-8",
            latin1(),
            ["Zo\u{fffd}", "Grace"],
        ),
        ("a mark", JSON, marked.clone(), both),
        (
            "a mark that says more than the header",
            "application/json; charset=latin1",
            marked,
            both,
        ),
        (
            "UTF-16 LE",
            "application/json; charset=utf-16le",
            utf16(u16::to_le_bytes),
            both,
        ),
        (
            "UTF-16 BE",
            "application/json; charset=utf-16",
            utf16(u16::to_be_bytes),
            both,
        ),
        (
            "UTF-16 with a mark",
            JSON,
            [b"\xff\xfe".to_vec(), utf16(u16::to_le_bytes)].concat(),
            both,
        ),
        (
            "UTF-16 BE with a mark",
            JSON,
            [b"\xfe\xff".to_vec(), utf16(u16::to_be_bytes)].concat(),
            both,
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_number_beyond_all_numbers_hides_nobody() {
    let crm = FakeCrm::start(|seen| match seen.path.as_str() {
        "/api/v1/contacts" => {
            let body = String::from_utf8(two(b"Ada"))
                .unwrap()
                .replace("\"kind\"", "\"score\": 1e999, \"kind\"");
            Reply::text(JSON, body)
        }
        _ => example(seen, &[]),
    })
    .await;
    let daemon = TestDaemon::start(&example_at(&crm.url())).await;
    assert_eq!(
        names(&daemon.find(find()).await.unwrap()),
        ["Ada", "Zoë 😀"]
    );
}

#[tokio::test]
async fn fields_of_other_types_are_read_if_they_can_be() {
    let phone = "+16505551234";
    for (phones, found) in [
        (json!(phone), true),
        (json!([phone]), true),
        (json!([[null, {"number": phone}]]), true),
        (json!({"number": phone}), true),
        (
            json!([null, {}, 7, {"number": null}, {"number": phone}]),
            true,
        ),
        (json!("+12125550000"), false),
        (json!([["+12125550000"]]), false),
    ] {
        let contacts = vec![
            json!({"id": 1, "name": {"first": "Ada"}, "company": "Engines", "email": ["x"], "phones": phones}),
        ];
        let crm = FakeCrm::with(contacts).await;
        let daemon = TestDaemon::start(&example_at(&crm.url())).await;
        let answer = daemon.find(find()).await.unwrap();
        let shown: &[&str] = if found { &["Engines"] } else { &[] };
        assert_eq!(names(&answer), shown, "{phones}");
    }
    let pipedrive = |person: Value| json!({"success": true, "data": {"items": [{"item": person}]}});
    for (email, emails) in [
        (json!({"value": "a@b.example"}), json!(null)),
        (json!(null), json!([{"value": "a@b.example"}])),
    ] {
        let person = json!({"id": 1, "name": "", "phones": phone, "primary_email": email, "emails": emails, "organization": []});
        let crm = FakeCrm::start(move |seen| match seen.path.as_str() {
            "/api/v2/persons/search" => Reply::json(pipedrive(person.clone())),
            _ => Reply::json(json!({"success": true, "data": null})),
        })
        .await;
        let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
        let answer = daemon.find(find().platform("pipedrive")).await.unwrap();
        assert_eq!(names(&answer), ["a@b.example"]);
        assert_eq!(answer.matched_contact_info[0].email, "a@b.example");
    }
}
