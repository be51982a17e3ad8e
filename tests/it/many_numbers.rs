//! Connector files whose CRM answers for many numbers in one call.

use std::io::Write as _;

use contactd::pb::v1::PrefetchOutcome;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::prefetch::{Told, batch, run};
use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, names};
use crate::support::{FakeCrm, Reply, TestDaemon, find};

/// A CRM that compares whole numbers and takes 40 of them.
const SPEC: &str = r#"
format = 1
name = "Many"
[crm]
base = "https://crm.example.com"
quota = { rate = 1000, per = "1s" }
[[search]]
read_by_post = "/search"
body = { numbers = "{{numbers.e164}}" }
exact = true
batch = 40
list = "people"
pages = { cursor = "next", as = "body.after" }
phones = ["phones"]
record = { id = "{{id}}", name = "{{name}}", kind = "person" }
"#;

/// A daemon whose platform "example" is a connector file.
async fn daemon(crm: &FakeCrm, spec: &str) -> (TestDaemon, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(spec.as_bytes()).unwrap();
    let toml = format!(
        "[connectors.example]\nkind = \"file\"\nspec = \"{}\"\nbase_url = \"{}\"\nregion = \"US\"\n",
        file.path().display(),
        crm.url()
    );
    (TestDaemon::start(&toml).await, file)
}

fn numbers(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("+1650{:07}", 2_000_000 + n))
        .collect()
}

/// The numbers of a search.
fn asked(seen: &Seen) -> Vec<String> {
    let numbers = seen.body["numbers"].as_array().unwrap();
    let text = |number: &Value| number.as_str().unwrap().to_owned();
    numbers.iter().map(text).collect()
}

/// Knows the numbers that end in an even digit, and a company that has them all.
fn even(seen: &Seen) -> Reply {
    let numbers = asked(seen);
    let known: Vec<&String> = numbers
        .iter()
        .filter(|number| number.ends_with(['0', '2', '4', '6', '8']))
        .collect();
    let mut people: Vec<Value> = known
        .iter()
        .map(|number| json!({"id": number, "name": format!("Owner of {number}"), "phones": [number]}))
        .collect();
    people.push(json!({"id": "x", "name": "Somebody else", "phones": ["+12125550100"]}));
    if numbers.len() > 1 {
        people.push(json!({"id": "all", "name": "Company", "phones": known}));
    }
    Reply::json(json!({"people": people}))
}

fn outcomes(told: &Told) -> (usize, usize) {
    let count = |outcome: PrefetchOutcome| {
        let results = told.results.iter();
        results.filter(|result| result.outcome() == outcome).count()
    };
    (
        count(PrefetchOutcome::Found),
        count(PrefetchOutcome::NotFound),
    )
}

#[tokio::test]
async fn a_batch_asks_for_many_numbers_at_once_and_each_gets_its_own_answer() {
    let crm = FakeCrm::start(even).await;
    let (daemon, _file) = daemon(&crm, SPEC).await;
    let told = run(&daemon, batch(numbers(250))).await;
    assert_eq!(outcomes(&told), (125, 125));
    let searches = crm.seen();
    // The first number alone shows that the CRM accepts the credential.
    assert!(searches.len() <= 12, "{} calls", searches.len());
    assert!(searches.iter().all(|seen| asked(seen).len() <= 40));
    assert_eq!(told.finished.unwrap().crm_requests as usize, searches.len());
    for (number, expected) in [
        ("+16502000004", vec!["Owner of +16502000004", "Company"]),
        ("+16502000005", vec![]),
    ] {
        let response = daemon.find(find().number(number)).await.unwrap();
        assert_eq!(names(&response), expected, "{number}");
    }
    assert_eq!(crm.seen().len(), searches.len(), "all is stored");
}

#[tokio::test]
async fn a_reply_that_is_cut_off_proves_nobody_absent() {
    let crm = FakeCrm::start(|seen| match asked(seen).len() {
        1 => even(seen),
        // Further pages without an end.
        _ => {
            let after = seen.body["after"].as_str().map_or(0, str::len);
            Reply::json(json!({"people": [], "next": "x".repeat(after + 1)}))
        }
    })
    .await;
    let (daemon, _file) = daemon(&crm, SPEC).await;
    let told = run(&daemon, batch(numbers(20))).await;
    // An exact filter that returns page after page without the numbers was not applied, so each
    // number fails with its group; none is stored as absent.
    assert_eq!(outcomes(&told).1, 0, "{:?}", told.results);
    crm.becomes(even);
    let told = run(&daemon, batch(numbers(20))).await;
    let (found, absent) = outcomes(&told);
    assert_eq!(found + absent, 20 - told.started.already_cached as usize);
}

#[tokio::test]
async fn one_bad_number_does_not_spoil_its_group() {
    let crm = FakeCrm::start(|seen| {
        let is_refused = asked(seen).iter().any(|number| number.ends_with("07"));
        if is_refused {
            Reply::status(400)
        } else {
            even(seen)
        }
    })
    .await;
    let (daemon, _file) = daemon(&crm, SPEC).await;
    let told = run(&daemon, batch(numbers(30))).await;
    assert_eq!(outcomes(&told), (15, 14));
    let failed: Vec<_> = told
        .results
        .iter()
        .filter(|result| result.outcome() == PrefetchOutcome::Failed)
        .map(|result| result.phone_number.as_str())
        .collect();
    assert_eq!(failed, ["+16502000007"]);
}

#[tokio::test]
async fn a_ringing_phone_waits_for_no_group() {
    let crm = FakeCrm::start(even).await;
    let (daemon, _file) = daemon(&crm, SPEC).await;
    let response = daemon.find(find().number("+16502000004")).await.unwrap();
    assert_eq!(names(&response), ["Owner of +16502000004"]);
    assert_eq!(crm.seen().len(), 1);
}

#[tokio::test]
async fn a_crm_that_lists_everybody_is_neither_nobody_nor_a_wrong_name() {
    let everybody = |_: &Seen| {
        let people: Vec<Value> = (0..50)
            .map(|n| json!({"id": n, "name": "Stranger", "phones": [format!("+1212555{n:04}")]}))
            .collect();
        Reply::json(json!({"people": people, "next": "more"}))
    };
    let crm = FakeCrm::start(everybody).await;
    let (daemon, _file) = daemon(&crm, SPEC).await;
    let status = daemon
        .find(find().number("+16502000004"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal, "{status:?}");
    assert_eq!(
        crate::support::daemon::details(&status).reason,
        "CRM_BAD_REPLY"
    );
    // Without `exact` the search may be fuzzy: the answer is incomplete and not stored.
    let (daemon, _file) = self::daemon(&crm, &SPEC.replace("exact = true\n", "")).await;
    for _ in 0..2 {
        let before = crm.seen().len();
        let response = daemon.find(find().number("+16502000004")).await.unwrap();
        assert!(names(&response).is_empty() && !response.lookup.unwrap().complete);
        assert!(crm.seen().len() > before);
    }
}
