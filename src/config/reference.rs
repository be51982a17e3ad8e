//! The reference of the settings: `deploy/SETTINGS.md`, as `contactd settings` prints it.
//!
//! Contains the meaning of each key (`reference/keys.rs`) and the chapters around the table
//! (`reference/page.template`). The page is made from settings that were read, so every default on
//! it is the effective one.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::read;
use crate::connector::{SpecKind, embedded, kinds, secret_names};
use keys::{SETTINGS, Setting};

mod keys;

const PAGE: &str = include_str!("reference/page.template");

/// The page, as Markdown.
pub(crate) fn page() -> String {
    let effective = defaults();
    let mut values = BTreeMap::new();
    flatten("", &effective, &mut values);
    let keys: Vec<String> = SETTINGS
        .iter()
        .map(|setting| row(setting, &values))
        .collect();
    let kinds: Vec<String> = kinds()
        .map(|kind| kind_row(kind, &effective["connectors"][kind]))
        .collect();
    let page = PAGE
        .replace("{keys}", &keys.join("\n"))
        .replace("{kinds}", &kinds.join("\n"));
    values.iter().fold(page, |page, (key, value)| {
        page.replace(&format!("{{{key}}}"), &code(value))
    })
}

/// The effective settings if only what is required is set, with a connector of each kind.
#[expect(
    clippy::expect_used,
    reason = "a text of this program, read by a test of this module"
)]
fn defaults() -> Table {
    let mut sample = "redis.url = \"redis://127.0.0.1\"\n\
                      tracing.otlp_endpoint = \"http://127.0.0.1:4317\"\n"
        .to_owned();
    sample.extend(kinds().map(sample_of));
    let read = read(&sample, []).expect("the sample is sound");
    read.toml.parse().expect("what takes effect is TOML")
}

/// A connector with all that its kind requires.
fn sample_of(kind: &str) -> String {
    let mut sample =
        format!("[connectors.{kind}]\nkind = \"{kind}\"\nbase_url = \"https://crm.example\"\n");
    // Every machine has this variable; its value is not shown.
    for name in secret_names(SpecKind::File, embedded(kind).unwrap_or_default()) {
        sample += &format!("secrets.{name} = {{ env = \"PATH\" }}\n");
    }
    sample
}

/// Each value with its path. Connectors of one kind appear under `NAME`.
fn flatten<'a>(path: &str, table: &'a Table, into: &mut BTreeMap<String, &'a Value>) {
    for (key, value) in table {
        let key = if path == "connectors" { "NAME" } else { key };
        let path = if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        };
        match value {
            Value::Table(table) => flatten(&path, table, into),
            value => drop(into.insert(path, value)),
        }
    }
}

fn row(setting: &Setting, values: &BTreeMap<String, &Value>) -> String {
    let Setting {
        key,
        default,
        meaning,
    } = setting;
    let default = match values.get(*key) {
        Some(value) if default.is_empty() => code(value),
        _ => (*default).to_owned(),
    };
    format!("| `{key}` | {default} | {meaning} |")
}

fn kind_row(kind: &str, connector: &Value) -> String {
    let [hosts, quota] = ["allowed_hosts", "quota"].map(|key| code(&connector[key]));
    format!("| `{kind}` | {hosts} | {quota} |")
}

/// A value in a line of Markdown: a text without its quotes.
fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        value => format!("`{value}`"),
    }
}
