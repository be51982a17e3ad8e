//! A value of a file as its reader sees it: what it must be, or a fault at its place.

use std::fmt::Display;

use serde_json::Value;

use super::super::name::Site;
use super::super::slot::Template;
use super::super::tree::{Faults, KeyValue, Node, NodeValue, Place};
use crate::connector::path::Path;

/// A value, and where its faults are reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'n> {
    node: &'n Node,
    faults: &'n Faults,
}

impl<'n> Field<'n> {
    pub(super) fn new(node: &'n Node, faults: &'n Faults) -> Self {
        Self { node, faults }
    }

    pub(super) fn node(self) -> &'n Node {
        self.node
    }

    pub(super) fn faults(self) -> &'n Faults {
        self.faults
    }

    pub(super) fn value(self) -> &'n NodeValue {
        &self.node.value
    }

    /// Another value whose faults are reported like those of this one.
    pub(super) fn instead<'m>(self, node: &'m Node) -> Field<'m>
    where
        'n: 'm,
    {
        Field { node, ..self }
    }

    pub(super) fn fault(self, message: impl Into<String>) {
        self.faults.add(&self.node.place, message);
    }

    /// Reports a fault in place of a result.
    pub(super) fn reject<T>(self, message: impl Into<String>) -> Option<T> {
        self.fault(message);
        None
    }

    /// The result, or its error as a fault.
    pub(super) fn parsed<T, E: Display>(self, result: Result<T, E>) -> Option<T> {
        let fault = |error: E| self.fault(error.to_string());
        result.map_err(fault).ok()
    }

    pub(super) fn text(self) -> Option<&'n str> {
        let text = self.value().text();
        text.or_else(|| self.reject("must be a string in quotation marks"))
    }

    pub(super) fn path(self) -> Option<Path> {
        self.parsed(Path::parse(self.text()?))
    }

    /// A template whose slots have the names of the site. Numbers and switches are texts here.
    pub(super) fn template(self, site: Site<'_>) -> Option<Template> {
        let source = match self.value() {
            NodeValue::Number(number) => number.to_string(),
            NodeValue::Bool(on) => on.to_string(),
            _ => self.text()?.to_owned(),
        };
        self.parsed(Template::parse(&source, site))
    }

    /// The elements, if it is a list.
    pub(super) fn items(self) -> Option<Vec<Self>> {
        match self.value() {
            NodeValue::List(items) => Some(items.iter().map(|item| self.instead(item)).collect()),
            _ => None,
        }
    }

    /// The elements of a list, or the value itself.
    pub(super) fn one_or_more(self) -> Vec<Self> {
        self.items().unwrap_or_else(|| vec![self])
    }

    /// A path, or a list of them.
    pub(super) fn paths(self) -> Vec<Path> {
        self.one_or_more()
            .into_iter()
            .filter_map(Self::path)
            .collect()
    }

    /// A scalar, or those of a list, as JSON. Tables are not values here.
    pub(super) fn scalars(self) -> Vec<Value> {
        if let Some(items) = self.items() {
            return items.into_iter().flat_map(Self::scalars).collect();
        }
        let value = self.value().scalar();
        if value.is_none() {
            self.fault("must be a string, a number, true or false");
        }
        value.into_iter().collect()
    }

    /// The first scalar.
    pub(super) fn scalar(self) -> Option<Value> {
        self.scalars().into_iter().next()
    }

    pub(super) fn switch(self) -> Option<bool> {
        match self.value() {
            NodeValue::Bool(on) => Some(*on),
            _ => self.reject("must be true or false"),
        }
    }

    /// A whole number of at least 1.
    pub(super) fn count(self) -> Option<u64> {
        let count = self.value().whole_number().filter(|&count| count > 0);
        if count.is_none() {
            self.fault("must be a whole number above 0");
        }
        count
    }
}

/// A key of a table, and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableEntry<'n> {
    pub(super) key: &'n str,
    place: &'n Place,
    pub(super) value: Field<'n>,
}

impl<'n> TableEntry<'n> {
    pub(super) fn new(entry: &'n KeyValue, faults: &'n Faults) -> Self {
        Self {
            key: &entry.key,
            place: &entry.place,
            value: Field::new(&entry.node, faults),
        }
    }

    /// Reports a fault of the key.
    pub(super) fn fault(&self, message: impl Into<String>) {
        self.value.faults.add(self.place, message);
    }

    /// Reports a key that may stand for another one.
    pub(super) fn fault_meant(&self, message: String, meant: Option<&'static str>) {
        self.value.faults.add_meant(self.place, message, meant);
    }

    /// Reports a fault of the key in place of a result.
    pub(super) fn reject<T>(&self, message: impl Into<String>) -> Option<T> {
        self.fault(message);
        None
    }

    /// The key as a path.
    pub(super) fn path_of_key(&self) -> Option<Path> {
        let fault = |error: crate::connector::path::PathError| self.fault(error.to_string());
        Path::parse(self.key).map_err(fault).ok()
    }
}
