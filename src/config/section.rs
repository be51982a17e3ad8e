//! A reader of settings that goes on after a fault, so that a person mends a file in one round.
//!
//! Each getter takes a key out of its section, from the environment if it is there. What is left
//! over at the end is unknown. What was taken is written down as the effective settings.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

mod lists;
mod values;

/// Environment variables that begin so are settings: `CONTACTD__CACHE__MEMORY` is `cache.memory`.
pub(super) const ENV_PREFIX: &str = "CONTACTD__";

/// Something wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `connectors.clio.base_url`, or empty for the whole file.
    pub(crate) path: String,
    /// What, and what was expected.
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

/// Reads one set of settings.
pub(super) struct Reader {
    root: Table,
    env: BTreeMap<String, String>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    effective: Table,
}

/// One table of the settings, while it is read.
pub(super) struct Section<'a> {
    path: String,
    table: Table,
    /// Every key that was asked for, in this order: what the section can have.
    known: Vec<String>,
    /// Required keys that are absent, each with what is expected.
    missing: Vec<(String, String)>,
    /// Whether this is no table at all: then nothing more is said about it.
    misshapen: bool,
    env: &'a mut BTreeMap<String, String>,
    faults: &'a mut Vec<Fault>,
    warnings: &'a mut Vec<Fault>,
    effective: Table,
}

impl Reader {
    pub(super) fn new(
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Fault>> {
        let root = text.parse::<Table>().map_err(|error| {
            // toml's message shows the line with a caret, which may hold a value but no secret:
            // secrets are in files.
            vec![Fault {
                path: String::new(),
                message: format!("not TOML: {error}"),
            }]
        })?;
        let env = env.into_iter().filter_map(|(name, value)| {
            let path = name
                .strip_prefix(ENV_PREFIX)?
                .to_ascii_lowercase()
                .replace("__", ".");
            Some((path, value))
        });
        Ok(Self {
            root,
            env: env.collect(),
            faults: Vec::new(),
            warnings: Vec::new(),
            effective: Table::new(),
        })
    }

    pub(super) fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let value = self.root.remove(name);
        self.subsection(name.to_owned(), name, value, read).0
    }

    /// Reads a section that may be absent; one variable of it is enough to be there.
    pub(super) fn optional_section<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        let prefix = format!("{name}.");
        let there =
            self.root.contains_key(name) || self.env.keys().any(|path| path.starts_with(&prefix));
        there.then(|| self.section(name, read))
    }

    /// Reads each table below `name`, those that only the environment names included; `None` for
    /// one that could not be read.
    pub(super) fn sections<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str, &mut Section<'_>) -> Option<T>,
    ) -> Vec<(String, Option<T>)> {
        let mut tables = match self.root.remove(name) {
            None => Table::new(),
            Some(Value::Table(tables)) => tables,
            Some(_) => {
                self.fault(name, "must be a section with one table a name");
                Table::new()
            }
        };
        let prefix = format!("{name}.");
        for path in self.env.keys() {
            let named = path
                .strip_prefix(&prefix)
                .and_then(|rest| rest.split_once('.'));
            if let Some((child, _)) = named
                && !tables.keys().any(|name| name.eq_ignore_ascii_case(child))
            {
                tables.insert(child.to_owned(), Value::Table(Table::new()));
            }
        }
        let mut read_tables = Vec::with_capacity(tables.len());
        let mut effective = Table::new();
        for (child, value) in tables {
            let path = format!("{name}.{child}");
            let (read, table) =
                self.subsection(path, "", Some(value), |section| read(&child, section));
            effective.insert(child.clone(), Value::Table(table));
            read_tables.push((child, read));
        }
        self.effective
            .insert(name.to_owned(), Value::Table(effective));
        read_tables
    }

    fn subsection<T>(
        &mut self,
        path: String,
        keep_as: &str,
        value: Option<Value>,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> (T, Table) {
        let section = Section {
            path,
            table: Table::new(),
            known: Vec::new(),
            missing: Vec::new(),
            misshapen: false,
            env: &mut self.env,
            faults: &mut self.faults,
            warnings: &mut self.warnings,
            effective: Table::new(),
        };
        let (read, effective) = section.walk(value, read);
        if !keep_as.is_empty() {
            self.effective
                .insert(keep_as.to_owned(), Value::Table(effective.clone()));
        }
        (read, effective)
    }

    /// Whether something was wrong with what has this path.
    pub(super) fn is_sound(&self, path: &str) -> bool {
        !self.faults.iter().any(|fault| fault.path == path)
    }

    pub(super) fn warn(&mut self, path: &str, message: &str) {
        self.warnings.push(Fault {
            path: path.to_owned(),
            message: message.to_owned(),
        });
    }

    pub(super) fn fault(&mut self, path: &str, message: &str) {
        self.faults.push(Fault {
            path: path.to_owned(),
            message: message.to_owned(),
        });
    }

    /// The effective settings as TOML, and what a person should know about them.
    pub(super) fn finish(mut self) -> Result<(String, Vec<Fault>), Vec<Fault>> {
        for (name, _) in std::mem::take(&mut self.root) {
            self.fault(&name, "unknown section");
        }
        for (path, _) in std::mem::take(&mut self.env) {
            self.fault(
                &path,
                &format!(
                    "unknown setting, from the environment variable {}",
                    variable(&path)
                ),
            );
        }
        if self.faults.is_empty() {
            Ok((self.effective.to_string(), self.warnings))
        } else {
            Err(self.faults)
        }
    }
}

impl Section<'_> {
    /// Reads `value` as this section.
    fn walk<T>(
        mut self,
        value: Option<Value>,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> (T, Table) {
        self.table = self.table_of(value);
        let faults = self.faults.len();
        let read = read(&mut self);
        if self.misshapen {
            // What is missing in it is missing because of that.
            self.faults.truncate(faults);
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

    /// Reads a table at `path`, and what of it takes effect.
    fn below<T>(
        &mut self,
        path: String,
        value: Option<Value>,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> (T, Table) {
        let section = Section {
            path,
            table: Table::new(),
            known: Vec::new(),
            missing: Vec::new(),
            misshapen: false,
            env: self.env,
            faults: self.faults,
            warnings: self.warnings,
            effective: Table::new(),
        };
        section.walk(value, read)
    }

    /// Whether a table within this one is there; one variable of it is enough.
    pub(super) fn has_below(&mut self, key: &str) -> bool {
        self.know(key);
        let prefix = format!("{}.", self.path_of(key).to_ascii_lowercase());
        self.table.contains_key(key) || self.env.keys().any(|path| path.starts_with(&prefix))
    }

    /// Whether a key was there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.effective.contains_key(key)
    }

    /// A text that may be absent. The effective settings show what was read by its `Display`, which
    /// masks secrets; `parse` must not repeat a text that may hold one.
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

    /// As [`Section::optional`], for a key that must be there; `expected` says what it is.
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

    /// A key must be there and is not.
    pub(super) fn missing(&mut self, key: &str, expected: &str) {
        self.missing.push((key.to_owned(), expected.to_owned()));
    }

    pub(super) fn is_given(&mut self, key: &str) -> bool {
        self.know(key);
        self.table.contains_key(key)
            || self
                .env
                .contains_key(&self.path_of(key).to_ascii_lowercase())
    }

    /// Whether nothing was wrong with this key, or with what is below it. A rule about several
    /// settings says nothing where one of them could not be read.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        let path = self.path_of(key);
        let below = |fault: &Fault| {
            fault
                .path
                .strip_prefix(&path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        !self.faults.iter().any(below)
    }

    pub(super) fn fault(&mut self, key: &str, message: &str) {
        let path = self.path_of(key);
        self.faults.push(Fault {
            path,
            message: message.to_owned(),
        });
    }

    /// Something that works, but is worth a second thought.
    pub(super) fn warn(&mut self, key: &str, message: &str) {
        let path = self.path_of(key);
        self.warnings.push(Fault {
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
        // Variables are read in lower case, so that they reach a connector whose name is written in
        // any case.
        let from_env = self
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
                self.faults.push(Fault {
                    path,
                    message: "must be a section".to_owned(),
                });
                self.misshapen = true;
                Table::new()
            }
        }
    }

    /// What was not asked for is unknown. Beside an unknown key a missing one is that key,
    /// misspelt.
    fn close(mut self) -> Table {
        let prefix = format!("{}.", self.path.to_ascii_lowercase());
        let in_env: Vec<String> = self
            .env
            .keys()
            .filter(|path| path.starts_with(&prefix))
            .cloned()
            .collect();
        let in_file = std::mem::take(&mut self.table);
        let mut unknown: Vec<_> = in_file
            .iter()
            .map(|(key, _)| (self.path_of(key), "unknown setting".to_owned()))
            .collect();
        for path in in_env {
            self.env.remove(&path);
            let message = format!(
                "unknown setting, from the environment variable {}",
                variable(&path)
            );
            unknown.push((path, message));
        }
        let missing = std::mem::take(&mut self.missing);
        let is_missing = |known: &String| missing.iter().any(|(key, _)| key == known);
        let shown = |key: &String| {
            if is_missing(key) {
                format!("{key} (required)")
            } else {
                key.clone()
            }
        };
        let has = self.known.iter().map(shown).collect::<Vec<_>>().join(", ");
        if unknown.is_empty() {
            for (key, expected) in &missing {
                self.fault(key, &format!("is required: {expected}"));
            }
        }
        let faults = unknown.into_iter().map(|(path, message)| Fault {
            path,
            message: format!("{message}; this section has: {has}"),
        });
        self.faults.extend(faults);
        self.effective
    }
}

/// The environment variable of a setting.
fn variable(path: &str) -> String {
    format!(
        "{ENV_PREFIX}{}",
        path.replace('.', "__").to_ascii_uppercase()
    )
}
