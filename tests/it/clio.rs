//! Clio on the wire.

use contactd::domain::json::to_struct;
use serde_json::{Value, json};

use crate::support::crm::{Seen, themselves};
use crate::support::daemon::{Changed as _, details, names, refresh};
use crate::support::{FakeCrm, Reply, TestDaemon, find};

fn matter(id: u32, status: &str) -> Value {
    json!({"id": id, "display_number": format!("0000{id}-Client"), "description": format!("Case {id}"), "status": status})
}

fn choice(id: u32, status: &str) -> Value {
    json!({"const": id, "title": format!("0000{id}-Client"), "description": format!("Case {id}"), "status": status})
}

fn clio(base: &str, seen: &Seen) -> Reply {
    let next = |query: &str| json!({"paging": {"next": format!("{base}/api/v4/{query}")}});
    match (seen.path.as_str(), seen.param("page_token")) {
        ("/api/v4/users/who_am_i.json", None) => themselves(seen),
        ("/api/v4/contacts.json", None) if seen.param("query") == Some("(650) 555-1234") => {
            Reply::json(
                json!({"data": [{"id": 5, "type": "Person", "name": "Old", "phone_numbers": [{"number": "+1 212 555 0000"}]}],
                "meta": next("contacts.json?page_token=2")}),
            )
        }
        ("/api/v4/contacts.json", Some("2")) => {
            Reply::json(json!({"meta": {"paging": {}}, "data": [{
                "id": 6, "type": "Person", "name": "Ada", "title": "Client", "primary_email_address": "ada@example.com",
                "created_at": "2024-01-01T00:00:00Z", "updated_at": "2025-01-01T00:00:00Z",
                "company": {"name": "Engines"}, "phone_numbers": [{"number": "(650) 555-1234"}],
            }]}))
        }
        ("/api/v4/contacts.json", _) => Reply::json(json!({"data": [], "meta": {}})),
        ("/api/v4/matters.json", None) => Reply::json(
            json!({"data": [matter(1, "Open"), matter(2, "Closed")], "meta": next("matters.json?page_token=m2")}),
        ),
        ("/api/v4/matters.json", _) => {
            Reply::json(json!({"data": [matter(3, "Pending")], "meta": {}}))
        }
        ("/api/v4/relationships.json", _) => Reply::json(
            json!({"data": [{"matter": matter(1, "Open")}, {"matter": null}, {"matter": matter(4, "Open")}], "meta": {}}),
        ),
        other => panic!("unexpected {other:?}"),
    }
}

async fn start() -> (FakeCrm, TestDaemon) {
    let crm = FakeCrm::start(|_| Reply::status(500)).await;
    let base = crm.url();
    crm.becomes(move |seen| clio(&base, seen));
    // What is tested here needs more calls than Clio allows at once.
    let quota = "quota = { rate = 1000, per = \"1s\", burst = 1000 }";
    let toml = format!(
        "[connectors.clio]\nkind = \"clio\"\nbase_url = \"{}\"\n{quota}\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&toml).await;
    (crm, daemon)
}

/// What the call form of App Connect expects of a contact with these matters.
fn with_time_entry<const N: usize>(matters: [Value; N]) -> Value {
    let matters = matters.to_vec();
    json!({
        "matters": matters, "logTimeEntry": true,
        "billableStatus": [
            {"const": "billable", "title": "Billable"},
            {"const": "non-billable", "title": "Non-billable"},
        ],
    })
}

#[tokio::test]
async fn the_setting_for_time_entries_is_passed_on() {
    let (_crm, daemon) = start().await;
    for (setting, expected) in [(json!({"value": false}), false), (json!(true), true)] {
        let mut request = find()
            .platform("clio")
            .hostname("eu.app.clio.com")
            .formats(&["(###) ###-####"]);
        let settings = json!({"clioDefaultTimeEntryTick": setting});
        request.user.as_mut().unwrap().settings = settings.as_object().map(to_struct);
        let response = daemon.find(request).await.unwrap();
        let info = response.matched_contact_info[0]
            .additional_info
            .clone()
            .unwrap();
        assert_eq!(info.fields["logTimeEntry"], expected.into());
    }
}

#[tokio::test]
async fn contacts_come_with_their_own_and_related_matters_each_once() {
    let (crm, daemon) = start().await;
    let request = find()
        .platform("clio")
        .hostname("eu.app.clio.com")
        .formats(&["(###) ###-####", "###.###.####"]);
    let response = daemon.find(request).await.unwrap();
    assert_eq!(names(&response), ["Ada"]);
    let ada = &response.matched_contact_info[0];
    assert_eq!(
        (
            ada.r#type.as_str(),
            ada.company.as_str(),
            ada.email.as_str()
        ),
        ("Person", "Engines", "ada@example.com")
    );
    let matters = with_time_entry([choice(1, "Open"), choice(3, "Pending"), choice(4, "Open")]);
    assert_eq!(ada.additional_info, matters.as_object().map(to_struct));
    assert!(response.lookup.unwrap().complete);

    let seen = crm.seen();
    let searches: Vec<_> = seen
        .iter()
        .filter_map(|seen| seen.param("query").map(str::to_owned))
        .collect();
    assert_eq!(
        searches,
        ["+16505551234", "(650) 555-1234"],
        "the third spelling is not needed"
    );
    let matters = seen
        .iter()
        .find(|seen| seen.path == "/api/v4/matters.json")
        .unwrap();
    assert_eq!(matters.param("client_id"), Some("6"));
    let related = seen
        .iter()
        .find(|seen| seen.path == "/api/v4/relationships.json")
        .unwrap();
    assert_eq!(related.param("contact_id"), Some("6"));
    assert_eq!(
        related.param("fields"),
        Some("matter{id,display_number,description,status}")
    );
}

#[tokio::test]
async fn closed_matters_are_offered_to_users_who_want_them_and_to_no_other() {
    let (_crm, daemon) = start().await;
    let with = |setting: Value| {
        let mut request = find().platform("clio").formats(&["(###) ###-####"]);
        request.user.as_mut().unwrap().settings = setting.as_object().map(to_struct);
        request
    };
    for (setting, closed) in [
        (json!({"clioSeeClosedMatters": {"value": true}}), true),
        (json!({"clioSeeClosedMatters": {"value": false}}), false),
        (json!({"clioSeeClosedMatters": true}), true),
        (json!({}), false),
    ] {
        let response = daemon.find(with(setting.clone())).await.unwrap();
        let info = response.matched_contact_info[0]
            .additional_info
            .clone()
            .unwrap();
        let text = format!("{info:?}");
        assert_eq!(
            text.contains("Closed"),
            closed,
            "{setting}: the setting is a part of the key"
        );
    }
}

#[tokio::test]
async fn a_next_link_to_another_host_is_not_followed() {
    let elsewhere = FakeCrm::with(vec![]).await;
    let (crm, daemon) = start().await;
    let (base, evil) = (crm.url(), elsewhere.url());
    crm.becomes(move |seen| match seen.path.as_str() {
        "/api/v4/relationships.json" => {
            let next = format!("{evil}/api/v4/relationships.json?page_token=2");
            Reply::json(json!({"data": [{"matter": matter(9, "Open")}], "meta": {"paging": {"next": next}}}))
        }
        _ => clio(&base, seen),
    });
    let response = daemon
        .find(find().platform("clio").formats(&["(###) ###-####"]))
        .await
        .unwrap();
    assert!(!response.lookup.unwrap().complete, "the side call failed");
    assert!(
        elsewhere.seen().is_empty(),
        "and no credential went elsewhere"
    );

    let evil = elsewhere.url();
    crm.becomes(move |_| {
        Reply::json(json!({"data": [], "meta": {"paging": {"next": format!("{evil}/api/v4/contacts.json")}}}))
    });
    let status = daemon
        .find(find().platform("clio").number("+16505559999"))
        .await
        .unwrap_err();
    assert_eq!(details(&status).reason, "CRM_BAD_REPLY");
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn only_the_four_regions_are_clio() {
    let daemon = TestDaemon::start("[connectors.clio]\nkind = \"clio\"\n").await;
    for host in [
        "",
        "clio.com",
        "us.app.clio.com",
        "app.clio.com.evil.example",
        "evil-app.clio.com",
    ] {
        let status = daemon
            .find(find().platform("clio").hostname(host))
            .await
            .unwrap_err();
        assert_eq!(details(&status).fields, ["user.hostname"], "{host}");
    }
}

#[tokio::test]
async fn a_list_of_matters_that_is_refused_leaves_the_other_and_one_that_fails_is_missed() {
    let refused = |reply: Reply| (reply, true, 1);
    let failed = |reply: Reply| (reply, false, 2);
    let paging = |next: Value| Reply::json(json!({"data": [], "meta": {"paging": {"next": next}}}));
    for list in ["matters", "relationships"] {
        for (reply, complete, calls) in [
            refused(Reply::status(401)),
            refused(Reply::status(403)),
            refused(Reply::status(404)),
            failed(Reply::status(429).header("retry-after", "0")),
            failed(Reply::status(500)),
            failed(Reply::json(json!({"data": []})).but(206)),
            failed(Reply::json(json!({"error": {"type": "X"}, "data": []}))),
            failed(Reply::json(json!({"data": null}))),
            failed(paging(json!({"url": "x"}))),
        ] {
            let what = format!("{list}: {reply:.120?}");
            let (crm, daemon) = start().await;
            let (base, path) = (crm.url(), format!("/api/v4/{list}.json"));
            let refused = path.clone();
            crm.becomes(move |seen| {
                if seen.path == refused {
                    reply.clone()
                } else {
                    clio(&base, seen)
                }
            });
            for _ in 0..2 {
                let request = refresh().platform("clio").formats(&["(###) ###-####"]);
                let response = daemon.find(request).await.unwrap();
                assert_eq!(names(&response), ["Ada"], "{what}");
                assert_eq!(response.lookup.unwrap().complete, complete, "{what}");
                let choices = if list == "matters" { [1, 4] } else { [1, 3] };
                let matters = with_time_entry(
                    choices.map(|id| choice(id, if id == 3 { "Pending" } else { "Open" })),
                );
                let info = &response.matched_contact_info[0].additional_info;
                assert_eq!(*info, matters.as_object().map(to_struct), "{what}");
            }
            assert_eq!(
                crm.seen().iter().filter(|seen| seen.path == path).count(),
                calls,
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn odd_matters_are_missed_and_hide_no_others() {
    let (crm, daemon) = start().await;
    let base = crm.url();
    let odd = json!([{"matter": null}, {"matter": 7}, {"matter": {"id": null, "display_number": "?"}}, 7,
        {"matter": matter(9, "Open")}]);
    crm.becomes(move |seen| match seen.path.as_str() {
        "/api/v4/relationships.json" => Reply::json(json!({"data": odd})),
        _ => clio(&base, seen),
    });
    let response = daemon
        .find(find().platform("clio").formats(&["(###) ###-####"]))
        .await
        .unwrap();
    let matters = with_time_entry([choice(1, "Open"), choice(3, "Pending"), choice(9, "Open")]);
    assert_eq!(
        response.matched_contact_info[0].additional_info,
        matters.as_object().map(to_struct)
    );
    assert!(!response.lookup.unwrap().complete);
}
