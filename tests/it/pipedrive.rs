//! Pipedrive on the wire.

use std::time::Duration;

use contactd::domain::json::to_struct;
use contactd::pb::v1::MatchQuality;
use serde_json::json;

use crate::support::crm::{Seen, themselves};
use crate::support::daemon::{Changed as _, names, refresh};
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
        "/v1/leads" if seen.param("start").is_none() && seen.param("person_id") == Some("2") => {
            Reply::json(json!({
                "success": true, "data": [{"id": "uuid-1", "title": "Lead 1"}],
                "additional_data": {"pagination": {"start": 0, "limit": 100, "more_items_in_collection": true, "next_start": 100}},
            }))
        }
        "/v1/leads" if seen.param("start") == Some("100") => Reply::json(json!({
            "success": true, "data": [{"id": "uuid-2", "title": "Lead 2"}],
            "additional_data": {"pagination": {"start": 100, "limit": 100, "more_items_in_collection": false}},
        })),
        "/v1/leads" => Reply::json(json!({"success": true, "data": null})),
        _ if seen.asks_who() => themselves(seen),
        other => panic!("unexpected path {other}"),
    }
}

/// More than any of these look-ups spends, in any lane.
const AMPLE: &str = "[connectors.pipedrive.quota]\nrate = 1000\nper = \"1s\"\nburst = 1000\n";

#[tokio::test]
async fn persons_come_with_their_open_deals_and_leads_over_all_pages() {
    let crm = FakeCrm::start(pipedrive).await;
    let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
    let response = daemon
        .find(
            find()
                .region("US")
                .platform("pipedrive")
                .hostname("acme.pipedrive.com"),
        )
        .await
        .unwrap();
    assert_eq!(names(&response), ["Ada", "Bob"]);
    let (ada, bob) = (
        &response.matched_contact_info[0],
        &response.matched_contact_info[1],
    );
    assert_eq!(
        (ada.id.as_str(), ada.company.as_str(), ada.email.as_str()),
        ("2", "Acme", "p@example.com")
    );
    assert_eq!(
        (ada.r#type.as_str(), ada.match_quality()),
        ("contact", MatchQuality::Exact)
    );
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
    assert_eq!(
        (search.param("term"), search.param("fields")),
        (Some("6505551234"), Some("phone"))
    );
    assert_eq!(seen[1].param("cursor"), Some("page-2"));
    let deals = seen
        .iter()
        .find(|seen| seen.path == "/api/v2/deals")
        .unwrap();
    assert_eq!(deals.param("status"), Some("open"));
    assert!(
        seen.iter()
            .all(|seen| seen.authorization.as_deref() == Some("Bearer token-1"))
    );
}

fn deals_of_ada() -> Option<prost_types::Struct> {
    let deals =
        json!({"deals": [{"const": 11, "title": "Renewal"}, {"const": 12, "title": "Upgrade"}]});
    deals.as_object().map(to_struct)
}

fn calls_for(crm: &FakeCrm, path: &str) -> usize {
    crm.seen().iter().filter(|seen| seen.path == path).count()
}

#[tokio::test]
async fn failing_leads_leave_the_deals_and_are_asked_for_again() {
    let failed = || Reply::json(json!({"success": false, "error": "x", "data": null}));
    let page = |more: serde_json::Value, start: serde_json::Value| {
        let pagination = json!({"more_items_in_collection": more, "next_start": start});
        Reply::json(
            json!({"success": true, "data": [], "additional_data": {"pagination": pagination}}),
        )
    };
    for (what, reply) in [
        ("400", Reply::status(400)),
        ("429", Reply::status(429).header("retry-after", "0")),
        ("500", Reply::status(500)),
        ("503", Reply::status(503)),
        (
            "a 403 that is a limit",
            Reply::status(403).header("retry-after", "0"),
        ),
        (
            "202",
            Reply::json(json!({"success": true, "data": null})).but(202),
        ),
        ("failed", failed()),
        ("success is missing", Reply::json(json!({"data": null}))),
        ("data is missing", Reply::json(json!({"success": true}))),
        ("no next_start", page(json!(true), json!(null))),
        ("more is a text", page(json!("true"), json!(100))),
        ("next_start is a text", page(json!(true), json!("100"))),
        (
            "no object among leads",
            Reply::json(json!({"success": true, "data": [1, "lead"]})),
        ),
        (
            "a lead without an id",
            Reply::json(
                json!({"success": true, "data": [{"id": null, "title": "?"}, {"title": "?"}]}),
            ),
        ),
        ("html", Reply::html()),
    ] {
        let crm = FakeCrm::start(move |seen| {
            if seen.path == "/v1/leads" {
                reply.clone()
            } else {
                pipedrive(seen)
            }
        })
        .await;
        let daemon = TestDaemon::with(&crm, "pipedrive", AMPLE).await;
        // Each call is made once more after a 503.
        let each = if what == "503" { 2 } else { 1 };
        for asked in [2, 4] {
            let response = daemon
                .find(refresh().region("US").platform("pipedrive"))
                .await
                .unwrap();
            assert_eq!(
                response.matched_contact_info[0].additional_info,
                deals_of_ada(),
                "{what}"
            );
            assert!(!response.lookup.unwrap().complete, "{what}");
            assert_eq!(
                calls_for(&crm, "/v1/leads"),
                asked * each,
                "{what}: of two persons"
            );
        }
    }
}

#[tokio::test]
async fn a_second_page_that_is_refused_is_missed() {
    let crm = FakeCrm::start(|seen| match (seen.path.as_str(), seen.param("start")) {
        ("/v1/leads", Some(_)) => Reply::status(403),
        _ => pipedrive(seen),
    })
    .await;
    let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
    for _ in 0..2 {
        let response = daemon
            .find(refresh().region("US").platform("pipedrive"))
            .await
            .unwrap();
        assert!(
            !response.lookup.unwrap().complete,
            "the CRM does show leads to this user"
        );
    }
}

#[tokio::test]
async fn leads_that_are_refused_for_good_are_left_out_and_not_asked_for_again() {
    let forbidden =
        Reply::json(json!({"success": false, "error": "no", "errorCode": 403, "data": null}));
    let statuses = [401, 402, 403, 404, 405, 410, 451, 501].map(Reply::status);
    for reply in statuses.into_iter().chain([forbidden]) {
        let what = format!("{reply:.80?}");
        let crm = FakeCrm::start(move |seen| {
            if seen.path == "/v1/leads" {
                reply.clone()
            } else {
                pipedrive(seen)
            }
        })
        .await;
        let daemon =
            TestDaemon::with(&crm, "pipedrive", "[lookup]\nmax_concurrent_calls = 1\n").await;
        for (request, asked) in [
            (refresh(), 1),
            (refresh(), 1),
            (find().formats(&["###"]), 1),
            (refresh().auth("Bearer token-2"), 2),
            (refresh().user("user-2"), 3),
            (refresh(), 3),
        ] {
            let response = daemon
                .find(request.region("US").platform("pipedrive"))
                .await
                .unwrap();
            assert_eq!(names(&response), ["Ada", "Bob"], "{what}");
            assert_eq!(
                response.matched_contact_info[0].additional_info,
                deals_of_ada(),
                "{what}"
            );
            assert!(response.lookup.unwrap().complete, "{what}");
            assert_eq!(
                calls_for(&crm, "/v1/leads"),
                asked,
                "{what}: one for each credential and user"
            );
        }
        let deals = calls_for(&crm, "/api/v2/deals");
        assert_eq!(
            deals, 12,
            "{what}: the deals of two persons are asked for each time"
        );
    }
}

#[tokio::test]
async fn two_deals_whose_ids_are_one_double_stay_two() {
    let body = r#"{"success": true, "data": [{"id": 9007199254740993, "title": "A"}, {"id": 9007199254740992, "title": "B"},
        {"id": 18446744073709551616, "title": "C"}, {"id": 18446744073709551617, "title": "D"}, {"id": 7.0, "title": "E"}]}"#;
    let crm = FakeCrm::start(|seen| match seen.path.as_str() {
        "/api/v2/deals" => Reply::text("application/json", body.to_owned()),
        _ => pipedrive(seen),
    })
    .await;
    let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
    let response = daemon
        .find(find().region("US").platform("pipedrive"))
        .await
        .unwrap();
    let deals = json!({"deals": [
        {"const": "9007199254740993", "title": "A"},
        {"const": 9_007_199_254_740_992_u64, "title": "B"},
        {"const": "18446744073709551616", "title": "C"},
        {"const": "18446744073709551617", "title": "D"},
        {"const": 7, "title": "E"},
    ]});
    assert_eq!(
        response.matched_contact_info[1].additional_info,
        deals.as_object().map(to_struct)
    );
    assert!(response.lookup.unwrap().complete);
}

#[tokio::test]
async fn an_item_without_a_person_is_left_out_and_its_deals_are_not_asked_for() {
    for odd in [
        json!({"result_score": 0.5}),
        json!({"item": null}),
        json!({"item": {"name": "Mallory"}}),
        json!({"item": {"id": "", "name": "Mallory"}}),
        json!({"item": {"id": true, "name": "Mallory"}}),
        json!({"item": [7]}),
        json!(7),
    ] {
        let (alone, beside) = (
            json!([odd]),
            json!([odd, person(2, "Ada", &["(650) 555-1234"])]),
        );
        let crm = FakeCrm::with(vec![]).await;
        let daemon = TestDaemon::with(&crm, "pipedrive", "").await;
        let search = |items: serde_json::Value| {
            move |seen: &Seen| match seen.path.as_str() {
                "/api/v2/persons/search" => {
                    Reply::json(json!({"success": true, "data": {"items": items}}))
                }
                _ => pipedrive(seen),
            }
        };
        crm.becomes(search(alone));
        for asked in [1, 2] {
            if let Ok(nobody) = daemon.find(find().region("US").platform("pipedrive")).await {
                assert!(
                    names(&nobody).is_empty() && !nobody.lookup.unwrap().complete,
                    "{odd}"
                );
            }
            assert_eq!(
                crm.seen().len(),
                asked,
                "{odd}: no details, and nobody is not stored"
            );
        }
        crm.becomes(search(beside));
        let answer = daemon
            .find(find().region("US").platform("pipedrive"))
            .await
            .unwrap();
        assert_eq!(names(&answer), ["Ada"], "{odd}");
        assert!(!answer.lookup.unwrap().complete, "{odd}");
        assert!(
            crm.seen()
                .iter()
                .filter_map(|seen| seen.param("person_id"))
                .all(|id| id == "2"),
            "{odd}"
        );
    }
}

#[tokio::test]
async fn side_calls_of_one_find_run_at_the_same_time_but_not_all_at_once() {
    let crm = FakeCrm::start(|seen| {
        let people: Vec<_> = (1..=4)
            .map(|id| person(id, &format!("P{id}"), &["6505551234"]))
            .collect();
        let reply = match seen.path.as_str() {
            "/api/v2/persons/search" => {
                Reply::json(json!({"success": true, "data": {"items": people}}))
            }
            _ => Reply::json(json!({"success": true, "data": []})),
        };
        reply.after(Duration::from_millis(400))
    })
    .await;
    let more = format!("[lookup]\nmax_concurrent_calls = 4\n{AMPLE}");
    let daemon = TestDaemon::with(&crm, "pipedrive", &more).await;
    let stopwatch = contactd::clock::Stopwatch::start();
    let response = daemon
        .find(find().region("US").platform("pipedrive"))
        .await
        .unwrap();
    let took = stopwatch.elapsed();
    assert_eq!(response.lookup.unwrap().crm_requests, 9);
    // One search and two rounds of four: 1.2 s; in series it would be 3.6 s, all at once 0.8 s.
    assert!(
        took >= Duration::from_millis(1200) && took < Duration::from_millis(3400),
        "{took:?}"
    );
}
