//! `deploy/SETTINGS.md` is what `contactd settings` prints, in which no key is missing and none is
//! invented.

use std::collections::BTreeSet;
use std::process::Command;

use super::read;
use crate::deploy::{succeed, text};

const CONNECTOR: &str = "[connectors.pipedrive]\nkind = \"pipedrive\"\n";

/// Every section that has keys of its own, and what has to be there for it to be read.
const SECTIONS: &[(&str, &str)] = &[
    ("grpc", CONNECTOR),
    ("ops", CONNECTOR),
    ("log", CONNECTOR),
    ("cache", CONNECTOR),
    ("cache.found", CONNECTOR),
    ("cache.absent", CONNECTOR),
    ("redis", CONNECTOR),
    ("tracing", CONNECTOR),
    ("lookup", CONNECTOR),
    ("connectors.NAME", "kind = \"file\"\n"),
];

/// Keys that the table explains as one: the fields of what is written as one value.
const WHOLE: &[&str] = &[
    "grpc.tls",
    "grpc.tokens",
    "connectors.NAME.quota",
    "connectors.NAME.secrets.KEY",
];

/// The keys of the table.
pub(super) fn rows() -> BTreeSet<String> {
    let page = text("deploy/SETTINGS.md");
    let mut rows = BTreeSet::new();
    for line in page.lines().filter(|line| line.matches(" | ").count() == 2) {
        let key = line.strip_prefix("| `").and_then(|row| row.split_once('`'));
        let Some((key, _)) = key else { continue };
        if key.contains('.') {
            assert!(rows.insert(key.to_owned()), "{key} is there twice");
        }
    }
    rows
}

/// What a section can have, as the code says itself when it meets a key that it does not know.
fn keys_of(section: &str, beside: &str) -> Vec<String> {
    let named = section.replace("NAME", "pipedrive");
    let faults = read(&format!("[{named}]\nnonsense = 1\n{beside}"), &[]).unwrap_err();
    let (_, has) = faults
        .iter()
        .find_map(|fault| fault.split_once("this section has: "))
        .expect("a list of keys");
    has.split(", ")
        .map(|key| format!("{section}.{}", key.trim_end_matches(" (required)")))
        .collect()
}

#[test]
fn the_page_of_settings_has_every_key_of_the_code_and_no_other() {
    let rows = rows();
    let is_section = |key: &str| SECTIONS.iter().any(|(section, _)| *section == key);
    let known: Vec<String> = SECTIONS
        .iter()
        .flat_map(|(section, beside)| keys_of(section, beside))
        .collect();
    for key in known.iter().filter(|key| !is_section(key)) {
        assert!(
            rows.contains(key),
            "deploy/SETTINGS.md has no row for {key}"
        );
    }
    for key in &rows {
        let below = key
            .rsplit_once('.')
            .is_some_and(|(above, _)| WHOLE.contains(&above));
        assert!(
            known.contains(key) || below,
            "deploy/SETTINGS.md has a row for {key}, which is no setting"
        );
    }
    assert!(known.len() > 40, "{known:?}");
}

#[test]
fn the_page_of_settings_is_what_the_command_prints() {
    let printed = succeed(Command::new(env!("CARGO_BIN_EXE_contactd")).arg("settings"));
    assert!(
        printed == text("deploy/SETTINGS.md"),
        "write it anew: cargo run -- settings > deploy/SETTINGS.md"
    );
    let open = printed.lines().find(|line| line.contains("{cache."));
    assert_eq!(open, None, "a default of that name does not exist");
}
