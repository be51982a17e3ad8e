//! Settings that are lists: of texts, of tables.

use std::fmt;
use std::str::FromStr;

use toml::Value;

use super::{Section, parse};

impl Section<'_> {
    /// Reads each table of a list, which can only be in the file.
    pub(in crate::config) fn tables<T>(
        &mut self,
        key: &str,
        read: impl Fn(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.know(key);
        let tables = match self.table.remove(key) {
            None => return Vec::new(),
            Some(Value::Array(tables)) => tables,
            Some(_) => {
                self.fault(key, "must be a list of tables");
                return Vec::new();
            }
        };
        let (mut list, mut effective) = (Vec::new(), Vec::new());
        for (n, value) in tables.into_iter().enumerate() {
            let path = format!("{}[{n}]", self.path_of(key));
            let (entry, table) = self.below(path, Some(value), &read);
            list.extend(entry);
            effective.push(table);
        }
        self.show(key, effective);
        list
    }

    /// One text or a list of texts; `None` if the key is absent. Faults do not repeat its values.
    pub(in crate::config) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        let texts = texts_of(&value);
        self.show(key, value);
        if texts.is_none() {
            self.fault(
                key,
                "must be a string or a list with at least one string; if it does not apply, leave the key out",
            );
        }
        Some(texts.unwrap_or_default())
    }

    /// A list of texts that parse as `T`. In the environment it is separated by commas.
    pub(in crate::config) fn list<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &str,
        default: &[&str],
    ) -> Vec<T> {
        let texts = match self.take(key) {
            None => default.iter().copied().map(Value::from).collect(),
            Some(Value::Array(texts)) => texts,
            Some(Value::String(text)) => text.split(',').map(|text| text.trim().into()).collect(),
            Some(_) => {
                self.fault(key, "must be a list of texts");
                Vec::new()
            }
        };
        let parsed = texts.iter().filter_map(|text| match parsed(text) {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                self.fault(key, format!("{text}: {why}"));
                None
            }
        });
        let parsed = parsed.collect();
        self.show(key, texts);
        parsed
    }
}

/// A text, or a list of at least one.
fn texts_of(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(values) if !values.is_empty() => {
            let texts = values.iter().map(|value| Some(value.as_str()?.to_owned()));
            texts.collect()
        }
        _ => None,
    }
}

fn parsed<T: FromStr<Err: fmt::Display>>(text: &Value) -> Result<T, String> {
    parse(text.as_str().ok_or("must be a string")?)
}
