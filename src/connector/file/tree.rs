//! A connector file as a tree whose every value knows its place, and the faults found in it.
//!
//! The file is TOML, or the JSON of App Connect (`json_tree`). A fault names its place, so that a
//! person finds it: the path of the key, the line and the column.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use serde_json::{Number, Value};
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeString, DeTable, DeValue};

/// The largest connector file, in bytes.
pub(super) const MAX_FILE: usize = 64 * 1024;

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

    /// Whether it is neither null nor an empty text.
    pub(super) fn says_something(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Text(text) => !text.is_empty(),
            _ => true,
        }
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
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
    pub(super) span: Option<Range<usize>>,
}

impl Place {
    /// A place whose bytes are not known.
    fn of(path: String) -> Self {
        Self { path, span: None }
    }
}

impl Node {
    /// A table without entries, for what a file leaves out.
    pub(super) fn empty_table(path: &str) -> Self {
        Self {
            place: Place::of(path.to_owned()),
            value: NodeValue::Table(Vec::new()),
        }
    }
}

/// Something wrong in a connector file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpecFault {
    place: Place,
    message: String,
    /// The key that a misspelt one stands for.
    meant: Option<&'static str>,
}

/// The most faults of one file that are reported. Nobody reads more.
const MOST_FAULTS: usize = 100;

/// The faults of a file, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<SpecFault>>);

impl Faults {
    /// Adds a fault, unless it was found before.
    pub(super) fn add(&self, place: &Place, message: impl Into<String>) {
        self.add_meant(place, message, None);
    }

    /// Adds a fault of a key that may stand for another one.
    pub(super) fn add_meant(
        &self,
        place: &Place,
        message: impl Into<String>,
        meant: Option<&'static str>,
    ) {
        let fault = SpecFault {
            place: place.clone(),
            message: message.into(),
            meant,
        };
        let mut faults = self.0.borrow_mut();
        if faults.len() < MOST_FAULTS && !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The faults in the order of the file. A missing key that only follows from another fault is
    /// not reported.
    pub(super) fn sorted(self) -> Vec<SpecFault> {
        let all = self.0.into_inner();
        let is_own = |fault: &&SpecFault| !all.iter().any(|other| fault.follows_from(other));
        let mut faults: Vec<SpecFault> = all.iter().filter(is_own).cloned().collect();
        faults.sort_by_key(|fault| fault.place.span.as_ref().map_or(0, |span| span.start));
        faults
    }
}

impl SpecFault {
    /// A fault of the whole file.
    pub(crate) fn of_file(message: impl Into<String>) -> Self {
        Self {
            place: Place::default(),
            message: message.into(),
            meant: None,
        }
    }

    /// A fault of the syntax.
    pub(super) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        let place = Place {
            path: String::new(),
            span: Some(span),
        };
        Self {
            place,
            message: message.into(),
            meant: None,
        }
    }

    /// Whether a table "needs" a key only because the key is misspelt, or its value is faulty.
    fn follows_from(&self, other: &Self) -> bool {
        let Some(needs) = self.message.strip_prefix("needs ") else {
            return false;
        };
        let below = other.place.path.strip_prefix(&self.place.path);
        let Some(below) = below.filter(|below| !below.is_empty()) else {
            return false;
        };
        let is_key = |c: char| c.is_alphanumeric() || c == '_';
        let key = below.trim_start_matches('.').split(|c| !is_key(c)).next();
        let mut words = needs.split(|c| !is_key(c)).filter(|word| !word.is_empty());
        words.any(|word| Some(word) == key || Some(word) == other.meant)
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
        let line = source.lines().nth(number - 1).unwrap_or("");
        let (line, column_shown) = around(line, column);
        let indent = " ".repeat(column_shown - 1);
        let most = (line.chars().count() + 1).saturating_sub(column_shown);
        let carets = "^".repeat(width_of(span, source, most));
        let margin = " ".repeat(number.to_string().len());
        format!(
            "line {number}, column {column}: {self}\n{margin} |\n{number} | {line}\n{margin} | {indent}{carets}"
        )
    }
}

/// The most characters of a line that are shown. A file may be one line.
const LONGEST_LINE: usize = 160;

/// A line, or what is around a column of a long one, and that column in it.
fn around(line: &str, column: usize) -> (String, usize) {
    if line.chars().nth(LONGEST_LINE).is_none() {
        return (line.to_owned(), column);
    }
    let skipped = column.saturating_sub(LONGEST_LINE / 2);
    let shown = line.chars().skip(skipped).take(LONGEST_LINE);
    (shown.collect(), column - skipped)
}

/// How many characters of its first line a span has: at least one, and `most` at most.
fn width_of(span: &Range<usize>, source: &str, most: usize) -> usize {
    let part = source.get(span.clone()).unwrap_or_default();
    let first_line = part.lines().next().unwrap_or_default();
    first_line.chars().count().min(most).max(1)
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
    let (table, errors) = DeTable::parse_recoverable(source);
    if errors.is_empty() {
        return Ok(table_node(Place::default(), table.get_ref()));
    }
    let errors = errors.into_iter().take(MOST_FAULTS);
    Err(errors.map(SpecFault::from).collect())
}

impl From<toml::de::Error> for SpecFault {
    fn from(error: toml::de::Error) -> Self {
        Self {
            place: Place {
                path: String::new(),
                span: error.span(),
            },
            message: error.message().to_owned(),
            meant: None,
        }
    }
}

fn table_node(place: Place, table: &DeTable<'_>) -> Node {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries.into_iter();
    let entries = entries.map(|(key, value)| toml_entry(&place.path, key, value));
    Node {
        value: NodeValue::Table(entries.collect()),
        place,
    }
}

fn toml_entry(path: &str, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> KeyValue {
    let name = key.get_ref().to_string();
    let path = below(path, &name);
    KeyValue {
        key: name,
        place: Place {
            path: path.clone(),
            span: Some(key.span()),
        },
        node: toml_node(path, value),
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
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => float(number),
        DeValue::Datetime(time) => NodeValue::Text(time.to_string()),
        DeValue::Array(items) => list(&place.path, items.iter(), toml_node),
        DeValue::Table(table) => return table_node(place, table),
    };
    Node { place, value }
}

/// A number that JSON cannot have is null, which no key takes.
fn integer(number: &DeInteger<'_>) -> NodeValue {
    let number = i64::from_str_radix(number.as_str(), number.radix());
    number.map_or(NodeValue::Null, |number| NodeValue::Number(number.into()))
}

fn float(number: &DeFloat<'_>) -> NodeValue {
    let number = number.as_str().parse().ok().and_then(Number::from_f64);
    number.map_or(NodeValue::Null, NodeValue::Number)
}

/// A list whose elements are known by their position.
fn list<T>(
    path: &str,
    items: impl Iterator<Item = T>,
    node: impl Fn(String, T) -> Node,
) -> NodeValue {
    let nodes = items.enumerate();
    let nodes = nodes.map(|(n, item)| node(self::item(path, n), item));
    NodeValue::List(nodes.collect())
}

pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        extended("", key)
    } else {
        extended(path, &format!(".{key}"))
    }
}

/// The path of an element of a list.
pub(super) fn item(path: &str, number: usize) -> String {
    extended(path, &format!("[{number}]"))
}

/// The longest path, in bytes. Every value has its own, so long keys would otherwise take the
/// square of a file's size.
const LONGEST_PATH: usize = 256;

const CUT: char = '…';

/// A path with one more step, or the beginning of it.
fn extended(path: &str, step: &str) -> String {
    if path.ends_with(CUT) {
        return path.to_owned();
    }
    let mut longer = format!("{path}{step}");
    if longer.len() > LONGEST_PATH {
        let ends = longer.char_indices().map(|(at, _)| at);
        let end = ends.take_while(|at| *at <= LONGEST_PATH).last();
        longer.truncate(end.unwrap_or_default());
        longer.push(CUT);
    }
    longer
}
