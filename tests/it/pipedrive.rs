//! Pipedrive on the wire.

use std::time::Duration;

use contactd::domain::json::to_struct;
use contactd::pb::v1::MatchQuality;
use serde_json::json;

use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, names};
use crate::support::{FakeCrm, Reply, TestDaemon, find, person};

fn pipedrive(seen: &Seen) -> Reply {
    match seen.path.as_str() {
        "/api/v2/persons/search" if seen.param("cursor").is_none() => Reply::json(json!({
            "success": true,
            "data": {"items": [person(1, "Somebody else", &["(212) 650-5551"]), person(2, "Ada", &["(650) 555-1234"])]},
            "additional_data": {"next_cursor": "page-2"},
        })),
        "/api/v2/persons/search" => Reply::json(json!({
            "success": true, "data": {"items": [person(3, "Bob", &["+1 650 555 1234"])]},
            "additional_data": {"next_cursor": null},
        })),
        "/api/v2/deals" if seen.param("person_id") == Some("2") => Reply::json(json!({
            "success": true,
            "data": [{"id": 11, "title": "Renewal"}, {"id": 12, "title": "Upgrade"}],
            "additional_data": {"next_cursor": null},
        })),
        "/api/v2/deals" => Reply::json(json!({"success": true, "data": null})),
        "/v1/leads" if seen.param("start").is_none() && seen.param("person_id") == Some("2") => Reply::json(json!({
            "success": true, "data": [{"id": "uuid-1", "title": "Lead 1"}],
            "additional_data": {"pagination": {"start": 0, "limit": 100, "more_items_in_collection": true, "next_start": 100}},
        })),
        "/v1/leads" if seen.param("start") == Some("100") => Reply::json(json!({
            "success": true, "data": [{"id": "uuid-2", "title": "Lead 2"}],
            "additional_data": {"pagination": {"start": 100, "limit": 100, "more_items_in_collection": false}},
        })),
        "/v1/leads" => Reply::json(json!({"success": true, "data": null})),
        other => panic!("unexpected path {other}"),
    }
}

#[tokio::test]
async fn persons_come_with_their_open_deals_and_leads_over_all_pages() {
    let crm = FakeCrm::start(pipedrive).await;
    let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
    let response = daemon.find(find().region("US").platform("pipedrive").hostname("acme.pipedrive.com")).await.unwrap();
    assert_eq!(names(&response), ["Ada", "Bob"]);
    let (ada, bob) = (&response.matched_contact_info[0], &response.matched_contact_info[1]);
    assert_eq!((ada.id.as_str(), ada.company.as_str(), ada.email.as_str()), ("2", "Acme", "p@example.com"));
    assert_eq!((ada.r#type.as_str(), ada.match_quality()), ("contact", MatchQuality::Exact));
    let expected = json!({
        "deals": [{"const": 11, "title": "Renewal"}, {"const": 12, "title": "Upgrade"}],
        "leads": [{"const": "uuid-1", "title": "Lead 1"}, {"const": "uuid-2", "title": "Lead 2"}],
    });
    assert_eq!(ada.additional_info, expected.as_object().map(to_struct));
    assert_eq!(bob.additional_info, None);
    let lookup = response.lookup.unwrap();
    assert_eq!((lookup.complete, lookup.crm_requests), (true, 7));

    let seen = crm.seen();
    let search = &seen[0];
    assert_eq!((search.param("term"), search.param("fields")), (Some("6505551234"), Some("phone")));
    assert_eq!(seen[1].param("cursor"), Some("page-2"));
    let deals = seen.iter().find(|seen| seen.path == "/api/v2/deals").unwrap();
    assert_eq!(deals.param("status"), Some("open"));
    assert!(seen.iter().all(|seen| seen.authorization.as_deref() == Some("Bearer token-1")));
}

#[tokio::test]
async fn failing_leads_leave_the_deals() {
    let crm = FakeCrm::start(|seen| if seen.path == "/v1/leads" { Reply::status(403) } else { pipedrive(seen) }).await;
    let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
    let response = daemon.find(find().region("US").platform("pipedrive")).await.unwrap();
    let expected = json!({"deals": [{"const": 11, "title": "Renewal"}, {"const": 12, "title": "Upgrade"}]});
    assert_eq!(response.matched_contact_info[0].additional_info, expected.as_object().map(to_struct));
    assert!(!response.lookup.unwrap().complete);
}

#[tokio::test]
async fn side_calls_of_one_find_run_at_the_same_time_but_not_all_at_once() {
    let crm = FakeCrm::start(|seen| {
        let people: Vec<_> = (1..=4).map(|id| person(id, &format!("P{id}"), &["6505551234"])).collect();
        let reply = match seen.path.as_str() {
            "/api/v2/persons/search" => Reply::json(json!({"data": {"items": people}})),
            _ => Reply::json(json!({"data": []})),
        };
        reply.after(Duration::from_millis(400))
    })
    .await;
    let daemon = TestDaemon::with(&crm, "pipedrive", "[lookup]\nmax_concurrent_calls = 4\n").await;
    let stopwatch = contactd::clock::Stopwatch::start();
    let response = daemon.find(find().platform("pipedrive")).await.unwrap();
    let took = stopwatch.elapsed();
    assert_eq!(response.lookup.unwrap().crm_requests, 9);
    // One search and two rounds of four: 1.2 s; in series it would be 3.6 s, all at once 0.8 s.
    assert!(took >= Duration::from_millis(1200) && took < Duration::from_millis(3400), "{took:?}");
}
