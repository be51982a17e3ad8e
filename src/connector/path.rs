//! Paths into a CRM's reply: `a.b`, `"odd key"`, `[0]`, `[]` for each element, `[key=value]`.
//!
//! A path never fails: what is not there is left out. It visits each value of the reply at most
//! once, and it has no recursion.

use std::fmt;

use serde_json::Value;

use super::reach::ReachStep;
pub(crate) use super::wanted::PathError;
pub(super) use super::wanted::{NoNames, PathNames, Wanted};
use crate::domain::json::text;

/// The longest path, in bytes.
const MAX_PATH: usize = 256;

/// A parsed path. `.` is the reply itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    steps: Vec<PathStep>,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathStep {
    Key(String),
    /// A member of an object, or an element of a list by its number.
    Member(String),
    Index(usize),
    Each,
    /// The elements whose member has this text.
    Where {
        key: String,
        value: Wanted,
    },
}

impl Path {
    /// Parses a path.
    ///
    /// # Errors
    /// [`PathError`] with the reason.
    pub(crate) fn parse(source: &str) -> Result<Self, PathError> {
        if source.len() > MAX_PATH {
            return Err(PathError("it is longer than 256 bytes"));
        }
        let mut steps = Vec::new();
        let mut rest = source;
        if source != "." {
            loop {
                rest = step(rest, &mut steps)?;
                match rest.strip_prefix('.') {
                    _ if rest.is_empty() => break,
                    Some(next) => rest = next,
                    None if rest.starts_with('[') => {}
                    None => return Err(PathError("a dot or a bracket is expected after a key")),
                }
            }
        }
        Ok(Self {
            steps,
            source: source.to_owned(),
        })
    }

    /// A path in which dots separate members of objects and numbers of elements, as App Connect
    /// writes it. `$` and the empty text are the whole value.
    pub(super) fn dotted(source: &str) -> Self {
        let parts = source.split('.').filter(|_| !matches!(source, "" | "$"));
        Self {
            steps: parts.map(PathStep::member).collect(),
            source: source.to_owned(),
        }
    }

    /// The value at a path of members, which may be null.
    pub(super) fn get<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        let mut steps = self.steps.iter();
        steps.try_fold(root, |value, step| step.get(value))
    }

    /// The members of a path that has nothing else.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.steps.iter().filter_map(PathStep::name);
        names.map(str::to_owned).collect()
    }

    /// The path below the first member, if that has this name.
    pub(super) fn below(&self, name: &str) -> Option<Self> {
        let (PathStep::Member(first), rest) = self.steps.split_first()? else {
            return None;
        };
        (first == name).then(|| self.part(rest))
    }

    /// The keys of a fixed path of a connector in Rust.
    pub(crate) fn of_keys(keys: &[&str]) -> Self {
        Self {
            steps: keys.iter().copied().map(PathStep::key).collect(),
            source: keys.join("."),
        }
    }

    /// All values at this path, in the reply's order, without nulls.
    pub(super) fn all<'v>(&self, root: &'v Value, names: &impl PathNames) -> Vec<&'v Value> {
        let mut values = vec![root];
        for step in &self.steps {
            let mut next = Vec::with_capacity(values.len());
            for value in values {
                step.follow(value, names, &mut next);
            }
            values = next;
        }
        values.retain(|value| !value.is_null());
        values
    }

    /// The first value at this path that is not null.
    pub(super) fn first<'v>(&self, root: &'v Value, names: &impl PathNames) -> Option<&'v Value> {
        self.all(root, names).into_iter().next()
    }

    /// The value at a path of keys and indices.
    ///
    /// # Errors
    /// [`NotThere`] if something that is not an object is on the way, so that it is unknown whether
    /// the value exists. An empty list counts as an object without members.
    pub(crate) fn strict<'v>(&self, root: &'v Value) -> Result<Option<&'v Value>, NotThere> {
        let mut value = root;
        for step in &self.steps {
            value = match (value, step) {
                (Value::Null, _) => return Ok(None),
                (Value::Object(members), PathStep::Key(key) | PathStep::Member(key)) => {
                    members.get(key).unwrap_or(&Value::Null)
                }
                (Value::Array(items), PathStep::Index(index)) => {
                    items.get(*index).unwrap_or(&Value::Null)
                }
                (Value::Array(items), _) if items.is_empty() => return Ok(None),
                _ => return Err(NotThere),
            };
        }
        Ok(Some(value).filter(|value| !value.is_null()))
    }

    /// Takes the value at a path of keys out of a reply.
    pub(super) fn take(&self, root: &mut Value) -> Option<Value> {
        let mut value = root;
        for step in &self.steps {
            value = match step {
                PathStep::Member(name) if value.is_array() => {
                    value.get_mut(name.parse::<usize>().ok()?)?
                }
                PathStep::Key(name) | PathStep::Member(name) => value.get_mut(name)?,
                PathStep::Index(index) => value.get_mut(*index)?,
                PathStep::Each | PathStep::Where { .. } => return None,
            };
        }
        Some(value.take())
    }

    /// Splits a path at its first `[]`: the list, and what follows in each element.
    pub(super) fn split_at_each(&self) -> (Self, Option<Self>) {
        let at = self.steps.iter().position(|step| *step == PathStep::Each);
        match at.map(|at| self.steps.split_at(at)) {
            Some((list, below)) => (self.part(list), Some(self.part(&below[1..]))),
            None => (self.clone(), None),
        }
    }

    /// Some of its steps.
    fn part(&self, steps: &[PathStep]) -> Self {
        Self {
            steps: steps.to_vec(),
            source: self.source.clone(),
        }
    }

    /// Whether it is the whole value.
    pub(super) fn is_whole(&self) -> bool {
        self.steps.is_empty()
    }

    /// The path without its last step.
    pub(super) fn parent(&self) -> Self {
        let (_, steps) = self.steps.split_last().unwrap_or((&PathStep::Each, &[]));
        self.part(steps)
    }

    /// The first key, and the path below it.
    pub(super) fn split_first_key(&self) -> Option<(String, Self)> {
        let (PathStep::Key(key), rest) = self.steps.split_first()? else {
            return None;
        };
        Some((key.clone(), self.part(rest)))
    }

    /// The steps as they are found in replies.
    pub(super) fn reach(&self) -> Vec<ReachStep> {
        self.steps.iter().map(PathStep::reach).collect()
    }

    /// The same, and after it the members that `[key=value]` compares.
    pub(super) fn all_reached(&self) -> Vec<Vec<ReachStep>> {
        let compared = self.steps.iter().enumerate().filter_map(|(n, step)| {
            let PathStep::Where { key, .. } = step else {
                return None;
            };
            let mut steps: Vec<ReachStep> = self.steps[..=n].iter().map(PathStep::reach).collect();
            steps.push(ReachStep::Key(key.clone()));
            Some(steps)
        });
        [self.reach()].into_iter().chain(compared).collect()
    }

    /// The names of `for` and of settings that the path reads.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.steps.iter().filter_map(|step| match step {
            PathStep::Where { value, .. } => Some(value),
            _ => None,
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Something that is not an object is on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotThere;

impl PathStep {
    fn key(key: &str) -> Self {
        Self::Key(key.to_owned())
    }

    fn member(name: &str) -> Self {
        Self::Member(name.to_owned())
    }

    /// What it leads to, if that is one value.
    fn get<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Member(name) => member(value, name),
            Self::Key(key) => value.get(key),
            Self::Index(index) => value.get(index),
            Self::Each | Self::Where { .. } => None,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Member(name) | Self::Key(name) => Some(name),
            Self::Index(_) | Self::Each | Self::Where { .. } => None,
        }
    }

    fn reach(&self) -> ReachStep {
        let key = self.name().map(str::to_owned);
        key.map_or(ReachStep::Item, ReachStep::Key)
    }

    fn follow<'v>(&self, value: &'v Value, names: &impl PathNames, found: &mut Vec<&'v Value>) {
        match self {
            Self::Key(key) => found.extend(value.get(key)),
            Self::Member(name) => found.extend(member(value, name)),
            Self::Index(index) => found.extend(value.get(index)),
            Self::Each => found.extend(value.as_array().into_iter().flatten()),
            Self::Where { key, value: wanted } => {
                let texts = names.texts(wanted);
                let is_wanted = |item: &&Value| {
                    let found = text(item.get(key));
                    !found.is_empty() && texts.contains(&found)
                };
                found.extend(value.as_array().into_iter().flatten().filter(is_wanted));
            }
        }
    }
}

/// A member of an object, or an element of a list by its number.
fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    }
}

/// Parses one step, and returns the rest.
fn step<'s>(source: &'s str, steps: &mut Vec<PathStep>) -> Result<&'s str, PathError> {
    if let Some(bracket) = source.strip_prefix('[') {
        return bracketed(bracket, steps);
    }
    let (key, rest) = match source.strip_prefix('"') {
        Some(quoted) => {
            let key = quoted.split_once('"');
            key.ok_or(PathError("a quotation mark is missing"))?
        }
        None => bare_key(source)?,
    };
    steps.push(PathStep::key(key));
    Ok(rest)
}

/// A key without quotation marks, and the rest.
fn bare_key(source: &str) -> Result<(&str, &str), PathError> {
    let end = source.find(['.', '[']).unwrap_or(source.len());
    let (key, rest) = source.split_at(end);
    let is_odd = |c: char| c.is_whitespace() || matches!(c, '"' | '{' | '}' | ']' | '|' | '=');
    if key.is_empty() || key.contains(is_odd) {
        return Err(PathError(
            "a key is expected; put a key with spaces or special characters in quotation marks",
        ));
    }
    Ok((key, rest))
}

fn bracketed<'s>(source: &'s str, steps: &mut Vec<PathStep>) -> Result<&'s str, PathError> {
    let closed = source.split_once(']');
    let (inner, rest) = closed.ok_or(PathError("a closing bracket is missing"))?;
    steps.push(selection(inner)?);
    Ok(rest)
}

/// What stands between brackets.
fn selection(inner: &str) -> Result<PathStep, PathError> {
    let Some((key, value)) = inner.split_once('=') else {
        if inner.is_empty() {
            return Ok(PathStep::Each);
        }
        let index = inner.parse().map(PathStep::Index);
        let fault = PathError("nothing, a number or key=value is expected between the brackets");
        return index.map_err(|_| fault);
    };
    if key.is_empty() {
        return Err(PathError("a key is expected before ="));
    }
    Ok(PathStep::Where {
        key: key.to_owned(),
        value: value.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str, value: &Value) -> Vec<Value> {
        let path = Path::parse(path).unwrap();
        path.all(value, &NoNames).into_iter().cloned().collect()
    }

    #[test]
    fn a_path_names_members_elements_and_chosen_elements() {
        let value = json!({
            "a": {"b": 1}, "odd.key": 2, "list": [{"k": "x", "v": 3}, {"k": "y", "v": 4}, null],
            "rows": [[5], [6]]
        });
        for (path, expected) in [
            ("a.b", json!([1])),
            ("\"odd.key\"", json!([2])),
            ("list[].v", json!([3, 4])),
            ("list[1].k", json!(["y"])),
            ("list[k=y].v", json!([4])),
            ("list[k=z].v", json!([])),
            ("rows[][0]", json!([5, 6])),
            ("a.b.c", json!([])),
            ("list.v", json!([])),
            ("list[9]", json!([])),
        ] {
            assert_eq!(Value::Array(found(path, &value)), expected, "{path}");
        }
        assert_eq!(found(".", &json!([1])), [json!([1])]);
    }

    #[test]
    fn a_dotted_path_names_members_and_numbered_elements_null_included() {
        let value = json!({"a": [{"b": null}, {"0": "zero"}], "x.y": 1});
        for (path, expected) in [
            ("$", Some(value.clone())),
            ("", Some(value.clone())),
            ("a.0.b", Some(Value::Null)),
            ("a.1.0", Some(json!("zero"))),
            ("a.2", None),
            ("a.-1", None),
            ("a.length", None),
            ("x.y", None),
            ("a..b", None),
        ] {
            let path = Path::dotted(path);
            assert_eq!(path.get(&value).cloned(), expected, "{path}");
            let taken = path.take(&mut value.clone());
            assert_eq!(taken, expected, "{path}");
        }
        let below = Path::dotted("body.a.1").below("body").unwrap();
        assert_eq!(below.get(&value), Some(&json!({"0": "zero"})));
        assert_eq!(Path::dotted("data.a").below("body"), None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [
            "",
            "a..b",
            ".a",
            "a.",
            "a b",
            "a[",
            "a[x]",
            "a[=x]",
            "a]",
            "\"a",
            "a\"b\"",
            "a[k={{text}}]",
        ] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
        assert!(Path::parse(&"a".repeat(257)).is_err());
    }
}
