//! Reads JSON as a tree whose every value knows its place.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Number, Value};

use super::tree::{KeyValue, Node, NodeValue, Place, SpecFault, below, item};

/// Reads JSON.
///
/// # Errors
/// One fault, where it stops being JSON.
pub(super) fn of_json(source: &str) -> Result<Node, Vec<SpecFault>> {
    // Only sound JSON that is not nested too deeply is read below.
    if let Err(error) = serde_json::from_str::<Value>(source) {
        return Err(vec![fault(source, &error)]);
    }
    let mut reader = JsonReader { source, at: 0 };
    Ok(reader
        .value(String::new())
        .unwrap_or_else(|| Node::empty_table("")))
}

/// What is wrong with JSON, and where.
fn fault(source: &str, error: &serde_json::Error) -> SpecFault {
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    let lines = source.split_inclusive('\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let mut at = (before + error.column().saturating_sub(1)).min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    SpecFault::at(at..at + 1, format!("is not JSON: {words}"))
}

/// Walks through sound JSON.
struct JsonReader<'s> {
    source: &'s str,
    at: usize,
}

impl JsonReader<'_> {
    fn value(&mut self, path: String) -> Option<Node> {
        self.skip_blanks();
        let start = self.at;
        let value = match self.peek()? {
            b'{' => NodeValue::Table(self.members(&path)?),
            b'[' => NodeValue::List(self.items(&path)?),
            b'"' => NodeValue::Text(self.text()?),
            _ => self.word()?,
        };
        Some(Node {
            place: place(path, start..self.at),
            value,
        })
    }

    fn members(&mut self, path: &str) -> Option<Vec<KeyValue>> {
        let mut members: Vec<KeyValue> = Vec::new();
        self.at += 1;
        while !self.ends_with(b'}')? {
            let start = self.at;
            let key = self.text()?;
            let span = start..self.at;
            self.ends_with(b':')?;
            let path = below(path, &key);
            let node = self.value(path.clone())?;
            let place = place(path, span);
            members.push(KeyValue { key, place, node });
        }
        Some(last_of_each(members))
    }

    fn items(&mut self, path: &str) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        self.at += 1;
        while !self.ends_with(b']')? {
            items.push(self.value(item(path, items.len()))?);
        }
        Some(items)
    }

    /// Skips blanks and a comma. Returns whether `mark` follows, and skips it.
    fn ends_with(&mut self, mark: u8) -> Option<bool> {
        self.skip_blanks();
        if self.peek()? == b',' {
            self.at += 1;
            self.skip_blanks();
        }
        let ends = self.peek()? == mark;
        self.at += usize::from(ends);
        Some(ends)
    }

    fn text(&mut self) -> Option<String> {
        let start = self.at;
        self.at += 1;
        while self.peek()? != b'"' {
            self.at += if self.peek()? == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        serde_json::from_str(self.source.get(start..self.at)?).ok()
    }

    /// A number, true, false or null.
    fn word(&mut self) -> Option<NodeValue> {
        let start = self.at;
        let is_end = |byte: u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
        while self.peek().is_some_and(|byte| !is_end(byte)) {
            self.at += 1;
        }
        Some(match self.source.get(start..self.at)? {
            "null" => NodeValue::Null,
            "true" => NodeValue::Bool(true),
            "false" => NodeValue::Bool(false),
            number => NodeValue::Number(serde_json::from_str::<Number>(number).ok()?),
        })
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.at).copied()
    }
}

/// Of equal keys the last one counts, as in JavaScript.
fn last_of_each(members: Vec<KeyValue>) -> Vec<KeyValue> {
    let mut seen = HashSet::new();
    let last_first = members.into_iter().rev();
    let mut members: Vec<KeyValue> = last_first
        .filter(|member| seen.insert(member.key.clone()))
        .collect();
    members.reverse();
    members
}

fn place(path: String, span: Range<usize>) -> Place {
    Place {
        path,
        span: Some(span),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The tree without its places.
    fn plain(node: &Node) -> Value {
        match &node.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(on) => (*on).into(),
            NodeValue::Number(number) => number.clone().into(),
            NodeValue::Text(text) => text.as_str().into(),
            NodeValue::List(items) => items.iter().map(plain).collect(),
            NodeValue::Table(entries) => {
                let member = |entry: &KeyValue| (entry.key.clone(), plain(&entry.node));
                Value::Object(entries.iter().map(member).collect())
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[ -~]{0,5}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_read_as_it_is(value in any_json()) {
            for source in [value.to_string(), format!("\n {value:#} \n")] {
                let tree = of_json(&source).unwrap();
                let expected: Value = serde_json::from_str(&source).unwrap();
                prop_assert_eq!(plain(&tree), expected);
            }
        }
    }

    #[test]
    fn values_keys_and_faults_have_places() {
        let source = "{\n  \"a\": [1, {\"é\": \"x\"}],\n  \"a\": [true, {\"b\": 2}]\n}";
        let tree = of_json(source).unwrap();
        assert_eq!(plain(&tree), json!({"a": [true, {"b": 2}]}));
        let NodeValue::Table(entries) = &tree.value else {
            panic!()
        };
        let NodeValue::List(items) = &entries[0].node.value else {
            panic!()
        };
        let NodeValue::Table(inner) = &items[1].value else {
            panic!()
        };
        let fault = super::super::tree::Faults::default();
        fault.add(&inner[0].node.place, "is wrong");
        let fault = fault.sorted().remove(0);
        assert_eq!(
            (fault.key(), fault.position(source)),
            ("a[1].b", Some((3, 21)))
        );
        let source = "{\"a\": 1,\n \"b\" 2}";
        let fault = of_json(source).unwrap_err().remove(0);
        assert_eq!(fault.position(source), Some((2, 6)));
    }

    /// A path for each value would otherwise take the square of the file's size.
    #[test]
    fn a_long_key_is_not_repeated_in_the_path_of_every_value() {
        let source = format!(
            "{{\"{}\": [{}]}}",
            "é".repeat(20_000),
            vec!["0"; 10_000].join(",")
        );
        let NodeValue::Table(members) = of_json(&source).unwrap().value else {
            panic!()
        };
        let NodeValue::List(items) = &members[0].node.value else {
            panic!()
        };
        assert!(items.iter().all(|item| item.place.path.len() < 300));
        // One line of 60 KB is shown around the fault.
        let fault = of_json(&source.replace(']', "")).unwrap_err().remove(0);
        let shown = fault.explain(&source);
        assert!(shown.len() < 1_000 && shown.contains("0,0"), "{shown}");
    }

    #[test]
    fn deep_nesting_is_a_fault() {
        let source = "[".repeat(60_000);
        assert!(of_json(&source).is_err());
    }
}
