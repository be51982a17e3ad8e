//! Names are what somebody typed into a CRM, or an attacker: they are data in every header.

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::sip::Exchange;
use crate::support::{FakeCrm, Reply, TestDaemon, contact};

/// A name in a CRM, and what a phone shows.
fn names() -> Vec<(String, String)> {
    let same = [
        "Zoë Ünïcode 山田太郎",
        "O'Brien \"Bob\" \\ Smith",
        "\\\\\"",
        "<sip:x@y.example>;tag=1",
        "😀",
        "$fu $(env{CONTACTD_AUTH_HEADER}) $var(answer) %s",
    ];
    let changed = [
        (
            "Eve\r\nX-Injected: yes\r\n\r\nbody",
            "Eve X-Injected: yes body",
        ),
        ("tab\tand\u{7}bell", "tab and bell"),
    ];
    let long = ["a".repeat(300), "山".repeat(300), "\"".repeat(300)];
    let shortened = ["a".repeat(60), "山".repeat(19), "\"".repeat(60)];
    let same = same.map(|name| (name.to_owned(), name.to_owned()));
    let changed = changed.map(|(name, shown)| (name.to_owned(), shown.to_owned()));
    same.into_iter()
        .chain(changed)
        .chain(long.into_iter().zip(shortened))
        .collect()
}

fn number(index: usize) -> String {
    format!("+1512537{:04}", 3000 + index)
}

/// Calls from all numbers, and compares what the phone shows. Runs of blanks count as one: contactd
/// makes one blank of each control character.
async fn all_ring(contactd: &str, id: impl Fn(usize) -> String) {
    let exchange = Exchange::with(contactd).await;
    let names = names();
    let callers: Vec<_> = (0..names.len())
        .map(|index| format!("sip:{}@example.com", number(index)))
        .collect();
    // The proxy waits a second for contactd, so not all calls come at once.
    let rings = stream::iter(&callers).map(|caller| exchange.rings(caller));
    let invites: Vec<_> = rings.buffered(3).collect().await;
    for (index, invite) in invites.iter().enumerate() {
        let shown = invite.shown();
        let words: Vec<_> = shown.split_whitespace().collect();
        assert_eq!(words.join(" "), names[index].1, "{invite:?}");
        let info = format!(
            "<https://crm.example.com/contacts/{}>;purpose=info",
            id(index)
        );
        assert_eq!(invite.header("Call-Info"), Some(info.as_str()));
        assert_eq!(invite.header("X-Injected"), None);
    }
    let log = exchange.log();
    assert!(!log.contains("ERROR"), "{log}");
}

#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn a_phone_shows_names_of_a_crm_that_no_header_could_hold() {
    let contacts = names().into_iter().enumerate();
    let contacts: Vec<Value> = contacts
        .map(|(index, (name, _))| contact(u32::try_from(index).unwrap(), &name, &number(index)))
        .collect();
    let crm = FakeCrm::with(contacts).await;
    let daemon = TestDaemon::over(&crm).await;
    all_ring(&format!("http://{}", daemon.grpc), |index| {
        index.to_string()
    })
    .await;
}

/// The proxy does not rely on what contactd has already replaced.
#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn a_phone_shows_names_of_an_answer_that_no_header_could_hold() {
    let id = "7 1>\"\r\n;x=é,\\";
    let contactd = FakeCrm::start(move |seen| {
        let asked = seen.body["phoneNumber"].as_str().unwrap().to_owned();
        let names = names();
        let index = (0..names.len()).find(|index| asked.contains(&number(*index)));
        let name = &names[index.unwrap()].0;
        Reply::json(json!({"matchedContactInfo": [
            {"id": "0", "name": " \t", "matchQuality": "MATCH_QUALITY_EXACT"},
            {"id": id, "name": name, "matchQuality": "MATCH_QUALITY_LIKELY"},
            {"id": "2", "name": "Perhaps", "matchQuality": "MATCH_QUALITY_UNVERIFIED"},
            {"id": "createNewContact", "name": "Create new contact...", "isNewContact": true},
        ]}))
    })
    .await;
    let encoded = "7%201%3e%22%0d%0a%3bx%3d%c3%a9%2c%5c";
    all_ring(&contactd.url(), |_| encoded.to_owned()).await;
}

#[tokio::test]
#[ignore = "needs kamailio and sipp: tests/run gets them"]
async fn an_answer_that_makes_no_sense_changes_nothing() {
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{\"matchedContactInfo\": 7}",
        "{\"matchedContactInfo\": [7, null]}",
        "{\"matchedContactInfo\": [{\"matchQuality\": \"MATCH_QUALITY_EXACT\", \"name\": \"a\\u0000b\"}]}",
    ] {
        let contactd =
            FakeCrm::start(move |_| Reply::text("application/json", body.to_owned())).await;
        let exchange = Exchange::with(&contactd.url()).await;
        let invite = exchange.rings("sip:+15125373573@example.com").await;
        assert_eq!(invite.shown(), "Somebody", "{body}");
        assert_eq!(invite.header("Call-Info"), None, "{body}");
    }
}
