//! "Nobody" that is not said in the CRM's own form of success: a failure, and nothing is stored.

use serde_json::{Value, json};

use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, find, person};

const BAD: &str = "CRM_BAD_REPLY";
const FULL: &str = "CRM_RATE_LIMITED";

/// The reply of a search that finds Ada, and after that no details.
fn ada(kind: &str) -> Reply {
    Reply::json(match kind {
        "pipedrive" => {
            json!({"success": true, "data": {"items": [person(1, "Ada", &["+16505551234"])]}})
        }
        "clio" => {
            json!({"data": [{"id": 1, "name": "Ada", "phone_numbers": [{"number": "+16505551234"}]}]})
        }
        _ => json!({"contacts": [contact(1, "Ada", "+16505551234")], "next_page": null}),
    })
}

/// Each reply to a search fails for this reason, and the next call asks again.
async fn each_fails(kind: &'static str, cases: Vec<(&'static str, Reply, &'static str)>) {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, kind, "").await;
    let ask = |user: &str| daemon.find(find().platform(kind).user(user));
    for (what, reply, reason) in cases {
        crm.becomes(move |_| reply.clone());
        match ask(what).await {
            Ok(answer) => panic!("{kind}, {what}: {answer:?}"),
            Err(status) => assert_eq!(details(&status).reason, reason, "{kind}, {what}"),
        }
        crm.becomes(move |_| ada(kind));
        assert_eq!(
            names(&ask(what).await.unwrap()),
            ["Ada"],
            "{kind}, {what}: nobody was not stored"
        );
    }
}

/// Statuses of success that bring no answer, with this body.
fn other_statuses(body: &Value) -> Vec<(&'static str, Reply, &'static str)> {
    let status = |what, status| (what, Reply::json(body.clone()).but(status), BAD);
    vec![
        status("201", 201),
        status("202", 202),
        status("203", 203),
        status("206", 206),
        status("207", 207),
    ]
}

#[tokio::test]
async fn pipedrive_says_success() {
    let empty = json!({"items": []});
    let reply = |more: Value| {
        let mut reply = json!({"success": true, "data": {"items": []}});
        for (name, value) in more.as_object().unwrap() {
            reply[name] = value.clone();
        }
        Reply::json(reply)
    };
    let code = |code: Value| Reply::json(json!({"error": "no", "errorCode": code, "data": empty}));
    let cursor = |next: Value| reply(json!({"additional_data": {"next_cursor": next}}));
    let mut cases = vec![
        (
            "success is false",
            reply(json!({"success": false, "error": "no"})),
            BAD,
        ),
        ("success is a text", reply(json!({"success": "true"})), BAD),
        (
            "success is missing",
            Reply::json(json!({"data": empty})),
            BAD,
        ),
        (
            "an error beside success",
            reply(json!({"error": "no"})),
            BAD,
        ),
        ("a code 429", code(json!(429)), FULL),
        ("a code 429 as text", code(json!("429")), FULL),
        (
            "a code 429 beside success",
            reply(json!({"errorCode": 429})),
            FULL,
        ),
        ("a code 401", code(json!(401)), "CRM_UNAUTHENTICATED"),
        ("a code 403", code(json!(403)), "CRM_FORBIDDEN"),
        ("a code 503", code(json!(503)), "CRM_UNAVAILABLE"),
        ("a code of its own", code(json!("ERR_X")), BAD),
        ("no data", Reply::json(json!({"success": true})), BAD),
        ("data is null", reply(json!({"data": null})), BAD),
        (
            "items are null",
            reply(json!({"data": {"items": null}})),
            BAD,
        ),
        (
            "items are no objects",
            reply(json!({"data": {"items": ["nobody", 0]}})),
            BAD,
        ),
        ("a cursor that is an object", cursor(json!({"a": 1})), BAD),
        ("a cursor that is a number", cursor(json!(7)), BAD),
        ("a cursor that is true", cursor(json!(true)), BAD),
        (
            "paging that is a text",
            reply(json!({"additional_data": "none"})),
            BAD,
        ),
    ];
    cases.extend(other_statuses(&json!({"success": true, "data": empty})));
    each_fails("pipedrive", cases).await;
}

#[tokio::test]
async fn clio_sends_data_without_an_error() {
    let empty = |more: Value| Reply::json(json!({"data": [], "meta": more}));
    let mut cases = vec![
        (
            "an error",
            Reply::json(json!({"error": {"type": "X", "message": "no"}, "data": []})),
            BAD,
        ),
        (
            "an error as text",
            Reply::json(json!({"error": "no", "data": []})),
            BAD,
        ),
        ("data is null", Reply::json(json!({"data": null})), BAD),
        ("data is an object", Reply::json(json!({"data": {}})), BAD),
        (
            "data are no objects",
            Reply::json(json!({"data": [null, []]})),
            BAD,
        ),
        (
            "a link that is an object",
            empty(json!({"paging": {"next": {"url": "x"}}})),
            BAD,
        ),
        (
            "a link that is a number",
            empty(json!({"paging": {"next": 2}})),
            BAD,
        ),
        (
            "a link that is a list",
            empty(json!({"paging": {"next": ["x"]}})),
            BAD,
        ),
        ("paging that is a text", empty(json!({"paging": "x"})), BAD),
        ("a meta that is a text", empty(json!("x")), BAD),
    ];
    cases.extend(other_statuses(&json!({"data": [], "meta": {}})));
    each_fails("clio", cases).await;
}

#[tokio::test]
async fn the_example_crm_sends_a_list_without_an_error() {
    let page = |next: Value| Reply::json(json!({"contacts": [], "next_page": next}));
    let mut cases = vec![
        (
            "an error",
            Reply::json(json!({"error": "no", "contacts": [], "next_page": null})),
            BAD,
        ),
        (
            "errors",
            Reply::json(json!({"errors": ["no"], "contacts": [], "next_page": null})),
            BAD,
        ),
        ("a page that is a text", page(json!("2")), BAD),
        ("a page that is a fraction", page(json!(1.5)), BAD),
        ("a page that is negative", page(json!(-1)), BAD),
        ("a page that is a list", page(json!([2])), BAD),
        (
            "contacts are no objects",
            Reply::json(json!({"contacts": [1, 2], "next_page": null})),
            BAD,
        ),
        (
            "nothing",
            Reply::bytes("application/json", vec![]).but(204),
            BAD,
        ),
    ];
    cases.extend(other_statuses(&json!({"contacts": [], "next_page": null})));
    each_fails("example", cases).await;
}
