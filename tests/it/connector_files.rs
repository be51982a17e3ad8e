//! Each connector file against recordings of its CRM: one contact, many, nobody, pages, wrong
//! numbers, refusals, limits, malformed replies, many numbers at once.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::commands::{contactd, run, text};

const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/connectors");
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/connectors");

async fn recordings_are_answered_as_expected(name: &str) {
    let directory = format!("{RECORDINGS}/{name}");
    let output = run(contactd(&[
        "connector",
        "test",
        &directory,
        "--output",
        "json",
    ]))
    .await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let failed: Vec<String> = report["cases"]
        .as_array()
        .unwrap_or_else(|| panic!("{}", text(&output.stderr)))
        .iter()
        .filter(|case| case["outcome"] != "passed")
        .map(|case| format!("{case:#}"))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Each phone field of the file stands in a recording, so that its path is not misspelt.
    assert_eq!(report["warnings"], serde_json::json!([]));
    assert!(report["passed"].as_u64().unwrap() > 0);
    assert_eq!(output.status.code(), Some(0));
}

/// A test for each CRM, and the list of them.
macro_rules! recorded {
    ($($test:ident $name:literal,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                recordings_are_answered_as_expected($name).await;
            }
        )*

        const TESTED: &[&str] = &[$($name),*];
    };
}

recorded! {
    activecampaign_answers_as_recorded "activecampaign",
    attio_answers_as_recorded "attio",
    bullhorn_answers_as_recorded "bullhorn",
    clio_answers_as_recorded "clio",
    close_answers_as_recorded "close",
    copper_answers_as_recorded "copper",
    dynamics_answers_as_recorded "dynamics",
    freshdesk_answers_as_recorded "freshdesk",
    gohighlevel_answers_as_recorded "gohighlevel",
    google_sheets_answers_as_recorded "googlesheets",
    hubspot_answers_as_recorded "hubspot",
    insightly_answers_as_recorded "insightly",
    intercom_answers_as_recorded "intercom",
    keap_answers_as_recorded "keap",
    netsuite_answers_as_recorded "netsuite",
    odoo_answers_as_recorded "odoo",
    pipedrive_answers_as_recorded "pipedrive",
    redtail_answers_as_recorded "redtail",
    salesforce_answers_as_recorded "salesforce",
    servicenow_answers_as_recorded "servicenow",
    suitecrm_answers_as_recorded "suitecrm",
    vinsolutions_answers_as_recorded "vinsolutions",
    zendesk_answers_as_recorded "zendesk",
    zoho_answers_as_recorded "zoho",
}

fn names(directory: &str, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
        .collect()
}

#[test]
fn every_connector_file_has_recordings_and_every_recording_is_tested() {
    let tested: BTreeSet<String> = TESTED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names(FILES, ".toml"), tested);
    assert_eq!(names(RECORDINGS, ""), tested);
}

/// Kinds of cases that a CRM cannot have, and why.
const IMPOSSIBLE: [(&str, &str, &str); 3] = [
    ("googlesheets", "paged", "one reply has the whole sheet"),
    (
        "googlesheets",
        "partial",
        "one reply has the whole sheet, and there are no details",
    ),
    (
        "zoho",
        "paged",
        "a query has at most 200 records; a reply that announces more is partial",
    ),
];

/// What is expected of a case.
fn expected(name: &str, case: &str) -> toml::Table {
    let path = format!("{RECORDINGS}/{name}/{case}/expect.toml");
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The look-ups of a case.
fn look_ups(expected: &toml::Table) -> Vec<toml::Table> {
    let look_ups = expected.get("look_up").and_then(toml::Value::as_array);
    let look_ups = look_ups.into_iter().flatten();
    look_ups.filter_map(|it| it.as_table().cloned()).collect()
}

fn contacts(look_up: &toml::Table) -> Option<usize> {
    Some(look_up.get("contacts")?.as_array()?.len())
}

fn is_complete(look_up: &toml::Table) -> bool {
    look_up.get("complete").and_then(toml::Value::as_bool) != Some(false)
}

/// Whether two recordings answer the same path.
fn has_two_equal_paths(name: &str, case: &str) -> bool {
    let entries = fs::read_dir(format!("{RECORDINGS}/{name}/{case}")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let recordings = paths.filter(|path| path.extension().is_some_and(|end| end == "http"));
    let mut targets = BTreeSet::new();
    recordings
        .map(|path| fs::read_to_string(path).unwrap())
        .filter_map(|text| Some(text.lines().next()?.split('?').next()?.to_owned()))
        .any(|target| !targets.insert(target))
}

/// Whether a case shows what its name says.
fn shows(name: &str, case: &str) -> bool {
    let expected = expected(name, case);
    let look_ups = look_ups(&expected);
    let any = |is_it: &dyn Fn(&toml::Table) -> bool| look_ups.iter().any(is_it);
    let fails = |errors: &[&str]| {
        let error = |it: &toml::Table| {
            it.get("error")
                .and_then(toml::Value::as_str)
                .map(str::to_owned)
        };
        any(&|it| error(it).is_some_and(|error| errors.contains(&error.as_str())))
    };
    match case {
        "one" => any(&|it| contacts(it) == Some(1) && is_complete(it)),
        "many" => any(&|it| contacts(it) > Some(1) && is_complete(it)),
        "none" => any(&|it| contacts(it) == Some(0) && is_complete(it)),
        "paged" => any(&|it| contacts(it) > Some(0)) && has_two_equal_paths(name, case),
        "partial" => any(&|it| !is_complete(it)),
        "wrong_number" => any(&|it| contacts(it).is_some()),
        // ActiveCampaign refuses an unknown key by 403.
        "unauthenticated" => fails(&["crm_unauthenticated", "crm_forbidden"]),
        "rate_limited" => fails(&["crm_rate_limited"]),
        "malformed" => fails(&["crm_bad_reply"]),
        "batch" => {
            let batch = &expected["batch"].as_array().unwrap()[0];
            let ids = batch["ids"].as_array().unwrap();
            let count = |ids: &toml::Value| ids.as_array().map_or(0, Vec::len);
            let is_mapped = ids.iter().filter(|ids| count(ids) > 0).count() > 1;
            is_mapped && ids.iter().any(|ids| count(ids) == 0)
        }
        _ => false,
    }
}

/// Each kind of reply, for each CRM.
#[test]
fn every_crm_has_a_case_of_each_kind_or_a_reason() {
    let mut missing = Vec::new();
    for name in TESTED {
        let cases = names(&format!("{RECORDINGS}/{name}"), "");
        let file = fs::read_to_string(format!("{FILES}/{name}.toml")).unwrap();
        let batch = file.contains("\nbatch = ").then_some("batch");
        let kinds = [
            "one",
            "many",
            "none",
            "paged",
            "partial",
            "wrong_number",
            "unauthenticated",
            "rate_limited",
            "malformed",
        ];
        for kind in kinds.into_iter().chain(batch) {
            let is_impossible = IMPOSSIBLE
                .iter()
                .any(|(crm, case, _)| (crm, case) == (name, &kind));
            if is_impossible == cases.contains(kind) {
                missing.push(format!("{name}: {kind}"));
            } else if !is_impossible && !shows(name, kind) {
                missing.push(format!("{name}: {kind} does not show it"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
