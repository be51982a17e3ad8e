//! Reads tables of a file: texts, paths, templates and lists, each with a fault if it is wrong.

use std::fmt::Display;

use super::super::keys::Key;
use super::super::name::Site;
use super::super::slot::Template;
use super::super::tree::{Entry, Faults, Node, NodeValue, Place};
use crate::connector::path::Path;

/// A table whose keys are known.
#[derive(Debug, Clone)]
pub(super) struct Table<'n> {
    pub(super) place: &'n Place,
    entries: &'n [Entry],
    faults: &'n Faults,
}

impl<'n> Table<'n> {
    /// A table that may only have these keys.
    pub(super) fn new(node: &'n Node, keys: &[&[Key]], faults: &'n Faults) -> Option<Self> {
        let table = Self::open(node, faults)?;
        let names: Vec<&'static str> = keys
            .iter()
            .flat_map(|keys| keys.iter().map(|key| key.0))
            .collect();
        for entry in table.entries {
            if !names.contains(&entry.key.as_str()) {
                let close = |name: &&&str| is_close(name, &entry.key) && !table.has(name);
                let meant = names.iter().find(close).copied();
                let hint = match meant {
                    Some(name) => format!("did you mean {name}?"),
                    None => format!("they are {}", names.join(", ")),
                };
                let message = format!("is not a key of this table; {hint}");
                faults.add_meant(&entry.place, message, meant);
            }
        }
        Some(table)
    }

    /// A table with keys of any name.
    pub(super) fn open(node: &'n Node, faults: &'n Faults) -> Option<Self> {
        let NodeValue::Table(entries) = &node.value else {
            faults.add(&node.place, "must be a table");
            return None;
        };
        Some(Self {
            place: &node.place,
            entries,
            faults,
        })
    }

    pub(super) fn entries(&self) -> &'n [Entry] {
        self.entries
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map(|entry| &entry.node)
    }

    /// A key that has a value: not null and not an empty text.
    pub(super) fn said(&self, key: &str) -> Option<&'n Node> {
        self.get(key).filter(|node| match &node.value {
            NodeValue::Null => false,
            NodeValue::Text(text) => !text.is_empty(),
            _ => true,
        })
    }

    /// A table below this one whose keys have any name; `None` if it is null.
    pub(super) fn open_said(&self, key: &str) -> Option<Table<'n>> {
        Self::open(self.said(key)?, self.faults)
    }

    /// A text that is not empty.
    pub(super) fn text_said(&self, key: &str) -> Option<&'n str> {
        text(self.said(key)?, self.faults)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn fault(&self, message: impl Into<String>) {
        self.faults.add(self.place, message);
    }

    /// A table below this one.
    pub(super) fn table(&self, key: &str, keys: &[&[Key]]) -> Option<Table<'n>> {
        Self::new(self.get(key)?, keys, self.faults)
    }

    /// The elements of a list of tables.
    pub(super) fn tables(&self, key: &str) -> Vec<&'n Node> {
        match self.get(key) {
            None => Vec::new(),
            Some(Node {
                value: NodeValue::List(items),
                ..
            }) => items.iter().collect(),
            Some(node) => {
                self.faults.add(&node.place, "must be a list of tables");
                Vec::new()
            }
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&'n str> {
        text(self.get(key)?, self.faults)
    }

    pub(super) fn switch(&self, key: &str) -> bool {
        match self.get(key) {
            None => false,
            Some(Node {
                value: NodeValue::Bool(on),
                ..
            }) => *on,
            Some(node) => {
                self.faults.add(&node.place, "must be true or false");
                false
            }
        }
    }

    /// A whole number of at least 1.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        let node = self.get(key)?;
        let count = match &node.value {
            NodeValue::Number(number) => number.as_u64().filter(|&count| count > 0),
            _ => None,
        };
        if count.is_none() {
            self.faults
                .add(&node.place, "must be a whole number above 0");
        }
        count
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&'static str, T)]) -> Option<T> {
        let node = self.get(key)?;
        let found = text(node, self.faults)?;
        let known = words.iter().find(|(word, _)| *word == found);
        if known.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let words = words.join(", ");
            self.faults
                .add(&node.place, format!("must be one of {words}"));
        }
        known.map(|(_, value)| *value)
    }

    /// A text, or a list of texts, each parsed.
    pub(super) fn list_of<T, E: Display>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let nodes = match &node.value {
            NodeValue::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        let parsed = nodes.into_iter().filter_map(|node| {
            let found = text(node, self.faults)?;
            parsed(parse(found), node, self.faults)
        });
        parsed.collect()
    }

    /// A path.
    pub(super) fn path(&self, key: &str) -> Option<Path> {
        path(self.get(key)?, self.faults)
    }
}

/// Whether one word may be a slip of the other.
fn is_close(one: &str, other: &str) -> bool {
    let letters = |word: &str| {
        let mut letters = word.as_bytes().to_vec();
        letters.sort_unstable();
        letters
    };
    if letters(one) == letters(other) {
        return true;
    }
    let shorter = one.len().min(other.len());
    let slips = if shorter <= 4 { 1 } else { 2 };
    edits(one.as_bytes(), other.as_bytes()) <= slips
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

pub(super) fn text<'n>(node: &'n Node, faults: &Faults) -> Option<&'n str> {
    if let NodeValue::Text(text) = &node.value {
        return Some(text);
    }
    faults.add(&node.place, "must be a text in quotation marks");
    None
}

pub(super) fn path(node: &Node, faults: &Faults) -> Option<Path> {
    parsed(Path::parse(text(node, faults)?), node, faults)
}

pub(super) fn template(node: &Node, site: Site<'_>, faults: &Faults) -> Option<Template> {
    let source = match &node.value {
        NodeValue::Number(number) => number.to_string(),
        NodeValue::Bool(on) => on.to_string(),
        _ => text(node, faults)?.to_owned(),
    };
    parsed(Template::parse(&source, site), node, faults)
}

pub(super) fn parsed<T, E: Display>(
    result: Result<T, E>,
    node: &Node,
    faults: &Faults,
) -> Option<T> {
    result
        .map_err(|error| faults.add(&node.place, error.to_string()))
        .ok()
}

/// A scalar or a list, as JSON. Tables are not values here.
pub(super) fn scalars(node: &Node, faults: &Faults) -> Vec<serde_json::Value> {
    match &node.value {
        NodeValue::List(items) => items
            .iter()
            .flat_map(|item| scalars(item, faults))
            .collect(),
        NodeValue::Text(text) => vec![text.as_str().into()],
        NodeValue::Number(number) => vec![number.clone().into()],
        NodeValue::Bool(on) => vec![(*on).into()],
        NodeValue::Null => vec![serde_json::Value::Null],
        NodeValue::Table(_) => {
            faults.add(&node.place, "must be a text, a number, true or false");
            Vec::new()
        }
    }
}
