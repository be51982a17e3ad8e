//! The table of `deploy/SETTINGS.md` beside the code: no key is missing, none is invented, and the
//! defaults are those that take effect.

use std::collections::BTreeMap;

use super::read;
use crate::deploy::text;

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
    ("connectors.NAME", ""),
];

/// Keys that the table explains as one: the fields of what is written as one value.
const WHOLE: &[&str] = &["grpc.tls", "grpc.tokens", "connectors.NAME.quota"];

/// The keys of the table, each with the default beside it, in backquotes or in words.
fn rows() -> BTreeMap<String, String> {
    let page = text("deploy/SETTINGS.md");
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [keys, defaults, _meaning] = cells[..] else {
            panic!("three cells: {line}")
        };
        let (keys, defaults_in_code) = (in_backquotes(keys), in_backquotes(defaults));
        let mut before = String::new();
        for (index, key) in keys.iter().enumerate() {
            let key = match (key.strip_prefix('.'), before.rsplit_once('.')) {
                (Some(last), Some((section, _))) => format!("{section}.{last}"),
                _ => (*key).to_owned(),
            };
            let default = defaults_in_code
                .get(index)
                .map_or(defaults, |default| default.trim_matches('"'));
            assert!(
                rows.insert(key.clone(), default.to_owned()).is_none(),
                "{key} is there twice"
            );
            before = key;
        }
    }
    rows
}

fn in_backquotes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
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
            rows.contains_key(key),
            "deploy/SETTINGS.md has no row for {key}"
        );
    }
    for key in rows.keys() {
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
fn the_page_of_settings_shows_the_defaults_that_take_effect() {
    let file = format!(
        "{CONNECTOR}[redis]\nurl = \"redis://127.0.0.1\"\n[tracing]\notlp_endpoint = \"http://127.0.0.1:4317\"\n"
    );
    let effective: toml::Table = read(&file, &[]).unwrap().toml.parse().unwrap();
    let mut defaults = BTreeMap::new();
    flatten("", &effective, &mut defaults);
    let rows = rows();
    let mut compared = 0;
    for (key, value) in defaults {
        let row = &rows[&key];
        let is_of_this_file =
            ["redis.url", "tracing.otlp_endpoint", "connectors.NAME.kind"].contains(&key.as_str());
        if !is_of_this_file && row != "by kind" && row != "the CRM's documented limit" {
            assert_eq!(row, &value, "the default of {key} in deploy/SETTINGS.md");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared} were compared");
}

fn flatten(path: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let path = path.replace("connectors.pipedrive", "connectors.NAME");
        match value {
            toml::Value::Table(table) if !WHOLE.contains(&path.as_str()) => {
                flatten(&path, table, into)
            }
            toml::Value::String(text) => drop(into.insert(path, text.clone())),
            other => drop(into.insert(path, other.to_string())),
        }
    }
}
