//! What an answer holds: verified contacts, the create option, the messages.

use std::time::Duration;

use contactd::pb::v1::{FindContactRequest, MatchQuality, Source};
use serde_json::json;
use tonic::Code;

use crate::support::crm::{Seen, example};
use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find};

#[tokio::test]
async fn records_with_other_numbers_are_dropped_and_verified_ones_come_first() {
    let crm = FakeCrm::with(vec![
        contact(1, "Same last digits", "(212) 555-1234"),
        json!({"id": 2, "name": "No phone field", "phones": []}),
        contact(3, "Longer", "+16505551234567"),
        contact(4, "Really", "(650) 555-1234"),
        contact(4, "Really", "(650) 555-1234"),
        contact(5, "Abroad", "+44 650 555 1234"),
        json!({"id": 6, "name": "Second phone", "phones": [{"number": "+1 212 555 0000"}, {"number": "650.555.1234"}]}),
        json!({"id": 7, "name": "Empty phone", "phones": [{"number": " "}]}),
    ])
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let response = daemon.find(find().region("US")).await.unwrap();
    assert_eq!(
        names(&response),
        ["Really", "Second phone", "No phone field", "Empty phone"]
    );
    let qualities: Vec<_> = response
        .matched_contact_info
        .iter()
        .map(|c| c.match_quality())
        .collect();
    let (exact, unverified) = (MatchQuality::Exact, MatchQuality::Unverified);
    assert_eq!(
        qualities,
        [
            exact,
            exact,
            unverified,
            unverified,
            MatchQuality::Unspecified
        ]
    );
    assert_eq!(response.return_message.unwrap().message, "Found 4 contacts");
}

#[tokio::test]
async fn a_search_that_only_finds_other_people_is_not_found() {
    let crm = FakeCrm::with(vec![contact(1, "Somebody else", "(212) 555-1234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    let response = daemon.find(find()).await.unwrap();
    assert!(names(&response).is_empty());
    let message = response.return_message.unwrap();
    assert_eq!(
        (message.message.as_str(), message.message_type.as_str()),
        ("Contact not found", "warning")
    );
}

#[tokio::test]
async fn the_create_option_is_the_last_entry_unless_it_is_switched_off() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "(650) 555-1234")]).await;
    let toml = |on| {
        format!(
            "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\ncreate_option = {on}\n",
            crm.url()
        )
    };
    let daemon = TestDaemon::start(&toml(true)).await;
    for _ in 0..2 {
        let list = daemon.find(find()).await.unwrap().matched_contact_info;
        let last = list.last().unwrap();
        assert_eq!(
            (list.len(), last.id.as_str(), last.name.as_str()),
            (2, "createNewContact", "Create new contact...")
        );
        assert!(last.is_new_contact && last.additional_info.is_none() && !list[0].is_new_contact);
    }
    let daemon = TestDaemon::start(&toml(false)).await;
    assert_eq!(
        daemon
            .find(find())
            .await
            .unwrap()
            .matched_contact_info
            .len(),
        1
    );
}

#[tokio::test]
async fn a_request_says_whether_the_create_option_is_in_its_answer() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "(650) 555-1234")]).await;
    for connectors in [true, false] {
        let daemon = TestDaemon::start(&format!(
            "[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\ncreate_option = {connectors}\n",
            crm.url()
        ))
        .await;
        let before = crm.searches();
        for (wanted, entries) in [
            (Some(true), 2),
            (Some(false), 1),
            (None, 1 + usize::from(connectors)),
        ] {
            let mut request = find();
            request.create_option = wanted;
            let list = daemon.find(request).await.unwrap().matched_contact_info;
            assert_eq!(list.len(), entries, "{wanted:?}, {connectors}");
            assert!(!list[0].is_new_contact);
        }
        assert_eq!(crm.searches(), before + 1, "the stored answer is the same");
    }
}

#[tokio::test]
async fn a_contact_carries_what_the_crm_knows_of_it() {
    let crm = FakeCrm::start(|seen| {
        if seen.path == "/api/v1/contacts/17/deals" {
            return Reply::json(json!({"deals": [{"id": 7, "title": "Renewal", "stage": "open"}], "next_page": null}));
        }
        let mut ada = contact(17, "Ada Lovelace", "+1 650-555-1234");
        for (field, value) in [
            ("title", "Countess"),
            ("company", "Engines"),
            ("email", "ada@example.com"),
            ("created_at", "2024-05-01T10:00:00Z"),
            ("last_activity_at", "2025-05-01T10:00:00Z"),
        ] {
            ada[field] = json!(value);
        }
        example(seen, &[ada])
    })
    .await;
    let daemon = TestDaemon::over(&crm).await;
    let fresh = daemon.find(find()).await.unwrap();
    let stored = daemon.find(find()).await.unwrap();
    assert_eq!(fresh.matched_contact_info, stored.matched_contact_info);
    assert_eq!(fresh.return_message, stored.return_message);
    let ada = &fresh.matched_contact_info[0];
    assert_eq!(
        (ada.id.as_str(), ada.name.as_str(), ada.phone.as_str()),
        ("17", "Ada Lovelace", "+16505551234")
    );
    assert_eq!(
        (
            ada.r#type.as_str(),
            ada.title.as_str(),
            ada.company.as_str()
        ),
        ("person", "Countess", "Engines")
    );
    assert_eq!(
        (ada.email.as_str(), ada.created_date.as_str()),
        ("ada@example.com", "2024-05-01T10:00:00Z")
    );
    assert_eq!(ada.most_recent_activity_date, "2025-05-01T10:00:00Z");
    let deals = json!({"deals": [{"const": 7, "title": "Renewal"}]});
    assert_eq!(
        ada.additional_info,
        deals.as_object().map(contactd::domain::json::to_struct)
    );
    let message = fresh.return_message.unwrap();
    assert_eq!(
        (
            message.message.as_str(),
            message.message_type.as_str(),
            message.ttl
        ),
        ("Found 1 contact", "success", 3000)
    );
    let (first, second) = (fresh.lookup.unwrap(), stored.lookup.unwrap());
    assert_eq!(
        (first.source(), first.crm_requests, first.complete),
        (Source::Crm, 2, true)
    );
    assert_eq!(
        (second.source(), second.crm_requests, second.complete),
        (Source::Memory, 0, true)
    );
}

fn failing_deals(seen: &Seen) -> Reply {
    if seen.path.ends_with("/deals") {
        Reply::status(500)
    } else {
        example(seen, &[contact(1, "Ada", "(650) 555-1234")])
    }
}

#[tokio::test]
async fn a_contact_whose_details_fail_is_a_partial_answer_and_lives_briefly() {
    let crm = FakeCrm::start(failing_deals).await;
    let daemon = TestDaemon::over(&crm).await;
    let response = daemon.find(find()).await.unwrap();
    assert_eq!(names(&response), ["Ada"]);
    assert!(!response.lookup.unwrap().complete);
    let message = response.return_message.unwrap();
    assert_eq!(message.message_type, "warning");
    assert!(
        message.message.contains("something is missing"),
        "{}",
        message.message
    );

    crm.becomes(|seen| example(seen, &[contact(1, "Ada", "(650) 555-1234")]));
    daemon.clock.advance(std::time::Duration::from_secs(600));
    let whole = daemon.find(find()).await.unwrap();
    assert!(
        whole.lookup.unwrap().complete,
        "a partial answer is gone when an absent one would be"
    );
}

#[tokio::test]
async fn all_pages_are_read_up_to_the_limit_and_a_cut_list_is_labelled() {
    let crm = FakeCrm::start(|seen| {
        let page: u32 = seen.param("page").unwrap().parse().unwrap();
        if seen.path.ends_with("/deals") {
            return Reply::json(
                json!({"deals": [{"id": page, "title": format!("Deal {page}")}], "next_page": page + 1}),
            );
        }
        let next = (page < 3).then_some(page + 1);
        Reply::json(json!({"contacts": [contact(page, &format!("Person {page}"), "+16505551234")], "next_page": next}))
    })
    .await;
    let daemon = TestDaemon::with(&crm, "example", "[lookup]\nmax_pages = 4\n").await;
    let response = daemon.find(find()).await.unwrap();
    assert_eq!(names(&response), ["Person 1", "Person 2", "Person 3"]);
    assert!(
        !response.lookup.unwrap().complete,
        "the deals had more than four pages"
    );
    let info = response.matched_contact_info[0]
        .additional_info
        .clone()
        .unwrap();
    let Some(prost_types::value::Kind::ListValue(deals)) = &info.fields["deals"].kind else {
        panic!("no list")
    };
    assert_eq!(deals.values.len(), 4);
}

#[tokio::test]
async fn a_search_cut_short_without_a_match_is_neither_found_nor_remembered() {
    let crm = FakeCrm::start(|seen| {
        let page: u32 = seen.param("page").unwrap().parse().unwrap();
        Reply::json(json!({"contacts": [contact(page, "Somebody else", "+12125550000")], "next_page": page + 1}))
    })
    .await;
    let daemon = TestDaemon::with(&crm, "example", "[lookup]\nmax_pages = 2\n").await;
    for asked in [2, 4] {
        let response = daemon.find(find()).await.unwrap();
        assert!(names(&response).is_empty());
        assert!(!response.lookup.unwrap().complete);
        assert_eq!(crm.searches(), asked);
    }
}

#[tokio::test]
async fn ill_formed_requests_name_the_field() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let without_user = FindContactRequest {
        user: None,
        ..find()
    };
    let mut contradiction = crate::support::refresh();
    contradiction.only_if_cached = true;
    for (request, field) in [
        (without_user, "user"),
        (find().user(""), "user.id"),
        (find().user(&"x".repeat(513)), "user.id"),
        (find().platform(""), "user.platform"),
        (find().platform("salesforce"), "user.platform"),
        (find().region("Atlantis"), "user.region"),
        (find().hostname("http://evil.example"), "user.hostname"),
        (find().auth(""), "auth_header"),
        (find().auth("Bearer a\r\nX-Evil: 1"), "auth_header"),
        (
            FindContactRequest {
                trigger: 9,
                ..find()
            },
            "trigger",
        ),
        (contradiction, "only_if_cached"),
    ] {
        let status = daemon.find(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert_eq!(details(&status).fields, [field]);
        assert_eq!(details(&status).message.unwrap().message_type, "danger");
    }
    assert!(crm.seen().is_empty());
}

#[tokio::test]
async fn details_that_take_too_long_are_left_out_and_the_contacts_arrive() {
    let crm = FakeCrm::start(|seen| {
        let people: Vec<_> = (1..=9)
            .map(|id| contact(id, "Ada", "+16505551234"))
            .collect();
        let late = seen.path.ends_with("/deals");
        example(seen, &people).after(Duration::from_secs(if late { 600 } else { 0 }))
    })
    .await;
    let daemon = TestDaemon::with(&crm, "example", "[lookup]\ntimeout = \"3s\"\n").await;
    let response = daemon.find(find()).await.unwrap();
    assert_eq!(
        (names(&response).len(), response.lookup.unwrap().complete),
        (9, false)
    );
}
