//! `contactd connector` as a stranger uses it who connects a CRM with a file.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::commands::{contactd, run, text};
use crate::support::crm::example;
use crate::support::{FakeCrm, Reply};

mod messages;

const MY_CRM: &str = r#"
format = 1
name = "My CRM"
spellings = ["e164", "national"]

[about]
searches = "People by their phone numbers."

[crm]
base = "https://crm.example.com"
quota = { rate = 50, per = "1s" }

[[search]]
get = "/api/v1/contacts"
query = { phone = "{{text}}", page = 1 }
list = "contacts"
pages = { cursor = "next_page", number = true, as = "query.page" }
phones = ["phones[].number"]
record = { id = "{{id}}", kind = "{{kind}}", name = "{{name}}" }

[[details]]
name = "team"
get = "/api/v1/teams/{{setting.team}}"
per = "answer"
list = "teams"
choice = { const = "{{id}}", title = "{{title}}" }
"#;

/// A directory with the file of a stranger.
fn stranger(file: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("my-crm.toml");
    fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

async fn connector(args: &[&str]) -> Output {
    let args: Vec<&str> = ["connector"].iter().chain(args).copied().collect();
    run(contactd(&args)).await
}

/// A success that shows all these parts, and no credential.
fn assert_shows(output: &Output, parts: &[&str]) {
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for part in parts {
        assert!(shown.contains(part), "{part}\n---\n{shown}");
    }
    assert!(!shown.contains("token-1"), "{shown}");
}

async fn json_of(args: &[&str]) -> (Option<i32>, Value) {
    let args: Vec<&str> = args.iter().chain(&["--output", "json"]).copied().collect();
    let output = connector(&args).await;
    let value = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    (output.status.code(), value)
}

#[tokio::test]
async fn list_shows_every_built_in_connector_with_its_costs() {
    let (code, list) = json_of(&["list"]).await;
    assert_eq!(code, Some(0));
    let list = list.as_array().unwrap();
    let names: Vec<&str> = list
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    for name in ["example", "clio", "hubspot", "salesforce", "zoho"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    for entry in list {
        let calls = (&entry["calls"]["least"], &entry["calls"]["most"]);
        assert!(
            calls.0.as_u64() >= Some(1) && calls.1.as_u64() >= calls.0.as_u64(),
            "{entry}"
        );
        let is_tried = entry["kind"] == "example";
        assert_eq!(entry["tried_with_the_crm"], is_tried, "{entry}");
        assert!(!entry["quota"].as_array().unwrap().is_empty(), "{entry}");
    }
    let human = text(&connector(&["list"]).await.stdout);
    assert!(human.contains("clio  (Clio Manage)"), "{human}");
    assert!(human.contains("not with a live account"), "{human}");
}

#[tokio::test]
async fn check_shows_every_fault_with_its_place_and_exits_with_2() {
    let faulty = MY_CRM
        .replace("phones = [", "phone = [")
        .replace("{{text}}", "{{txt}}")
        .replace("rate = 50", "rat = 50");
    let (_directory, path) = stranger(&faulty);
    let output = connector(&["check", &path]).await;
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    for part in [
        "line 18, column 1: search[0].phone: is not a key of this table",
        "18 | phone = [\"phones[].number\"]\n   | ^^^^^",
        "{{txt}} names nothing that exists here",
        "crm.quota.rat: is not a key",
        "faults",
    ] {
        assert!(words.contains(part), "{part}\n---\n{words}");
    }
    let (code, reports) = json_of(&["check", &path]).await;
    assert_eq!(code, Some(2));
    let faults = reports[0]["faults"].as_array().unwrap();
    let is_phone = |fault: &&Value| fault["key"] == "search[0].phone";
    let fault = faults.iter().find(is_phone).unwrap();
    let place = (fault["line"].as_u64(), fault["column"].as_u64());
    assert_eq!(place, (Some(18), Some(1)));
}

#[tokio::test]
async fn check_shows_what_a_sound_file_costs_and_reads() {
    let (_directory, path) = stranger(MY_CRM);
    let (code, reports) = json_of(&["check", &path]).await;
    assert_eq!(code, Some(0));
    let sheet = &reports[0]["sheet"];
    // Two spellings, each on up to five pages, and the team once.
    assert_eq!(sheet["calls"], json!({"least": 2, "most": 10 + 1}));
    assert_eq!(
        sheet["search_calls_of_250_numbers"],
        json!({"least": 250, "most": 500})
    );
    assert_eq!(sheet["hosts"], json!(["crm.example.com"]));
    assert_eq!(sheet["settings"], json!(["team"]));
    let human = text(&connector(&["check", &path]).await.stdout);
    assert!(human.contains("settings: team"), "{human}");
}

#[tokio::test]
async fn a_dry_try_shows_each_request_and_sends_nothing() {
    let (_directory, path) = stranger(MY_CRM);
    let output = connector(&["try", &path, "+16505551234"]).await;
    assert_shows(
        &output,
        &[
            "1. GET https://crm.example.com/api/v1/contacts",
            "? phone = +16505551234",
            "2. GET https://crm.example.com/api/v1/contacts",
            "? phone = 6505551234",
            "authorization: [REDACTED]",
            "would be sent",
        ],
    );
    let words = text(&output.stderr);
    assert!(
        words.contains("details team: GET /api/v1/teams/{{setting.team}}"),
        "{words}"
    );
}

/// A contact of the Example CRM with several phones.
fn person(id: u32, name: &str, phones: &[&str]) -> Value {
    let phones: Vec<Value> = phones
        .iter()
        .map(|phone| json!({"number": phone}))
        .collect();
    json!({"id": id, "kind": "person", "name": name, "phones": phones})
}

async fn crm() -> FakeCrm {
    FakeCrm::start(|seen| match seen.path.as_str() {
        "/api/v1/teams/7" => Reply::json(json!({"teams": [{"id": 1, "title": "Sales"}]})),
        "/api/v1/teams/0" => Reply::status(503),
        _ if seen.param("phone") == Some("+16505551234") => {
            let ada = person(17, "Ada Lovelace", &["+44 20 7946 0018", "(650) 555-1234"]);
            example(seen, &[ada, person(18, "Grace Hopper", &["650-555-9999"])])
        }
        _ => example(seen, &[]),
    })
    .await
}

#[tokio::test]
async fn try_says_of_each_record_why_it_was_kept_or_dropped() {
    let (crm, (_directory, path)) = (crm().await, stranger(MY_CRM));
    let url = crm.url();
    let args = [
        "try",
        &path,
        "+16505551234",
        "--send",
        "--base-url",
        &url,
        "--region",
        "US",
    ];
    assert_shows(
        &connector(&args).await,
        &[
            "\"Ada Lovelace\": kept, exact: its phone field 2, \"(650) 555-1234\"",
            "\"Grace Hopper\": dropped: its phone fields are other numbers: \"650-555-9999\"",
            "not sent: GET /api/v1/teams/{{setting.team}}\n     because this is empty: setting.team",
            "1 contact (1 call)",
        ],
    );
    assert_eq!(
        crm.seen()[0].authorization.as_deref(),
        Some("Bearer token-1")
    );
    let more: Vec<&str> = args
        .iter()
        .chain(&["--setting", "team=7"])
        .copied()
        .collect();
    let (_, stories) = json_of(&more).await;
    let team = json!([{"const": 1, "title": "Sales"}]);
    assert_eq!(stories[0]["contacts"][0]["info"]["team"], team);
    assert_eq!(stories[0]["calls"], 2);
}

#[tokio::test]
async fn a_try_without_credential_or_with_a_crm_that_fails_says_so() {
    let (crm, (_directory, path)) = (crm().await, stranger(MY_CRM));
    let url = crm.url();
    let args = [
        "connector",
        "try",
        &path,
        "+16505551234",
        "--send",
        "--base-url",
        &url,
    ];
    let mut command = contactd(&args);
    command.env_remove("CONTACTD_AUTH_HEADER");
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("set CONTACTD_AUTH_HEADER"));
    crm.becomes(|_| Reply::status(401));
    let output = run(contactd(&args)).await;
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("failed after 1 call: the CRM does not accept the credential"),
        "{shown}"
    );
}

const RECORDING: &str = "GET /api/v1/contacts?page=1\n? phone = +16505551234\n\nHTTP 200\n\n\
    {\"contacts\": [{\"id\": 17, \"kind\": \"contact\", \"name\": \"Ada\", \
    \"phones\": [{\"number\": \"6505551234\"}]}], \"next_page\": null}\n";

const EXPECT: &str = "region = \"US\"\n[[look_up]]\nnumber = \"+16505551234\"\ncalls = 1\n\
    contacts = [{ id = \"17\", name = \"Ada\", kind = \"contact\", quality = \"exact\" }]\n";

/// A case of the stranger's connector, beside its file.
fn case(recording: &str, expect: &str) -> (TempDir, String) {
    let (directory, path) = stranger(MY_CRM);
    let case = directory.path().join("my-crm/one");
    fs::create_dir_all(&case).unwrap();
    fs::write(case.join("01-search.http"), recording).unwrap();
    fs::write(case.join("expect.toml"), expect).unwrap();
    let cases = path.trim_end_matches(".toml").to_owned();
    (directory, cases)
}

#[tokio::test]
async fn test_compares_recordings_with_what_is_expected() {
    let (_directory, cases) = case(RECORDING, EXPECT);
    let output = connector(&["test", &cases]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let other = EXPECT
        .replace("\"Ada\"", "\"Grace\"")
        .replace("calls = 1", "calls = 2");
    let (_directory, cases) = case(RECORDING, &other);
    let output = connector(&["test", &cases]).await;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for part in [
        "FAILED  my-crm/one",
        "- calls = 2",
        "+ calls = 1",
        "- contacts[0].name = \"Grace\"",
        "+ contacts[0].name = \"Ada\"",
    ] {
        assert!(shown.contains(part), "{part}\n---\n{shown}");
    }
}

#[tokio::test]
async fn test_shows_a_request_without_recording_beside_the_nearest() {
    let other = RECORDING.replace("page=1", "page=2");
    let (_directory, cases) = case(&other, EXPECT);
    let output = connector(&["test", &cases]).await;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for part in [
        "there is no recording of",
        "01-search.http",
        "- ? page = 2",
        "+ ? page = 1",
    ] {
        assert!(shown.contains(part), "{part}\n---\n{shown}");
    }
}

#[tokio::test]
async fn test_reports_files_that_it_cannot_use() {
    for (recording, expect, part) in [
        (
            "GET /a\n",
            EXPECT,
            "01-search.http: has no line \"HTTP status\"",
        ),
        (RECORDING, "[[look_ups]]\n", "expect.toml"),
        (
            RECORDING,
            "region = \"Nowhere\"\n",
            "\"Nowhere\" is not a region",
        ),
    ] {
        let (_directory, cases) = case(recording, expect);
        let output = connector(&["test", &cases]).await;
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert!(shown.contains("BROKEN") && shown.contains(part), "{shown}");
    }
    let (directory, _) = stranger(MY_CRM);
    let output = connector(&["test", directory.path().to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("has no case"));
    let file = directory.path().join("notes.txt");
    std::fs::write(&file, "").unwrap();
    let output = connector(&["test", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is a file; give the directory of recordings"));
}

#[tokio::test]
async fn a_crm_that_answers_from_recordings_can_be_tried() {
    let (_directory, cases) = case(RECORDING, EXPECT);
    let (file, one) = (format!("{cases}.toml"), format!("{cases}/one"));
    let args = [
        "try",
        &file,
        "+16505551234",
        "--region",
        "US",
        "--replies",
        &one,
    ];
    let output = connector(&args).await;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("GET https://crm.example.com/api/v1/contacts"),
        "{shown}"
    );
    assert!(shown.contains("\"Ada\": kept, exact"), "{shown}");
}

#[tokio::test]
async fn schema_prints_the_published_schema() {
    let output = connector(&["schema"]).await;
    let published = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/connectors/connector.schema.json"
    );
    assert!(
        text(&output.stdout) == fs::read_to_string(published).unwrap(),
        "write it again: contactd connector schema > deploy/connectors/connector.schema.json"
    );
}

/// Replies with personal data in every field that the file reads, and in some that it does not.
async fn personal_crm() -> FakeCrm {
    FakeCrm::start(|seen| match seen.path.as_str() {
        "/api/v1/teams/4711-blue" => {
            Reply::json(json!({"teams": [{"id": 88123, "title": "Jane's buyers", "salary": 9}]}))
        }
        _ => Reply::json(json!({
            "contacts": [
                {"id": 77001, "kind": "person", "name": "Jane Roe", "note": "owes money",
                 "phones": [{"number": "(415) 555-2671"}, {"number": "+44 20 7123 4567"}]},
                {"id": 77002, "kind": "person", "name": "Max Power",
                 "phones": [{"number": "415-555-0000"}]},
            ],
            "next_page": null,
            "owner": "Jane Roe",
        })),
    })
    .await
}

#[tokio::test]
async fn a_recording_holds_no_personal_data_and_passes_its_own_test() {
    let (crm, (directory, path)) = (personal_crm().await, stranger(MY_CRM));
    let (url, case) = (crm.url(), directory.path().join("my-crm/recorded"));
    let case = case.to_str().unwrap();
    let args = [
        "try",
        &path,
        "+14155552671",
        "--send",
        "--base-url",
        &url,
        "--region",
        "US",
        "--setting",
        "team=4711-blue",
        "--record",
        case,
    ];
    let output = connector(&args).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let files = fs::read_dir(case).unwrap();
    let files = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let all: String = files.collect();
    for personal in [
        "Jane",
        "Roe",
        "Max",
        "owes",
        "salary",
        "owner",
        "77001",
        "77002",
        "88123",
        "4711",
        "2671",
        "7123",
        "token-1",
        "authorization",
        "127.0.0.1",
    ] {
        assert!(!all.contains(personal), "{personal}\n---\n{all}");
    }
    assert!(all.contains("\"(202) 555-0100\""), "{all}");
    let cases = path.trim_end_matches(".toml");
    let output = connector(&["test", cases]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[tokio::test]
async fn nothing_is_recorded_where_a_piece_of_the_credential_would_remain() {
    let crm = FakeCrm::start(|_| {
        let token = json!([{"id": 1, "kind": "tokenpiece", "name": "x", "phones": []}]);
        Reply::json(json!({"contacts": token, "next_page": null}))
    })
    .await;
    let (directory, path) = stranger(MY_CRM);
    let (url, case) = (crm.url(), directory.path().join("case"));
    let case_name = case.to_str().unwrap();
    let args = [
        "connector",
        "try",
        &path,
        "+14155552671",
        "--send",
        "--base-url",
        &url,
        "--record",
        case_name,
    ];
    let mut command = contactd(&args);
    command.env("CONTACTD_AUTH_HEADER", "Bearer tokenpiece");
    let output = run(command).await;
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(
        words.contains("a piece of the credential would still be"),
        "{words}"
    );
    assert!(!case.exists());
}
