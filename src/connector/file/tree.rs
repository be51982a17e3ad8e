//! A connector file as a tree whose every value knows its place, and the faults found in it.
//!
//! The file is TOML, or the JSON of App Connect. A fault names its place, so that a person finds it:
//! the path of the key, and in TOML the line and the column.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use serde_json::{Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest connector file, in bytes.
const MAX_FILE: usize = 64 * 1024;

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: NodeValue,
}

/// A value of TOML or JSON.
#[derive(Debug, Clone)]
pub(super) enum NodeValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Table(Vec<KeyValue>),
}

impl NodeValue {
    /// The value as JSON, if it is neither a list nor a table.
    pub(super) fn scalar(&self) -> Option<Value> {
        match self {
            Self::Null => Some(Value::Null),
            Self::Bool(on) => Some((*on).into()),
            Self::Number(number) => Some(number.clone().into()),
            Self::Text(text) => Some(text.as_str().into()),
            Self::List(_) | Self::Table(_) => None,
        }
    }

    /// The value, if it is a whole number that is not negative.
    pub(super) fn whole_number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct KeyValue {
    pub(super) key: String,
    /// The place of the key itself.
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Where something stands in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The keys that lead to it, such as `search[0].query.q`.
    pub(super) path: String,
    /// The bytes of the file, if they are known.
    span: Option<Range<usize>>,
}

impl Node {
    /// A table without entries, for what a file leaves out.
    pub(super) fn empty_table(path: &str) -> Self {
        Self {
            place: Place {
                path: path.to_owned(),
                span: None,
            },
            value: NodeValue::Table(Vec::new()),
        }
    }
}

/// Something wrong in a connector file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpecFault {
    place: Place,
    message: String,
}

/// The faults of a file, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<SpecFault>>);

impl Faults {
    /// Adds a fault, unless it was found before.
    pub(super) fn add(&self, place: &Place, message: impl Into<String>) {
        let fault = SpecFault {
            place: place.clone(),
            message: message.into(),
        };
        let mut faults = self.0.borrow_mut();
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The faults in the order of the file.
    pub(super) fn sorted(self) -> Vec<SpecFault> {
        let mut faults = self.0.into_inner();
        faults.sort_by_key(|fault| fault.place.span.as_ref().map_or(0, |span| span.start));
        faults
    }
}

impl SpecFault {
    fn new(message: impl Into<String>) -> Self {
        Self {
            place: Place::default(),
            message: message.into(),
        }
    }

    /// The keys that lead to the place; empty for the whole file.
    #[must_use]
    pub(crate) fn key(&self) -> &str {
        &self.place.path
    }

    /// What is wrong there.
    #[must_use]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Line and column, counted from 1, if they are known.
    #[must_use]
    pub(crate) fn position(&self, source: &str) -> Option<(usize, usize)> {
        let span = self.place.span.as_ref()?;
        let before = source.get(..span.start).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Some((line, column))
    }

    /// The fault with its line, column and a caret, if they are known.
    #[must_use]
    pub(crate) fn explain(&self, source: &str) -> String {
        let (Some(span), Some((number, column))) = (&self.place.span, self.position(source)) else {
            return self.to_string();
        };
        let column = column - 1;
        let text = source.lines().nth(number - 1).unwrap_or("");
        let rest = text.chars().count().saturating_sub(column);
        let width = source
            .get(span.clone())
            .and_then(|part| part.lines().next())
            .map_or(1, |part| part.chars().count());
        let carets = "^".repeat(width.min(rest).max(1));
        let margin = " ".repeat(number.to_string().len());
        format!(
            "line {number}, column {}: {self}\n{margin} |\n{number} | {text}\n{margin} | {}{carets}",
            column + 1,
            " ".repeat(column)
        )
    }
}

impl fmt::Display for SpecFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.place.path, self.message)
        }
    }
}

/// Reads TOML.
///
/// # Errors
/// Every fault of the syntax.
pub(super) fn of_toml(source: &str) -> Result<Node, Vec<SpecFault>> {
    if source.len() > MAX_FILE {
        return Err(vec![SpecFault::new(TOO_LARGE)]);
    }
    let (table, errors) = DeTable::parse_recoverable(source);
    if errors.is_empty() {
        let whole = Place {
            path: String::new(),
            span: None,
        };
        return Ok(table_node(whole, table.get_ref()));
    }
    let fault = |error: toml::de::Error| SpecFault {
        place: Place {
            path: String::new(),
            span: error.span(),
        },
        message: error.message().to_owned(),
    };
    Err(errors.into_iter().map(fault).collect())
}

const TOO_LARGE: &str = "is larger than 64 KiB";

/// Takes JSON over. Its places have paths only.
///
/// # Errors
/// One fault if it is no JSON.
pub(super) fn of_json(source: &str) -> Result<Node, Vec<SpecFault>> {
    if source.len() > MAX_FILE {
        return Err(vec![SpecFault::new(TOO_LARGE)]);
    }
    let value: Value = serde_json::from_str(source)
        .map_err(|error| vec![SpecFault::new(format!("is not JSON: {error}"))])?;
    Ok(json_node(String::new(), &value))
}

fn table_node(place: Place, table: &DeTable<'_>) -> Node {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries.into_iter().map(|(key, value)| {
        let name = key.get_ref().to_string();
        let path = below(&place.path, &name);
        KeyValue {
            key: name,
            place: Place {
                path: path.clone(),
                span: Some(key.span()),
            },
            node: toml_node(path, value),
        }
    });
    Node {
        value: NodeValue::Table(entries.collect()),
        place,
    }
}

fn toml_node(path: String, value: &Spanned<DeValue<'_>>) -> Node {
    let place = Place {
        path,
        span: Some(value.span()),
    };
    let value = match value.get_ref() {
        DeValue::String(text) => NodeValue::Text(text.to_string()),
        DeValue::Boolean(on) => NodeValue::Bool(*on),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(NodeValue::Null, |number| NodeValue::Number(number.into())),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map_or(NodeValue::Null, NodeValue::Number),
        DeValue::Datetime(time) => NodeValue::Text(time.to_string()),
        DeValue::Array(items) => {
            let item = |(n, item): (usize, &Spanned<DeValue<'_>>)| {
                toml_node(format!("{}[{n}]", place.path), item)
            };
            NodeValue::List(items.iter().enumerate().map(item).collect())
        }
        DeValue::Table(table) => return table_node(place, table),
    };
    Node { place, value }
}

fn json_node(path: String, value: &Value) -> Node {
    let value = match value {
        Value::Null => NodeValue::Null,
        Value::Bool(on) => NodeValue::Bool(*on),
        Value::Number(number) => NodeValue::Number(number.clone()),
        Value::String(text) => NodeValue::Text(text.clone()),
        Value::Array(items) => {
            let item = |(n, item)| json_node(format!("{path}[{n}]"), item);
            NodeValue::List(items.iter().enumerate().map(item).collect())
        }
        Value::Object(members) => {
            let entry = |(key, value): (&String, &Value)| json_entry(&path, key, value);
            NodeValue::Table(members.iter().map(entry).collect())
        }
    };
    let place = Place { path, span: None };
    Node { place, value }
}

fn json_entry(path: &str, key: &str, value: &Value) -> KeyValue {
    let path = below(path, key);
    KeyValue {
        key: key.to_owned(),
        place: Place {
            path: path.clone(),
            span: None,
        },
        node: json_node(path, value),
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
