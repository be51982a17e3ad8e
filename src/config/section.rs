//! A settings reader that continues after a fault, so that a person can correct a file in one pass.
//!
//! Each getter takes a key out of its section, or from the environment if it is set there. The keys
//! left over at the end are unknown. The taken ones are recorded as the effective settings.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

mod lists;
mod reader;
mod values;

pub(super) use reader::SettingsReader;

/// The prefix of environment variables that are settings: `CONTACTD__CACHE__MEMORY` is
/// `cache.memory`.
pub(super) const ENV_PREFIX: &str = "CONTACTD__";

/// Something wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its path: `connectors.clio.base_url`, or empty for the whole file.
    pub(crate) path: String,
    /// What is wrong, and what was expected.
    pub(crate) message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// One table of the settings, while it is read.
pub(super) struct Section<'a> {
    path: String,
    table: Table,
    /// Every key that was requested, in this order: the keys that the section can have.
    known: Vec<String>,
    /// Required keys that are absent, each with what is expected.
    missing: Vec<(String, String)>,
    /// Whether this is not a table at all: then no other fault is reported.
    misshapen: bool,
    effective: Table,
    findings: &'a mut Findings,
}

/// What all sections share while they are read.
#[derive(Default)]
struct Findings {
    /// Variables that no setting has used yet, by the setting's path.
    env: BTreeMap<String, String>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl<'a> Section<'a> {
    fn new(path: String, findings: &'a mut Findings) -> Self {
        Self {
            path,
            table: Table::new(),
            known: Vec::new(),
            missing: Vec::new(),
            misshapen: false,
            effective: Table::new(),
            findings,
        }
    }
    /// Reads `value` as this section.
    fn walk<T>(
        mut self,
        value: Option<Value>,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> (T, Table) {
        self.table = self.table_of(value);
        let faults = self.findings.faults.len();
        let read = read(&mut self);
        if self.misshapen {
            // Keys are only missing in it because it is missing itself.
            self.findings.faults.truncate(faults);
            self.missing.clear();
        }
        (read, self.close())
    }

    /// Reads a table within this one.
    pub(super) fn nested<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        self.know(key);
        let value = self.table.remove(key);
        let (read, effective) = self.below(self.path_of(key), value, read);
        self.effective
            .insert(key.to_owned(), Value::Table(effective));
        read
    }

    /// Reads a table at `path`, and records its effective settings.
    fn below<T>(
        &mut self,
        path: String,
        value: Option<Value>,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> (T, Table) {
        Section::new(path, self.findings).walk(value, read)
    }

    /// Returns whether a table exists within this one. One of its variables is enough.
    pub(super) fn has_below(&mut self, key: &str) -> bool {
        self.know(key);
        let prefix = format!("{}.", self.path_of(key).to_ascii_lowercase());
        self.table.contains_key(key)
            || self
                .findings
                .env
                .keys()
                .any(|path| path.starts_with(&prefix))
    }

    /// Returns whether a key was set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.effective.contains_key(key)
    }

    /// An optional text. The effective settings contain the `Display` of the parsed value, which
    /// masks secrets. `parse` must not repeat a text that may be secret.
    pub(super) fn optional<T: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Value::String(text) = self.take(key)? else {
            self.fault(key, "must be a text");
            return None;
        };
        let parsed = parse(&text)
            .map_err(|message| self.fault(key, &message))
            .ok()?;
        self.effective
            .insert(key.to_owned(), Value::String(parsed.to_string()));
        Some(parsed)
    }

    /// As [`Section::optional`], for a required key. `expected` describes it.
    pub(super) fn required<T: fmt::Display>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.is_given(key) {
            self.missing(key, expected);
        }
        self.optional(key, parse)
    }

    /// Reports that a required key is missing.
    pub(super) fn missing(&mut self, key: &str, expected: &str) {
        self.missing.push((key.to_owned(), expected.to_owned()));
    }

    pub(super) fn is_given(&mut self, key: &str) -> bool {
        self.know(key);
        self.table.contains_key(key)
            || self
                .findings
                .env
                .contains_key(&self.path_of(key).to_ascii_lowercase())
    }

    /// Returns whether this key, and everything below it, has no fault. A rule about several
    /// settings is skipped if one of them could not be read.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        let path = self.path_of(key);
        let below = |fault: &Fault| {
            fault
                .path
                .strip_prefix(&path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        !self.findings.faults.iter().any(below)
    }

    pub(super) fn fault(&mut self, key: &str, message: &str) {
        let path = self.path_of(key);
        self.findings.faults.push(Fault {
            path,
            message: message.to_owned(),
        });
    }

    /// Reports something that works, but may not be intended.
    pub(super) fn warn(&mut self, key: &str, message: &str) {
        let path = self.path_of(key);
        self.findings.warnings.push(Fault {
            path,
            message: message.to_owned(),
        });
    }

    fn know(&mut self, key: &str) {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.know(key);
        let from_file = self.table.remove(key);
        // Variables are read in lower case, so that they match a connector's name in any case.
        let from_env = self
            .findings
            .env
            .remove(&self.path_of(key).to_ascii_lowercase())
            .map(Value::String);
        from_env.or(from_file)
    }

    fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn table_of(&mut self, value: Option<Value>) -> Table {
        match value {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                let path = self.path.clone();
                self.findings.faults.push(Fault {
                    path,
                    message: "must be a section".to_owned(),
                });
                self.misshapen = true;
                Table::new()
            }
        }
    }

    /// Keys that were not requested are unknown. If there is an unknown key, a missing one is
    /// probably that key, misspelt.
    fn close(mut self) -> Table {
        let unknown = self.unknown();
        let missing = std::mem::take(&mut self.missing);
        if unknown.is_empty() {
            for (key, expected) in &missing {
                self.fault(key, &format!("is required: {expected}"));
            }
        }
        let is_missing = |known: &String| missing.iter().any(|(key, _)| key == known);
        let shown = |key: &String| {
            if is_missing(key) {
                format!("{key} (required)")
            } else {
                key.clone()
            }
        };
        let has = self.known.iter().map(shown).collect::<Vec<_>>().join(", ");
        for (path, message) in unknown {
            let key = path.rsplit('.').next().unwrap_or_default();
            let meant = meant(key, self.known.iter().map(String::as_str));
            let message = format!("{message}{meant}; this section has: {has}");
            self.findings.faults.push(Fault { path, message });
        }
        self.effective
    }

    /// Keys and variables that nothing requested, each with the fault.
    fn unknown(&mut self) -> Vec<(String, String)> {
        let in_file = std::mem::take(&mut self.table);
        let mut unknown: Vec<_> = in_file
            .iter()
            .map(|(key, _)| (self.path_of(key), "unknown setting".to_owned()))
            .collect();
        let prefix = format!("{}.", self.path.to_ascii_lowercase());
        let env = std::mem::take(&mut self.findings.env).into_iter();
        let (below, others) = env.partition(|(path, _)| path.starts_with(&prefix));
        self.findings.env = others;
        let below: BTreeMap<_, _> = below;
        unknown.extend(below.into_keys().map(|path| {
            let variable = variable(&path);
            let message = format!("unknown setting, from the environment variable {variable}");
            (path, message)
        }));
        unknown
    }
}

/// How alike two names must be for one to be a misspelling of the other.
const ALIKE: f64 = 0.8;

/// `; did you mean "base_url"?`, if one of the names is like the unknown one.
fn meant<'a>(unknown: &str, names: impl Iterator<Item = &'a str>) -> String {
    let likeness = |name: &str| strsim::jaro_winkler(&unknown.to_ascii_lowercase(), name);
    let best = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.filter(|name| likeness(name) >= ALIKE)
        .map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

/// The environment variable of a setting.
fn variable(path: &str) -> String {
    format!(
        "{ENV_PREFIX}{}",
        path.replace('.', "__").to_ascii_uppercase()
    )
}
