//! Connector files whose main request needs what an earlier one brought, on one page or on several.

use serde_json::{Value, json};

use crate::commands::{contactd, run, text};
use crate::many_numbers::daemon;
use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, names};
use crate::support::{FakeCrm, Reply, find};

/// A CRM that finds ids by number, and people by ids.
const SPEC: &str = r#"
format = 1
name = "Two steps"
[crm]
base = "https://crm.example.com"
quota = { rate = 1000, per = "1s" }
[[search]]
before = [{ get = "/ids", query = { phone = "{{number.e164}}" }, pages = { cursor = "next", as = "query.after" }, take = { ids = "ids[]" } }]
read_by_post = "/people/search"
body = { ids = "{{ids}}" }
list = "people"
phones = ["phone"]
record = { id = "{{id}}", name = "{{name}}", kind = "person" }
"#;

/// A page of ids: as many as the page has in its number. `last` is the last page.
fn ids(seen: &Seen, last: usize) -> Reply {
    let page: usize = seen.param("after").map_or(1, |page| page.parse().unwrap());
    let next = (page < last).then(|| (page + 1).to_string());
    Reply::json(json!({"ids": [format!("id-{page}")], "next": next}))
}

/// The ids of each main request.
fn asked(crm: &FakeCrm) -> Vec<Value> {
    let seen = crm.seen();
    let main = seen.iter().filter(|seen| seen.path == "/people/search");
    main.map(|seen| seen.body["ids"].clone()).collect()
}

#[tokio::test]
async fn the_main_request_is_made_for_each_page_of_the_one_before() {
    let crm = FakeCrm::start(|seen| {
        if seen.path == "/ids" {
            return ids(seen, 3);
        }
        let is_hers = seen.body["ids"] == json!(["id-3"]);
        let ada = json!({"id": 3, "name": "Ada", "phone": "+16505551234"});
        Reply::json(json!({"people": is_hers.then_some(ada).as_slice()}))
    })
    .await;
    let (daemon, _file) = daemon(&crm, SPEC).await;
    let response = daemon.find(find().number("+16505551234")).await.unwrap();
    assert_eq!(names(&response), ["Ada"]);
    assert!(response.lookup.unwrap().complete);
    assert_eq!(
        asked(&crm),
        [json!(["id-1"]), json!(["id-2"]), json!(["id-3"])]
    );
}

#[tokio::test]
async fn a_list_of_the_request_before_that_is_cut_off_proves_nobody_absent() {
    let crm = FakeCrm::start(|seen| match seen.path.as_str() {
        "/ids" => ids(seen, usize::MAX),
        _ => Reply::json(json!({"people": []})),
    })
    .await;
    let (daemon, _file) = daemon(&crm, SPEC).await;
    for _ in 0..2 {
        let before = crm.seen().len();
        let response = daemon.find(find().number("+16505551234")).await.unwrap();
        assert!(names(&response).is_empty() && !response.lookup.unwrap().complete);
        // As many pages as a list may have, and nothing is stored.
        let calls = crm.seen().len() - before;
        assert_eq!(calls, 2 * 5, "{calls}");
    }
    // Whoever has no id is absent.
    crm.becomes(|_| Reply::json(json!({"ids": [], "next": null})));
    let response = daemon.find(find().number("+16505551234")).await.unwrap();
    assert!(names(&response).is_empty() && response.lookup.unwrap().complete);
}

#[tokio::test]
async fn pages_are_possible_in_the_last_request_before_another_only() {
    let first = "{ get = \"/a\", pages = { link = \"next\" }, take = { a = \"a\" } }, ";
    let spec = SPEC.replace("before = [{", &format!("before = [{first}{{"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("two-steps.toml");
    std::fs::write(&path, spec).unwrap();
    let output = run(contactd(&["connector", "check", path.to_str().unwrap()])).await;
    let shown = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(
        shown.contains("is only possible in the last entry of \"before\""),
        "{shown}"
    );
}
