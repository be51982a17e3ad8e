//! Connector files whose CRM answers for many numbers in one call.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use contactd::clock::Stopwatch;
use contactd::domain::json::to_struct;
use contactd::pb::v1::{FindContactRequest, PrefetchContactsRequest, PrefetchOutcome};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::deploy::repo;
use crate::prefetch::{Told, batch, run};
use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, names};
use crate::support::{FakeCrm, Reply, TestDaemon, find};

/// A CRM that compares complete numbers and takes 40 of them.
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
pub(crate) async fn daemon(crm: &FakeCrm, spec: &str) -> (TestDaemon, NamedTempFile) {
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

/// A recorded reply: the path that it answers, its status and its body.
struct Recorded {
    path: String,
    status: u16,
    body: String,
}

/// What a CRM replies if nobody has the number, as recorded.
fn recorded_for_nobody(kind: &str) -> Vec<Recorded> {
    let folder = repo(&format!("tests/data/connectors/{kind}/none"));
    let files = std::fs::read_dir(folder).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "http"))
        .map(|path| recorded(&std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn recorded(text: &str) -> Recorded {
    let (request, reply) = text.split_once("\nHTTP ").unwrap();
    let target = request.split_whitespace().nth(1).unwrap();
    let (status, rest) = reply.split_once('\n').unwrap();
    let body = rest.split_once("\n\n").map_or("", |(_, body)| body);
    Recorded {
        path: target.split('?').next().unwrap().to_owned(),
        status: status.trim().split(' ').next().unwrap().parse().unwrap(),
        body: body.to_owned(),
    }
}

fn nobody(replies: &[Recorded], seen: &Seen) -> Reply {
    let is_it =
        |reply: &&Recorded| reply.path.ends_with(&seen.path) || seen.path.ends_with(&reply.path);
    let reply = match replies.iter().find(is_it) {
        Some(reply) => Reply::text("application/json", reply.body.clone()).but(reply.status),
        None => Reply::status(404),
    };
    reply.after(Duration::from_millis(20))
}

/// Who asks, as the recorded case says.
pub(crate) fn asker(kind: &str) -> FindContactRequest {
    let path = repo(&format!("tests/data/connectors/{kind}/none/expect.toml"));
    let expect: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let text = |key: &str| {
        expect
            .get(key)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
    };
    let mut request = find().platform(kind).region("US");
    let user = request.user.as_mut().unwrap();
    user.hostname = text("hostname").to_owned();
    let structure = |key: &str| {
        let value = serde_json::to_value(expect.get(key)?).unwrap();
        Some(to_struct(value.as_object()?))
    };
    user.settings = structure("settings");
    user.platform_additional_info = structure("info");
    request
}

/// Calls and milliseconds of a prefetch of 250 numbers, and of 250 look-ups in parallel.
async fn measured(kind: &str) -> [(usize, u128); 2] {
    let replies = recorded_for_nobody(kind);
    let crm = FakeCrm::start(move |seen| nobody(&replies, seen)).await;
    let mut results = Vec::new();
    for together in [true, false] {
        let before = crm.seen().len();
        let daemon = TestDaemon::start(&unlimited(kind, &crm.url())).await;
        let stopwatch = Stopwatch::start();
        if together {
            let asker = asker(kind);
            let request = PrefetchContactsRequest {
                user: asker.user,
                auth_header: asker.auth_header,
                phone_numbers: numbers(250),
                overriding_formats: Vec::new(),
            };
            assert_eq!(outcomes(&run(&daemon, request).await), (0, 250), "{kind}");
        } else {
            let numbers = numbers(250);
            let look_ups = numbers
                .iter()
                .map(|number| daemon.find(asker(kind).number(number)));
            for response in stream::iter(look_ups)
                .buffered(32)
                .collect::<Vec<_>>()
                .await
            {
                assert!(names(&response.unwrap()).is_empty(), "{kind}");
            }
        }
        results.push((crm.seen().len() - before, stopwatch.elapsed().as_millis()));
    }
    [results[0], results[1]]
}

/// The settings for a CRM that takes any number of calls.
pub(crate) fn unlimited(kind: &str, url: &str) -> String {
    let limit = "rate = 10000, per = \"1s\"";
    format!(
        "[connectors.{kind}]\nkind = \"{kind}\"\nbase_url = \"{url}\"\nregion = \"US\"\n\
         [connectors.{kind}.quota]\n{}\nburst = 10000\nprefetch_share = 1.0\nconcurrent = 1000\n\
         per_day = 1000000\nsearch = {{ {limit} }}\nother = {{ {limit} }}\n",
        limit.replace(", ", "\n")
    )
}

#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
async fn every_crm_that_can_is_asked_for_250_numbers_in_a_fraction_of_the_calls() {
    println!("250 numbers, 20 ms a call       one prefetch         in parallel");
    let mut count = 0;
    for kind in contactd::connector::kinds().filter(|kind| *kind != "example") {
        let file =
            std::fs::read_to_string(repo(&format!("deploy/connectors/{kind}.toml"))).unwrap();
        if !file.contains("\nbatch = ") {
            continue;
        }
        count += 1;
        let [together, alone] = measured(kind).await;
        println!(
            "{kind:<20} {:>6} calls {:>6} ms {:>6} calls {:>6} ms",
            together.0, together.1, alone.0, alone.1
        );
        assert!(together.0 * 2 < alone.0, "{kind}: {together:?} {alone:?}");
    }
    assert!(count >= 10, "{count}");
}

/// Knows every number that Salesforce or Zoho is asked for; nobody has deals or cases.
fn everybody(seen: &Seen) -> Reply {
    let query = seen.param("q").or(seen.body["select_query"].as_str());
    let query = query.unwrap_or_default();
    let words = query.split(|c: char| !c.is_ascii_digit());
    let numbers: BTreeSet<&str> = words.filter(|word| word.len() == 10).collect();
    let is_first = query.contains("Contact(") || query.contains("(Phone in");
    let numbers = numbers.into_iter().filter(|_| is_first);
    if seen.path.ends_with("/coql") {
        let is_contact = query.contains("from Contacts");
        let person = |phone| json!({"id": phone, "Full_Name": "Ada", "Phone": phone});
        let people: Vec<Value> = numbers.filter(|_| is_contact).map(person).collect();
        return match people.as_slice() {
            [] => Reply::status(204),
            people => Reply::json(json!({"data": people, "info": {"more_records": false}})),
        };
    }
    let person = |phone| json!({"attributes": {"type": "Contact"}, "Id": phone, "Name": "Ada", "Phone": phone});
    let people: Vec<Value> = numbers.map(person).collect();
    match seen.path.rsplit('/').next() {
        Some("search") => Reply::json(json!({"searchRecords": people})),
        Some("query") => Reply::json(json!({"totalSize": 0, "done": true, "records": []})),
        _ => Reply::status(404),
    }
}

#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
async fn a_batch_loads_the_details_of_many_contacts_at_once() {
    println!("details of 250 known numbers");
    for (kind, parts) in [("salesforce", 2), ("zoho", 1)] {
        let crm = FakeCrm::start(|seen| everybody(seen).after(Duration::from_millis(20))).await;
        let daemon = TestDaemon::start(&unlimited(kind, &crm.url())).await;
        let asker = asker(kind);
        let request = PrefetchContactsRequest {
            user: asker.user.clone(),
            auth_header: asker.auth_header.clone(),
            phone_numbers: numbers(250),
            overriding_formats: Vec::new(),
        };
        assert_eq!(outcomes(&run(&daemon, request).await), (250, 0), "{kind}");
        let all = crm.seen();
        let is_details = |seen: &&Seen| {
            let text = seen.body["select_query"].as_str().unwrap_or_default();
            seen.path.ends_with("/query") || text.contains("from Deals")
        };
        let details = all.iter().filter(is_details).count();
        println!(
            "{kind:<20} {details:>6} calls, {} without groups",
            250 * parts
        );
        assert!(details * 10 < 250 * parts, "{kind}: {details}");
        // Every answer is stored with its details.
        let one = asker.number("+16502000004");
        assert!(daemon.find(one).await.unwrap().lookup.unwrap().complete);
        assert_eq!(crm.seen().len(), all.len(), "{kind}");
    }
}

/// As [`SPEC`], with details that one call serves for many people.
const WITH_DEALS: &str = r#"
[[details]]
name = "deals"
read_by_post = "/deals/search"
body = { people = "{{records.id}}" }
list = "deals"
of = "owner"
choice = { const = "{{id}}", title = "{{title}}" }
"#;

#[tokio::test]
async fn details_that_a_group_cannot_have_are_loaded_for_each_number() {
    let crm = FakeCrm::start(|seen| match seen.path.as_str() {
        "/deals/search" => {
            let people = seen.body["people"].as_array().unwrap();
            if people.len() > 2 {
                return Reply::status(400);
            }
            let deal = |owner: &Value| json!({"id": 1, "title": "Deal", "owner": owner});
            Reply::json(json!({"deals": people.iter().map(deal).collect::<Vec<_>>()}))
        }
        _ => even(seen),
    })
    .await;
    let (daemon, _file) = daemon(&crm, &format!("{SPEC}{WITH_DEALS}")).await;
    assert_eq!(outcomes(&run(&daemon, batch(numbers(20))).await), (10, 10));
    let asked = crm.seen().len();
    for number in ["+16502000004", "+16502000012"] {
        let response = daemon.find(find().number(number)).await.unwrap();
        let info = response.matched_contact_info[0]
            .additional_info
            .clone()
            .unwrap();
        assert!(info.fields.contains_key("deals"), "{number}");
        assert!(response.lookup.unwrap().complete, "{number}");
    }
    assert_eq!(crm.seen().len(), asked, "all is stored");
}
