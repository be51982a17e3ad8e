//! A CRM's reply as JSON, within limits.
//!
//! The size of a reply is limited before it comes here, but a small text can make a large tree (`[[],[],[],…`), and a
//! deep one ends the program where the tree is walked or dropped by recursion. So both are counted while it is read.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::domain::error::BadReply;

/// Lists and objects within each other. CRMs nest fewer than ten.
const DEPTH: u32 = 32;

/// Values in one reply, members of objects and elements of lists included: a page of 500 records with 200 fields each.
/// One takes some 100 bytes.
const VALUES: u32 = 100_000;

/// Reads one JSON text.
pub(super) fn parse(text: &[u8]) -> Result<Value, BadReply> {
    let limits = Limits { values: Cell::new(VALUES), exceeded: Cell::new(false) };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Reader { limits: &limits, depth: DEPTH }.deserialize(&mut reader);
    value
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|_| if limits.exceeded.get() { BadReply::TooComplex } else { BadReply::NotJson })
}

struct Limits {
    /// How many more values may come.
    values: Cell<u32>,
    exceeded: Cell<bool>,
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Reader<'a> {
    limits: &'a Limits,
    /// How many more levels may come.
    depth: u32,
}

impl Reader<'_> {
    fn exceeded<E: Error>(&self) -> E {
        self.limits.exceeded.set(true);
        E::custom("over a limit")
    }

    fn inside<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| self.exceeded())?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let left = self.limits.values.get().checked_sub(1).ok_or_else(|| self.exceeded())?;
        self.limits.values.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(Value::Bool(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(inside)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut members = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            members.insert(name, object.next_value_seed(inside)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(open: &str, close: &str, levels: usize) -> String {
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    }

    #[test]
    fn nesting_has_an_end() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert!(parse(nested(open, close, 32).as_bytes()).is_ok());
            assert_eq!(parse(nested(open, close, 33).as_bytes()), Err(BadReply::TooComplex));
            assert_eq!(parse(nested(open, close, 1_000_000).as_bytes()), Err(BadReply::TooComplex));
            assert_eq!(parse(open.repeat(1_000_000).as_bytes()), Err(BadReply::TooComplex), "never closed");
        }
    }

    #[test]
    fn a_small_text_does_not_become_a_large_tree() {
        let elements = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
        assert!(parse(elements(99_999).as_bytes()).is_ok());
        assert_eq!(parse(elements(100_000).as_bytes()), Err(BadReply::TooComplex));
        let members: Vec<String> = (0..100_000).map(|n| format!("\"{n}\":1,")).collect();
        assert_eq!(parse(format!("{{{}\"z\":1}}", members.concat()).as_bytes()), Err(BadReply::TooComplex));
        let same = format!("{{{}\"z\":1}}", "\"a\":1,".repeat(100_000));
        assert_eq!(parse(same.as_bytes()), Err(BadReply::TooComplex), "a name that repeats counts each time");
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for text in
            ["", " ", "{", "[1,", "{\"a\"}", "nul", "{} {}", "[1]x", "\"\\ud800\"", "1e999", "<html>", "\u{feff}{}"]
        {
            assert_eq!(parse(text.as_bytes()), Err(BadReply::NotJson), "{text:?}");
        }
        assert_eq!(parse(b"\"\xff\""), Err(BadReply::NotJson));
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(text in "[\\[\\]{}\",:0-9a\\\\ .e-]{0,40}") {
            prop_assert_eq!(parse(text.as_bytes()).ok(), serde_json::from_str::<Value>(&text).ok());
        }

        #[test]
        fn bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
