//! Settings that are lists: of texts, of tables.

use std::fmt;
use std::str::FromStr;

use toml::Value;

use super::Section;

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
            effective.push(Value::Table(table));
        }
        self.effective
            .insert(key.to_owned(), Value::Array(effective));
        list
    }

    /// One text or a list of texts; `None` if the key is absent. Faults do not repeat its values.
    pub(in crate::config) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        self.effective.insert(key.to_owned(), value.clone());
        let values = match value {
            Value::Array(values) if !values.is_empty() => values,
            text @ Value::String(_) => vec![text],
            _ => Vec::new(),
        };
        let texts: Option<Vec<String>> = values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect();
        let texts = texts.filter(|texts| !texts.is_empty());
        if texts.is_none() {
            self.fault(key, "must be a text or a list of at least one; leave the key out where it does not apply");
        }
        Some(texts.unwrap_or_default())
    }

    /// A list of texts that parse as `T`. In the environment it is separated by commas.
    pub(in crate::config) fn list<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &str,
        default: &[&str],
    ) -> Vec<T> {
        let texts: Vec<Value> = match self.take(key) {
            None => default
                .iter()
                .map(|text| Value::String((*text).to_owned()))
                .collect(),
            Some(Value::Array(texts)) => texts,
            Some(Value::String(text)) => text
                .split(',')
                .map(|text| Value::String(text.trim().to_owned()))
                .collect(),
            Some(_) => {
                self.fault(key, "must be a list of texts");
                Vec::new()
            }
        };
        let parsed = texts
            .iter()
            .filter_map(|value| match value.as_str().map(str::parse::<T>) {
                Some(Ok(parsed)) => Some(parsed),
                Some(Err(error)) => {
                    self.fault(key, &format!("{value}: {error}"));
                    None
                }
                None => {
                    self.fault(key, &format!("{value}: must be a text"));
                    None
                }
            });
        let parsed = parsed.collect();
        self.effective.insert(key.to_owned(), Value::Array(texts));
        parsed
    }
}
