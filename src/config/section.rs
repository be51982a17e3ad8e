//! A settings reader that continues after a fault, so that a person can correct a file in one pass.
//!
//! Each getter takes a key out of its section, or from the environment if it is set there. The keys
//! left over at the end are unknown. The taken ones are recorded as the effective settings.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

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
    /// How it is written, for a person.
    form: &'static str,
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
    contents: Contents,
}

/// Hashes of values that the effective settings do not show: those of files, variables and masked
/// texts. By the setting's path.
pub(super) type Contents = BTreeMap<String, blake3::Hash>;

impl<'a> Section<'a> {
    fn new(path: String, findings: &'a mut Findings) -> Self {
        Self {
            path,
            table: Table::new(),
            known: Vec::new(),
            missing: Vec::new(),
            form: "a section",
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
            // The section is not a table. So its missing keys are no faults of their own.
            self.findings.faults.truncate(faults);
            self.missing.clear();
        }
        (read, self.close())
    }

    /// Reads a table within this one.
    pub(super) fn nested<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        self.nested_as(key, "a section", read)
    }

    /// As [`Section::nested`]. `form` is how the table is written, for a person who wrote something
    /// else.
    pub(super) fn nested_as<T>(
        &mut self,
        key: &str,
        form: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        self.know(key);
        let value = self.table.remove(key);
        let mut section = Section::new(self.path_of(key), self.findings);
        section.form = form;
        let (read, effective) = section.walk(value, read);
        self.show(key, effective);
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
        self.table.contains_key(key) || self.findings.names_below(&self.path_of(key))
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
            self.fault(key, "must be a string");
            return None;
        };
        let parsed = parse(&text);
        let parsed = parsed.map_err(|message| self.fault(key, message)).ok()?;
        self.show(key, parsed.to_string());
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
        let variable = self.path_of(key).to_ascii_lowercase();
        self.table.contains_key(key) || self.findings.env.contains_key(&variable)
    }

    /// Returns whether this key, and everything below it, has no fault. A rule about several
    /// settings is skipped if one of them could not be read.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        let path = self.path_of(key);
        let mut faults = self.findings.faults.iter();
        !faults.any(|fault| fault.is_at_or_below(&path))
    }

    pub(super) fn fault(&mut self, key: &str, message: impl Into<String>) {
        let path = self.path_of(key);
        self.findings.fault(path, message);
    }

    /// Reports something that works, but may not be intended.
    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>) {
        let path = self.path_of(key);
        self.findings.warn(path, message);
    }

    /// Records the hash of a value that the effective settings do not show.
    pub(super) fn record_content(&mut self, key: &str, hash: blake3::Hash) {
        let path = self.path_of(key);
        self.findings.contents.insert(path, hash);
    }

    /// Records what takes effect.
    fn show(&mut self, key: &str, value: impl Into<Value>) {
        self.effective.insert(key.to_owned(), value.into());
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
        let variable = self.path_of(key).to_ascii_lowercase();
        let from_env = self.findings.env.remove(&variable);
        from_env.map(Value::String).or(from_file)
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
                self.findings.fault(path, format!("must be {}", self.form));
                self.misshapen = true;
                Table::new()
            }
        }
    }

    /// Keys that were not requested are unknown. If there is an unknown key, a missing one is
    /// probably that key, misspelt.
    fn close(mut self) -> Table {
        let unknown = self.unknown();
        if unknown.is_empty() {
            self.report_missing();
        } else {
            self.report(unknown);
        }
        self.effective
    }

    fn report_missing(&mut self) {
        for (key, expected) in std::mem::take(&mut self.missing) {
            self.fault(&key, format!("is required: {expected}"));
        }
    }

    /// Reports each unknown key, and lists the keys that the section can have.
    fn report(&mut self, unknown: Vec<Fault>) {
        let has = self.known_keys();
        for Fault { path, message } in unknown {
            let key = path.rsplit('.').next().unwrap_or_default();
            let meant = meant(key, self.known.iter().map(String::as_str));
            let message = format!("{message}{meant}; this section has: {has}");
            self.findings.fault(path, message);
        }
    }

    /// The keys that the section can have, for a person.
    fn known_keys(&self) -> String {
        let known = self.known.iter().map(|key| self.known_key(key));
        known.collect::<Vec<_>>().join(", ")
    }

    fn known_key(&self, key: &str) -> String {
        let mut missing = self.missing.iter();
        if missing.any(|(missing, _)| missing == key) {
            format!("{key} (required)")
        } else {
            key.to_owned()
        }
    }

    /// Keys and variables that nothing requested.
    fn unknown(&mut self) -> Vec<Fault> {
        let keys = std::mem::take(&mut self.table).into_iter();
        let in_file = keys.map(|(key, _)| Fault::new(self.path_of(&key), "unknown setting"));
        let mut unknown: Vec<Fault> = in_file.collect();
        let variables = self.findings.take_below(&self.path);
        unknown.extend(variables.into_iter().map(unknown_variable));
        unknown
    }
}

impl Fault {
    fn is_at_or_below(&self, path: &str) -> bool {
        let rest = self.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    pub(super) fn new(path: String, message: impl Into<String>) -> Self {
        Self {
            path: shortened(path, LONGEST_PATH),
            message: shortened(message.into(), LONGEST_MESSAGE),
        }
    }
}

/// The longest path and the longest message that are reported, in characters. Both may repeat what
/// the file has.
const LONGEST_PATH: usize = 256;
const LONGEST_MESSAGE: usize = 1024;

/// A text with its middle left out, if it is too long. What is expected stands at the end.
fn shortened(text: String, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text;
    }
    let beginning: String = text.chars().take(most / 2).collect();
    let end = text.chars().skip(count - most / 2);
    beginning + "…" + &end.collect::<String>()
}

impl Findings {
    fn fault(&mut self, path: String, message: impl Into<String>) {
        self.faults.push(Fault::new(path, message));
    }

    fn warn(&mut self, path: String, message: impl Into<String>) {
        self.warnings.push(Fault::new(path, message));
    }

    /// Whether a variable is a setting below a path.
    fn names_below(&self, path: &str) -> bool {
        let prefix = format!("{}.", path.to_ascii_lowercase());
        self.env.keys().any(|path| path.starts_with(&prefix))
    }

    /// Takes the variables below a path that nothing has used.
    fn take_below(&mut self, path: &str) -> Vec<String> {
        let prefix = format!("{}.", path.to_ascii_lowercase());
        let below = self.env.keys().filter(|path| path.starts_with(&prefix));
        let below: Vec<String> = below.cloned().collect();
        self.env.retain(|path, _| !path.starts_with(&prefix));
        below
    }
}

/// Settings without an environment variable.
const IN_FILE_ONLY: [&str; 1] = ["grpc.tokens"];

fn unknown_variable(path: String) -> Fault {
    let variable = variable(&path);
    let message = if IN_FILE_ONLY.contains(&path.as_str()) {
        format!("can only be set in a file, not by the environment variable {variable}")
    } else {
        format!("unknown setting, from the environment variable {variable}")
    };
    Fault::new(path, message)
}

fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
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
    let name = path.replace('.', "__").to_ascii_uppercase();
    format!("{ENV_PREFIX}{name}")
}
