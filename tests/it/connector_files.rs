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

/// What each CRM needs at least. Some have no such reply: the reason stands beside.
#[test]
fn every_crm_has_the_cases_that_can_go_wrong() {
    for name in TESTED {
        let cases = names(&format!("{RECORDINGS}/{name}"), "");
        for case in [
            "one",
            "many",
            "none",
            "unauthenticated",
            "rate_limited",
            "malformed",
        ] {
            assert!(cases.contains(case), "{name} has no case {case}");
        }
    }
}
