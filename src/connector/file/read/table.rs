//! Tables of a file: their keys, and what stands under them.

use std::fmt::Display;

use super::super::keys::Key;
use super::super::tree::{Faults, KeyValue, NodeValue, Place};
use super::field::{Field, TableEntry};
use crate::connector::path::Path;

/// A table, and where its faults are reported.
#[derive(Debug, Clone)]
pub(super) struct Table<'n> {
    place: &'n Place,
    entries: &'n [KeyValue],
    faults: &'n Faults,
}

impl<'n> Field<'n> {
    /// A table with keys of any name.
    pub(super) fn open(self) -> Option<Table<'n>> {
        let NodeValue::Table(entries) = self.value() else {
            return self.reject("must be a table");
        };
        Some(Table {
            place: &self.node().place,
            entries,
            faults: self.faults(),
        })
    }

    /// A table that may only have these keys.
    pub(super) fn table(self, keys: &[&[Key]]) -> Option<Table<'n>> {
        let table = self.open()?;
        table.check_keys(keys);
        Some(table)
    }

    /// The only entry of a table. If there is not exactly one, reports the message as a fault.
    pub(super) fn only_entry(self, message: &str) -> Option<TableEntry<'n>> {
        let mut entries = self.open()?.entries();
        match (entries.next(), entries.next()) {
            (Some(entry), None) => Some(entry),
            _ => self.reject(message),
        }
    }
}

impl<'n> Table<'n> {
    /// Reports every key that is none of these.
    fn check_keys(&self, keys: &[&[Key]]) {
        let known = keys.iter().flat_map(|keys| keys.iter().map(|key| key.0));
        let known: Vec<&'static str> = known.collect();
        for entry in self.entries() {
            if !known.contains(&entry.key) {
                self.report_unknown(&entry, &known);
            }
        }
    }

    /// Reports an unknown key, with the key that is probably meant, or with all that there are.
    fn report_unknown(&self, entry: &TableEntry<'_>, known: &[&'static str]) {
        let mut free = known.iter().filter(|name| !self.has(name));
        let meant = free.find(|name| is_close(name, entry.key)).copied();
        let hint = match meant {
            Some(name) => format!("did you mean {name}?"),
            None => format!("its keys are {}", known.join(", ")),
        };
        entry.fault_meant(format!("is not a key of this table; {hint}"), meant);
    }

    pub(super) fn fault(&self, message: impl Into<String>) {
        self.faults.add(self.place, message);
    }

    /// Reports a fault in place of a result.
    pub(super) fn reject<T>(&self, message: impl Into<String>) -> Option<T> {
        self.fault(message);
        None
    }

    /// The result, or its error as a fault.
    pub(super) fn parsed<T, E: Display>(&self, result: Result<T, E>) -> Option<T> {
        let fault = |error: E| self.fault(error.to_string());
        result.map_err(fault).ok()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = TableEntry<'n>> + use<'n> {
        let faults = self.faults;
        self.entries
            .iter()
            .map(move |entry| TableEntry::new(entry, faults))
    }

    pub(super) fn get(&self, key: &str) -> Option<Field<'n>> {
        let entry = self.entries().find(|entry| entry.key == key);
        entry.map(|entry| entry.value)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value of a required key. If the key is missing, reports the message as a fault.
    pub(super) fn require(&self, key: &str, message: &str) -> Option<Field<'n>> {
        self.get(key).or_else(|| self.reject(message))
    }

    /// A key that has a value: not null and not an empty text.
    pub(super) fn said(&self, key: &str) -> Option<Field<'n>> {
        self.get(key).filter(|field| field.value().says_something())
    }

    /// A table below this one whose keys have any name; `None` if it is null.
    pub(super) fn open_said(&self, key: &str) -> Option<Self> {
        self.said(key)?.open()
    }

    /// A text that is not empty.
    pub(super) fn text_said(&self, key: &str) -> Option<&'n str> {
        self.said(key)?.text()
    }

    /// A table below this one.
    pub(super) fn table(&self, key: &str, keys: &[&[Key]]) -> Option<Self> {
        self.get(key)?.table(keys)
    }

    /// The entries of a table below this one, whose keys have any name.
    pub(super) fn entries_of(&self, key: &str) -> Vec<TableEntry<'n>> {
        let table = self.get(key).and_then(Field::open);
        table.iter().flat_map(Self::entries).collect()
    }

    /// The elements of a list of tables.
    pub(super) fn tables(&self, key: &str) -> Vec<Field<'n>> {
        let Some(field) = self.get(key) else {
            return Vec::new();
        };
        let items = field.items();
        let items = items.or_else(|| field.reject("must be a list of tables"));
        items.unwrap_or_default()
    }

    pub(super) fn text(&self, key: &str) -> Option<&'n str> {
        self.get(key)?.text()
    }

    pub(super) fn path(&self, key: &str) -> Option<Path> {
        self.get(key)?.path()
    }

    pub(super) fn switch(&self, key: &str) -> bool {
        let on = self.get(key).and_then(Field::switch);
        on.unwrap_or(false)
    }

    /// A whole number of at least 1.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.get(key)?.count()
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&'static str, T)]) -> Option<T> {
        let field = self.get(key)?;
        let found = field.text()?;
        let known = words.iter().find(|(word, _)| *word == found);
        if known.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            field.fault(format!("must be one of {}", words.join(", ")));
        }
        known.map(|(_, value)| *value)
    }

    /// A text, or a list of texts, each parsed.
    pub(super) fn list_of<T, E: Display>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let fields = self.get(key).into_iter().flat_map(Field::one_or_more);
        let parsed = fields.filter_map(|field| field.parsed(parse(field.text()?)));
        parsed.collect()
    }
}

/// Whether one word may be a slip of the other.
fn is_close(one: &str, other: &str) -> bool {
    if sorted_letters(one) == sorted_letters(other) {
        return true;
    }
    let shorter = one.len().min(other.len());
    let slips = if shorter <= 4 { 1 } else { 2 };
    edits(one.as_bytes(), other.as_bytes()) <= slips
}

fn sorted_letters(word: &str) -> Vec<u8> {
    let mut letters = word.as_bytes().to_vec();
    letters.sort_unstable();
    letters
}

/// How many letters have to be added, removed or replaced.
fn edits(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, letter) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], n + 1);
        for (m, found) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != found);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(row[m].min(diagonal) + 1);
        }
    }
    row[other.len()]
}
