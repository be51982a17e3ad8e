//! Ids: those that make a path climb, those that are none, and different ones that would be equal
//! as doubles.

use serde_json::{Value, json};

use super::example_at;
use crate::support::crm::{Seen, example};
use crate::support::daemon::{Changed as _, names, refresh};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

fn with_id(id: &Value, name: &str) -> Value {
    json!({"id": id, "kind": "person", "name": name, "phones": [{"number": "+16505551234"}]})
}

fn detail_paths(crm: &FakeCrm) -> Vec<String> {
    crm.seen()
        .into_iter()
        .map(|seen| seen.path)
        .filter(|path| path != "/api/v1/contacts")
        .collect()
}

#[tokio::test]
async fn an_id_arrives_as_one_segment_or_its_details_are_left_out() {
    for (id, segment) in [
        (".", None),
        ("..", None),
        ("%2e", Some("%252e")),
        ("%2E%2e", Some("%252E%252e")),
        (".%2e", Some(".%252e")),
        ("%2e%2e%2f", Some("%252e%252e%252f")),
        ("../..", Some("..%2F..")),
        ("..\\\\..", Some("..%5C%5C..")),
        ("a/b", Some("a%2Fb")),
        ("a?b#c", Some("a%3Fb%23c")),
        ("...", Some("...")),
        (" . ", Some("%20.%20")),
        ("ä;x=1", Some("%C3%A4;x=1")),
    ] {
        let crm = FakeCrm::with(vec![with_id(&json!(id), "Ada")]).await;
        let daemon = TestDaemon::start(&example_at(&crm.url())).await;
        let answer = daemon.find(find()).await.unwrap();
        assert_eq!(names(&answer), ["Ada"], "{id}");
        assert_eq!(answer.matched_contact_info[0].id, id);
        assert_eq!(answer.lookup.unwrap().complete, segment.is_some(), "{id}");
        let expected: Vec<_> = segment
            .map(|segment| format!("/api/v1/contacts/{segment}/deals"))
            .into_iter()
            .collect();
        assert_eq!(detail_paths(&crm), expected, "{id}");
    }
}

#[tokio::test]
async fn a_record_without_an_id_is_left_out_and_is_not_nobody() {
    for id in [
        json!(null),
        json!(""),
        json!("  "),
        json!("\u{200b}"),
        json!(true),
        json!(false),
        json!([7]),
        json!({"id": 7}),
    ] {
        let crm = FakeCrm::with(vec![with_id(&id, "Mallory")]).await;
        let daemon = TestDaemon::start(&example_at(&crm.url())).await;
        for asked in [1, 2] {
            let answer = daemon.find(find()).await.unwrap();
            assert!(
                names(&answer).is_empty() && !answer.lookup.unwrap().complete,
                "{id}"
            );
            assert_eq!(
                (crm.searches(), detail_paths(&crm).len()),
                (asked, 0),
                "{id}: nobody is not stored"
            );
        }
        let both = vec![with_id(&id, "Mallory"), contact(2, "Ada", "+16505551234")];
        crm.becomes(move |seen| example(seen, &both));
        assert_eq!(names(&daemon.find(find()).await.unwrap()), ["Ada"], "{id}");
        assert_eq!(detail_paths(&crm), ["/api/v1/contacts/2/deals"], "{id}");
    }
}

#[tokio::test]
async fn two_people_whose_ids_are_one_double_stay_two() {
    let ids = [
        "9007199254740993",
        "9007199254740992",
        "18446744073709551616",
        "18446744073709551617",
        "7.0",
        "8.5",
    ];
    let people = ids.map(|id| {
        format!("{{\"id\": {id}, \"name\": \"P\", \"phones\": [{{\"number\": \"+16505551234\"}}]}}")
    });
    let body = format!(
        "{{\"contacts\": [{}], \"next_page\": null}}",
        people.join(",")
    );
    let crm = FakeCrm::start(move |seen| match seen.path.as_str() {
        "/api/v1/contacts" => Reply::text("application/json", body.clone()),
        _ => example(seen, &[]),
    })
    .await;
    let daemon = TestDaemon::start(&example_at(&crm.url())).await;
    let answer = daemon.find(find()).await.unwrap();
    let shown: Vec<_> = answer
        .matched_contact_info
        .iter()
        .filter(|c| !c.is_new_contact)
        .map(|c| c.id.as_str())
        .collect();
    let expected = [
        "9007199254740993",
        "9007199254740992",
        "18446744073709551616",
        "18446744073709551617",
        "7",
        "8.5",
    ];
    assert_eq!(shown, expected);
    assert!(detail_paths(&crm).contains(&"/api/v1/contacts/9007199254740993/deals".to_owned()));
    assert!(answer.lookup.unwrap().complete);
}

#[tokio::test]
async fn details_of_a_record_that_is_gone_are_left_out_for_that_record_only() {
    let script = |status: u16| {
        move |seen: &Seen| match (seen.path.as_str(), seen.param("phone")) {
            ("/api/v1/contacts", Some("+16505550002")) => {
                example(seen, &[contact(2, "Bob", "+16505550002")])
            }
            ("/api/v1/contacts/1/deals", _) => Reply::status(status),
            _ => example(seen, &[contact(1, "Ada", "+16505551234")]),
        }
    };
    for (status, asked_of_bob) in [(404, 1), (410, 1), (403, 0)] {
        let crm = FakeCrm::start(script(status)).await;
        let daemon = TestDaemon::start(&example_at(&crm.url())).await;
        for request in [refresh(), refresh(), refresh().number("+16505550002")] {
            assert!(
                daemon.find(request).await.unwrap().lookup.unwrap().complete,
                "{status}"
            );
        }
        let paths = detail_paths(&crm);
        let of = |id: u32| {
            paths
                .iter()
                .filter(|path| **path == format!("/api/v1/contacts/{id}/deals"))
                .count()
        };
        assert_eq!((of(1), of(2)), (1, asked_of_bob), "{status}");
    }
}
