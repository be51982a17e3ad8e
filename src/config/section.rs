//! A reader of settings that goes on after a fault, so that a person mends a file in one round.
//!
//! Each getter takes a key out of its section, from the environment if it is there. What is left over at the end is
//! unknown. What was taken is written down as the effective settings.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use toml::{Table, Value};

mod lists;

/// Environment variables that begin so are settings: `CONTACTD__CACHE__MEMORY` is `cache.memory`.
pub(super) const ENV_PREFIX: &str = "CONTACTD__";

/// Something wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `connectors.clio.base_url`, or empty for the whole file.
    pub path: String,
    /// What, and what was expected.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
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
    env: &'a mut BTreeMap<String, String>,
    faults: &'a mut Vec<Fault>,
    warnings: &'a mut Vec<Fault>,
    effective: Table,
}

impl Reader {
    pub(super) fn new(text: &str, env: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<Fault>> {
        let root = text.parse::<Table>().map_err(|error| {
            // toml's message shows the line with a caret, which may hold a value but no secret: secrets are in files.
            vec![Fault { path: String::new(), message: format!("not TOML: {error}") }]
        })?;
        let env = env.into_iter().filter_map(|(name, value)| {
            let path = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase().replace("__", ".");
            Some((path, value))
        });
        Ok(Self { root, env: env.collect(), faults: Vec::new(), warnings: Vec::new(), effective: Table::new() })
    }

    pub(super) fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let value = self.root.remove(name);
        self.subsection(name.to_owned(), name, value, read).0
    }

    /// Reads a section that may be absent; one variable of it is enough to be there.
    pub(super) fn optional_section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let prefix = format!("{name}.");
        let there = self.root.contains_key(name) || self.env.keys().any(|path| path.starts_with(&prefix));
        there.then(|| self.section(name, read))
    }

    /// Reads each table below `name`, those that only the environment names included.
    pub(super) fn sections<T>(&mut self, name: &str, read: impl Fn(&str, &mut Section<'_>) -> Option<T>) -> Vec<T> {
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
            let named = path.strip_prefix(&prefix).and_then(|rest| rest.split_once('.'));
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
            let (read, table) = self.subsection(path, "", Some(value), |section| read(&child, section));
            effective.insert(child, Value::Table(table));
            read_tables.extend(read);
        }
        self.effective.insert(name.to_owned(), Value::Table(effective));
        read_tables
    }

    fn subsection<T>(
        &mut self,
        path: String,
        keep_as: &str,
        value: Option<Value>,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> (T, Table) {
        let mut section = Section {
            path,
            table: Table::new(),
            env: &mut self.env,
            faults: &mut self.faults,
            warnings: &mut self.warnings,
            effective: Table::new(),
        };
        section.table = section.table_of(value);
        let read = read(&mut section);
        let effective = section.close();
        if !keep_as.is_empty() {
            self.effective.insert(keep_as.to_owned(), Value::Table(effective.clone()));
        }
        (read, effective)
    }

    pub(super) fn fault(&mut self, path: &str, message: &str) {
        self.faults.push(Fault { path: path.to_owned(), message: message.to_owned() });
    }

    /// The effective settings as TOML, and what a person should know about them.
    pub(super) fn finish(mut self) -> Result<(String, Vec<Fault>), Vec<Fault>> {
        for (name, _) in std::mem::take(&mut self.root) {
            self.fault(&name, "unknown section");
        }
        for (path, _) in std::mem::take(&mut self.env) {
            let variable = format!("{ENV_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase());
            self.fault(&path, &format!("unknown setting, from the environment variable {variable}"));
        }
        if self.faults.is_empty() { Ok((self.effective.to_string(), self.warnings)) } else { Err(self.faults) }
    }
}

impl Section<'_> {
    /// Reads a table within this one.
    pub(super) fn nested<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let value = self.table.remove(key);
        let (read, effective) = self.below(self.path_of(key), value, read);
        self.effective.insert(key.to_owned(), Value::Table(effective));
        read
    }

    /// Reads a table at `path`, and what of it takes effect.
    fn below<T>(&mut self, path: String, value: Option<Value>, read: impl FnOnce(&mut Section<'_>) -> T) -> (T, Table) {
        let mut section = Section {
            path,
            table: Table::new(),
            env: self.env,
            faults: self.faults,
            warnings: self.warnings,
            effective: Table::new(),
        };
        section.table = section.table_of(value);
        let read = read(&mut section);
        (read, section.close())
    }

    /// Reads a table within this one that may be absent; one variable of it is enough to be there.
    pub(super) fn optional_nested<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let prefix = format!("{}.", self.path_of(key).to_ascii_lowercase());
        let there = self.table.contains_key(key) || self.env.keys().any(|path| path.starts_with(&prefix));
        there.then(|| self.nested(key, read))
    }

    /// Whether a key was there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.effective.contains_key(key)
    }

    /// Whether the file or the environment has a value for a key that was not read yet.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.table.contains_key(key) || self.env.contains_key(&self.path_of(key).to_ascii_lowercase())
    }

    /// A whole number within a range that may be absent.
    pub(super) fn optional_count(&mut self, key: &str, range: RangeInclusive<usize>) -> Option<usize> {
        self.is_given(key).then(|| self.count(key, *range.start(), range))
    }

    /// A text that `T` can be parsed from.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, default: &str) -> T {
        self.read(key, default, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }

    /// A duration such as `"250ms"`.
    pub(super) fn duration(&mut self, key: &str, default: &str) -> Duration {
        self.read(key, default, |text| {
            humantime::parse_duration(text).map_err(|_| "is not a duration such as \"250ms\" or \"10m\"".to_owned())
        })
    }

    /// A number of bytes such as `"256MiB"`.
    pub(super) fn size(&mut self, key: &str, default: &str) -> u64 {
        self.read(key, default, |text| {
            let size = text.parse::<bytesize::ByteSize>().map_err(|_| "is not a size such as \"256MiB\"".to_owned())?;
            if size.as_u64() == 0 { Err("must be more than zero".to_owned()) } else { Ok(size.as_u64()) }
        })
    }

    /// A whole number within a range.
    pub(super) fn count(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        let expected = format!("must be a whole number from {} to {}", range.start(), range.end());
        let number = match self.take(key) {
            None => Some(default),
            Some(Value::Integer(number)) => usize::try_from(number).ok(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let number = number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.fault(key, &expected);
            default
        });
        self.effective.insert(key.to_owned(), Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)));
        number
    }

    /// A part of a whole, nothing and all included.
    pub(super) fn part(&mut self, key: &str, default: f64) -> f64 {
        self.number(key, default, "must be a number from 0 to 1", |number| (0.0..=1.0).contains(&number))
    }

    /// A number above 0 and up to 1.
    pub(super) fn share(&mut self, key: &str, default: f64) -> f64 {
        self.number(key, default, "must be a number above 0 and up to 1", |number| number > 0.0 && number <= 1.0)
    }

    fn number(&mut self, key: &str, default: f64, expected: &str, fits: impl Fn(f64) -> bool) -> f64 {
        let number = match self.take(key) {
            None => Some(default),
            Some(Value::Float(number)) => Some(number),
            Some(Value::Integer(whole)) => i32::try_from(whole).ok().map(f64::from),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let number = number.filter(|number| fits(*number)).unwrap_or_else(|| {
            self.fault(key, expected);
            default
        });
        self.effective.insert(key.to_owned(), Value::Float(number));
        number
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, key: &str, default: bool) -> bool {
        let on = match self.take(key) {
            None => default,
            Some(Value::Boolean(on)) => on,
            Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => {
                self.fault(key, "must be true or false");
                default
            }
        };
        self.effective.insert(key.to_owned(), Value::Boolean(on));
        on
    }

    /// One of some values by its name, the first one by default.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, values: &[(&str, T)]) -> T {
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        self.read(key, names[0], |text| {
            let value = values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
            value.ok_or_else(|| format!("is not one of \"{}\"", names.join("\", \"")))
        })
    }

    /// One of some names; required.
    pub(super) fn one_of(&mut self, key: &str, names: &[&str]) -> Option<String> {
        let expected = format!("one of \"{}\"", names.join("\", \""));
        match self.take(key) {
            Some(Value::String(text)) if names.contains(&text.as_str()) => {
                self.effective.insert(key.to_owned(), Value::String(text.clone()));
                Some(text)
            }
            Some(_) => {
                self.fault(key, &format!("must be {expected}"));
                None
            }
            None => {
                self.fault(key, &format!("is required: {expected}"));
                None
            }
        }
    }

    /// A text that may be absent. The effective settings show what was read by its `Display`, which masks secrets;
    /// `parse` must not repeat a text that may hold one.
    pub(super) fn optional<T: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Value::String(text) = self.take(key)? else {
            self.fault(key, "must be a text");
            return None;
        };
        let parsed = parse(&text).map_err(|message| self.fault(key, &message)).ok()?;
        self.effective.insert(key.to_owned(), Value::String(parsed.to_string()));
        Some(parsed)
    }

    pub(super) fn fault(&mut self, key: &str, message: &str) {
        let path = self.path_of(key);
        self.faults.push(Fault { path, message: message.to_owned() });
    }

    /// Something that works, but is worth a second thought.
    pub(super) fn warn(&mut self, key: &str, message: &str) {
        let path = self.path_of(key);
        self.warnings.push(Fault { path, message: message.to_owned() });
    }

    /// A text with a default that parses.
    #[expect(clippy::expect_used, reason = "defaults are literals of this program, read by a test")]
    fn read<T>(&mut self, key: &str, default: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let text = match self.take(key) {
            None => default.to_owned(),
            Some(Value::String(text)) => text,
            Some(value) => {
                self.fault(key, &format!("must be a text in quotes such as \"{default}\", not {value}"));
                default.to_owned()
            }
        };
        let value = parse(&text).map_err(|message| self.fault(key, &format!("{text:?} {message}")));
        self.effective.insert(key.to_owned(), Value::String(text));
        value.unwrap_or_else(|()| parse(default).expect("a default is valid"))
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        let from_file = self.table.remove(key);
        // Variables are read in lower case, so that they reach a connector whose name is written in any case.
        let from_env = self.env.remove(&self.path_of(key).to_ascii_lowercase()).map(Value::String);
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
                self.faults.push(Fault { path, message: "must be a section".to_owned() });
                Table::new()
            }
        }
    }

    /// What was not asked for is unknown.
    fn close(mut self) -> Table {
        for (key, _) in std::mem::take(&mut self.table) {
            let known: Vec<&str> = self.effective.keys().map(String::as_str).collect();
            let message = format!("unknown setting; this section has: {}", known.join(", "));
            self.fault(&key, &message);
        }
        self.effective
    }
}
