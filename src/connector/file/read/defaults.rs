//! The file's defaults: `[request]` and `[record]`, merged into the tables that leave keys out.

use super::super::keys::{self, Key};
use super::super::tree::{KeyValue, Node, NodeValue};
use super::field::Field;
use super::table::Table;

/// What all searches and details share, and what all records share.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Defaults<'n> {
    request: Option<&'n Node>,
    record: Option<&'n Node>,
}

impl<'n> Defaults<'n> {
    /// The defaults of a file.
    pub(super) fn of(file: &Table<'n>) -> Self {
        file.table("request", &[keys::REQUEST, keys::SEARCH, keys::DETAILS]);
        Self {
            request: file.get("request").map(Field::node),
            record: file.get("record").map(Field::node),
        }
    }

    /// Those of requests alone.
    pub(super) fn of_requests(self) -> Self {
        Self {
            record: None,
            ..self
        }
    }

    /// The table, with the defaults for the keys that it may have and does not set. Parameters,
    /// headers and record fields are merged one by one.
    pub(super) fn merged(self, own: &Node, known: &[&[Key]]) -> Node {
        let NodeValue::Table(entries) = &own.value else {
            return own.clone();
        };
        let mut entries = entries.clone();
        for default in self.taken_by(&entries, known) {
            add(&mut entries, default);
        }
        if let Some(record) = self.record {
            add(&mut entries, &record_entry(record));
        }
        Node {
            place: own.place.clone(),
            value: NodeValue::Table(entries),
        }
    }

    /// Those that a table takes: keys that it knows, and no second method. Fixed choices take none.
    fn taken_by(self, own: &[KeyValue], known: &[&[Key]]) -> Vec<&'n KeyValue> {
        let has_method = own.iter().any(|entry| is_method(&entry.key));
        if own.iter().any(|entry| entry.key == "choices") {
            return Vec::new();
        }
        let is_known = |key: &str| known.iter().any(|keys| keys.iter().any(|it| it.0 == key));
        let is_taken =
            |entry: &&KeyValue| is_known(&entry.key) && !(has_method && is_method(&entry.key));
        self.entries().iter().filter(is_taken).collect()
    }

    fn entries(self) -> &'n [KeyValue] {
        match self.request.map(|node| &node.value) {
            Some(NodeValue::Table(entries)) => entries,
            _ => &[],
        }
    }
}

fn is_method(key: &str) -> bool {
    matches!(key, "get" | "read_by_post")
}

fn record_entry(record: &Node) -> KeyValue {
    KeyValue {
        key: "record".to_owned(),
        place: record.place.clone(),
        node: record.clone(),
    }
}

fn add(entries: &mut Vec<KeyValue>, default: &KeyValue) {
    let is_merged = matches!(default.key.as_str(), "query" | "headers" | "record");
    let own = entries.iter_mut().find(|entry| entry.key == default.key);
    let Some(own) = own else {
        entries.push(default.clone());
        return;
    };
    if let (NodeValue::Table(own), NodeValue::Table(defaults)) =
        (&mut own.node.value, &default.node.value)
        && is_merged
    {
        add_missing(own, defaults);
    }
}

fn add_missing(own: &mut Vec<KeyValue>, defaults: &[KeyValue]) {
    for default in defaults {
        if own.iter().all(|entry| entry.key != default.key) {
            own.push(default.clone());
        }
    }
}
