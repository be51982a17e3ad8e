//! Parses a CRM's reply as JSON, within limits.
//!
//! The size of a reply is limited before it gets here. But a small text can become a large tree
//! (`[[],[],[],…`), and walking or dropping a deep tree by recursion overflows the stack. So values
//! and levels are counted while parsing.

use std::cell::Cell;
use std::fmt;

use encoding_rs::Encoding;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::mend;
use crate::domain::error::BadReply;

/// The most levels of lists and objects. CRMs nest fewer than ten.
const DEPTH: u32 = 32;

/// The most values in one reply, including members of objects and elements of lists. That is a page
/// of 500 records with 200 fields each. A value takes about 100 bytes.
const VALUES: u32 = 100_000;

/// The byte order mark of UTF-8, which RFC 8259 allows a parser to ignore.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses the body of a reply whose headers declared this encoding. If it is not valid JSON it is
/// repaired once, which may take `limit` bytes.
///
/// # Errors
/// [`BadReply`] with the limit that was exceeded, or that the body is not JSON.
pub(super) fn read(
    body: Vec<u8>,
    declared: Option<&'static Encoding>,
    limit: usize,
) -> Result<Value, BadReply> {
    match parse(body.strip_prefix(MARK).unwrap_or(&body)) {
        Ok(ParsedReply {
            value,
            changed: false,
        }) => return Ok(value),
        Err(BadReply::TooComplex) => return Err(BadReply::TooComplex),
        Ok(ParsedReply { changed: true, .. }) | Err(_) => {}
    }
    let text = mend::decode(&body, declared);
    drop(body);
    let mended = if text.len() > limit {
        None
    } else {
        mend::mend(&text, limit)
    };
    drop(text);
    parse(mended.ok_or(BadReply::TooLarge)?.as_bytes()).map(|parsed| parsed.value)
}

/// A JSON text as a tree.
#[derive(Debug, PartialEq)]
struct ParsedReply {
    value: Value,
    /// Whether a number may differ from the one in the text.
    changed: bool,
}

/// Reads one JSON text.
fn parse(text: &[u8]) -> Result<ParsedReply, BadReply> {
    let limits = TreeLimits {
        values: Cell::new(VALUES),
        exceeded: Cell::new(false),
        changed: Cell::new(false),
    };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = ValueReader {
        limits: &limits,
        depth: DEPTH,
    }
    .deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(ParsedReply {
            value,
            changed: limits.changed.get(),
        }),
        Err(_) if limits.exceeded.get() => Err(BadReply::TooComplex),
        Err(_) => Err(BadReply::NotJson),
    }
}

struct TreeLimits {
    /// How many more values are allowed.
    values: Cell<u32>,
    exceeded: Cell<bool>,
    /// Whether a double occurred that may stand for other numbers too.
    changed: Cell<bool>,
}

/// Returns whether a double may have been written with more digits than it can hold. A large one
/// may be an integer beyond 64 bits. Decimals of up to 15 digits are always exact.
fn may_be_changed(double: f64) -> bool {
    const FIRST_WITH_GAPS: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::float_cmp,
        reason = "if they are equal, the number has at most six decimals"
    )]
    let is_short = double.abs() < 1e9 && (double * 1e6).round() / 1e6 == double;
    !is_short && (double.abs() >= FIRST_WITH_GAPS || digits_of(double) > 15)
}

fn digits_of(double: f64) -> usize {
    let written = format!("{double:e}");
    let mantissa = written.bytes().take_while(|byte| *byte != b'e');
    mantissa.filter(u8::is_ascii_digit).count()
}

/// Reads one value.
#[derive(Clone, Copy)]
struct ValueReader<'a> {
    limits: &'a TreeLimits,
    /// How many more levels are allowed.
    depth: u32,
}

impl ValueReader<'_> {
    fn exceeded<E: Error>(&self) -> E {
        self.limits.exceeded.set(true);
        E::custom("over a limit")
    }

    fn inside<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| self.exceeded())?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for ValueReader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let left = self.limits.values.get().checked_sub(1);
        let left = left.ok_or_else(|| self.exceeded())?;
        self.limits.values.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueReader<'_> {
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
        if may_be_changed(number) {
            self.limits.changed.set(true);
        }
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
    use encoding_rs::WINDOWS_1252;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn nested(open: &str, close: &str, levels: usize) -> String {
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    }

    #[test]
    fn nesting_has_an_end() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert!(parse(nested(open, close, 32).as_bytes()).is_ok());
            assert_eq!(
                parse(nested(open, close, 33).as_bytes()),
                Err(BadReply::TooComplex)
            );
            assert_eq!(
                parse(nested(open, close, 1_000_000).as_bytes()),
                Err(BadReply::TooComplex)
            );
            assert_eq!(
                parse(open.repeat(1_000_000).as_bytes()),
                Err(BadReply::TooComplex),
                "never closed"
            );
        }
    }

    #[test]
    fn a_small_text_does_not_become_a_large_tree() {
        let elements = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
        assert!(parse(elements(99_999).as_bytes()).is_ok());
        assert_eq!(
            parse(elements(100_000).as_bytes()),
            Err(BadReply::TooComplex)
        );
        let members: Vec<String> = (0..100_000).map(|n| format!("\"{n}\":1,")).collect();
        assert_eq!(
            parse(format!("{{{}\"z\":1}}", members.concat()).as_bytes()),
            Err(BadReply::TooComplex)
        );
        let same = format!("{{{}\"z\":1}}", "\"a\":1,".repeat(100_000));
        assert_eq!(
            parse(same.as_bytes()),
            Err(BadReply::TooComplex),
            "a name that repeats counts each time"
        );
    }

    fn as_utf8(body: &[u8]) -> Result<Value, BadReply> {
        read(body.to_vec(), None, 1 << 20)
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for text in [
            "",
            " ",
            "{",
            "[1,",
            "{\"a\"}",
            "nul",
            "{} {}",
            "[1]x",
            "\"",
            "\u{0}",
            "<html>",
            "{}\u{feff}",
            "--1e999",
        ] {
            assert_eq!(as_utf8(text.as_bytes()), Err(BadReply::NotJson), "{text:?}");
        }
        for bytes in [
            &b"\xff"[..],
            b"{}\xff",
            b"\xff\xfe\0\0{\0\0\0",
            b"\0\0\0{",
            b"\xef\xbb\xbf",
            b"\xef\xbb{}",
        ] {
            assert_eq!(as_utf8(bytes), Err(BadReply::NotJson), "{bytes:?}");
        }
    }

    #[test]
    fn an_odd_text_is_replaced_and_its_neighbours_stay() {
        for (odd, expected) in [
            (&b"\\ud800x"[..], "\u{fffd}x"),
            (b"x\\udfff", "x\u{fffd}"),
            (b"A\tB", "A\tB"),
            (b"A\nB", "A\nB"),
            (b"A\0B", "A\0B"),
            (b"A\xffB", "A\u{fffd}B"),
            (b"Zo\xeb", "Zo\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xc3", "\u{fffd}"),
            (b"\\'", "\u{fffd}'"),
        ] {
            let body = [
                &b"{\"odd\": \""[..],
                odd,
                "\", \"good\": \"Zoë 😀\"}".as_bytes(),
            ]
            .concat();
            assert_eq!(
                as_utf8(&body),
                Ok(json!({"odd": expected, "good": "Zoë 😀"})),
                "{odd:?}"
            );
        }
    }

    #[test]
    fn declared_encodings_and_marks_are_read() {
        let zoe = json!({"name": "Zoë"});
        assert_eq!(
            read(b"{\"name\":\"Zo\xeb\"}".to_vec(), Some(WINDOWS_1252), 100),
            Ok(zoe.clone())
        );
        assert_eq!(
            read("\u{feff}{\"name\":\"Zoë\"}".into(), Some(WINDOWS_1252), 100),
            Ok(zoe.clone())
        );
        assert_eq!(
            read("{\"name\":\"Zoë\"}".into(), Some(WINDOWS_1252), 100),
            Ok(zoe.clone()),
            "not as declared"
        );
        let utf16 = "{\"name\":\"Zoë\"}"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        assert_eq!(read(utf16, None, 100), Ok(zoe));
        assert_eq!(
            read(
                [&b"\""[..], &[0xeb; 60], b"\""].concat(),
                Some(WINDOWS_1252),
                100
            ),
            Err(BadReply::TooLarge)
        );
    }

    #[test]
    fn numbers_that_a_double_would_change_are_texts() {
        for (number, expected) in [
            ("9007199254740993", json!(9_007_199_254_740_993_u64)),
            ("18446744073709551615", json!(u64::MAX)),
            ("18446744073709551616", json!("18446744073709551616")),
            ("18446744073709551617", json!("18446744073709551617")),
            ("-9223372036854775809", json!("-9223372036854775809")),
            ("9007199254740993.0", json!("9007199254740993.0")),
            ("1e999", json!("1e999")),
            ("0.12345678901234567", json!("0.12345678901234567")),
            ("0.30000000000000004", json!(0.300_000_000_000_000_04)),
            ("1e300", json!(1e300)),
            ("1234.56", json!(1234.56)),
        ] {
            assert_eq!(as_utf8(number.as_bytes()), Ok(expected), "{number}");
        }
    }

    #[test]
    fn the_limits_hold_for_what_is_mended() {
        let odd = |text: String| format!("[\"\\ud800\",{text}]");
        assert_eq!(
            as_utf8(odd(nested("[", "]", 32)).as_bytes()),
            Err(BadReply::TooComplex)
        );
        assert_eq!(
            as_utf8(odd("1,".repeat(100_000)).as_bytes()),
            Err(BadReply::TooComplex)
        );
        assert_eq!(
            as_utf8(odd(format!("\"{}\"", "\t".repeat(200_000))).as_bytes()),
            Err(BadReply::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(text in "[\\[\\]{}\",:0-9a\\\\ .e-]{0,40}") {
            let read = parse(text.as_bytes()).ok().map(|parsed| parsed.value);
            prop_assert_eq!(read, serde_json::from_str::<Value>(&text).ok());
        }
    }
}
