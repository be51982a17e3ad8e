//! Reads a set of settings section by section.

use toml::{Table, Value};

use super::{Contents, ENV_PREFIX, Fault, Findings, Section, meant, unknown_variable};

/// Reads one set of settings.
pub(in crate::config) struct SettingsReader {
    root: Table,
    /// Every section that was requested.
    known: Vec<String>,
    effective: Table,
    findings: Findings,
}

impl SettingsReader {
    pub(in crate::config) fn new(
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Fault>> {
        // toml's message shows the line with a caret. It may contain a value but no secret: secrets
        // are in files.
        let not_toml = |error| vec![Fault::new(String::new(), format!("not TOML: {error}"))];
        let root = text.parse::<Table>().map_err(not_toml)?;
        let env = env.into_iter();
        let env = env.filter_map(|(name, value)| Some((path_of(&name)?, value)));
        Ok(Self {
            root,
            known: Vec::new(),
            effective: Table::new(),
            findings: Findings {
                env: env.collect(),
                ..Findings::default()
            },
        })
    }

    pub(in crate::config) fn section<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        self.know(name);
        let value = self.root.remove(name);
        let section = Section::new(name.to_owned(), &mut self.findings);
        let (read, effective) = section.walk(value, read);
        self.effective
            .insert(name.to_owned(), Value::Table(effective));
        read
    }

    /// Reads an optional section. One of its variables is enough for it to exist.
    pub(in crate::config) fn optional_section<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        self.know(name);
        let is_there = self.root.contains_key(name) || self.findings.names_below(name);
        is_there.then(|| self.section(name, read))
    }

    /// Reads each table below `name`, including those that only the environment names; `None` for
    /// one that could not be read.
    pub(in crate::config) fn sections<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str, &mut Section<'_>) -> Option<T>,
    ) -> Vec<(String, Option<T>)> {
        self.know(name);
        let tables = self.tables(name);
        let mut read_tables = Vec::with_capacity(tables.len());
        let mut effective = Table::new();
        for (child, value) in tables {
            let path = format!("{name}.{child}");
            let section = Section::new(path, &mut self.findings);
            let (read, table) = section.walk(Some(value), |section| read(&child, section));
            effective.insert(child.clone(), Value::Table(table));
            read_tables.push((child, read));
        }
        self.effective
            .insert(name.to_owned(), Value::Table(effective));
        read_tables
    }

    /// The tables below `name`, and an empty one for each that only the environment names.
    fn tables(&mut self, name: &str) -> Table {
        let mut tables = match self.root.remove(name) {
            None => Table::new(),
            Some(Value::Table(tables)) => tables,
            Some(_) => {
                self.fault(name, "must be a section with one table for each name");
                Table::new()
            }
        };
        for child in self.children_in_environment(name) {
            if !tables
                .keys()
                .any(|known| known.eq_ignore_ascii_case(&child))
            {
                tables.insert(child, Value::Table(Table::new()));
            }
        }
        tables
    }

    /// The tables below `name` that variables are about.
    fn children_in_environment(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}.");
        let below = self.findings.env.keys();
        let below = below.filter_map(|path| path.strip_prefix(&prefix)?.split_once('.'));
        below.map(|(child, _)| child.to_owned()).collect()
    }

    fn know(&mut self, name: &str) {
        if !self.known.iter().any(|known| known == name) {
            self.known.push(name.to_owned());
        }
    }

    /// The section that was probably meant, and a list of all sections.
    fn instead(&self, unknown: &str) -> String {
        let meant = meant(unknown, self.known.iter().map(String::as_str));
        format!("{meant}; the sections are: {}", self.known.join(", "))
    }

    /// Returns whether this path has no fault.
    pub(in crate::config) fn is_sound(&self, path: &str) -> bool {
        !self.findings.faults.iter().any(|fault| fault.path == path)
    }

    /// Returns whether nothing below this path has a fault.
    pub(in crate::config) fn is_sound_below(&self, path: &str) -> bool {
        let below = |fault: &Fault| {
            let rest = fault.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !self.findings.faults.iter().any(below)
    }

    pub(in crate::config) fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.findings.warn(path.to_owned(), message);
    }

    pub(in crate::config) fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.findings.fault(path.to_owned(), message);
    }

    /// The effective settings as TOML, what they do not show, and the warnings.
    pub(in crate::config) fn finish(
        mut self,
    ) -> Result<(String, Contents, Vec<Fault>), Vec<Fault>> {
        for (name, _) in std::mem::take(&mut self.root) {
            let instead = self.instead(&name);
            self.fault(&name, format!("unknown section{instead}"));
        }
        for (path, _) in std::mem::take(&mut self.findings.env) {
            let section = path.split('.').next().unwrap_or_default();
            let instead = self.instead(section);
            let Fault { path, message } = unknown_variable(path);
            self.findings.fault(path, message + &instead);
        }
        if self.findings.faults.is_empty() {
            let Findings {
                contents, warnings, ..
            } = self.findings;
            Ok((self.effective.to_string(), contents, warnings))
        } else {
            Err(self.findings.faults)
        }
    }
}

/// The path of the setting that an environment variable sets.
fn path_of(variable: &str) -> Option<String> {
    let name = variable.strip_prefix(ENV_PREFIX)?;
    Some(name.to_ascii_lowercase().replace("__", "."))
}
