//! Repairs a reply that is not quite JSON: one odd record must not hide all others.
//!
//! What people typed into a CRM comes back through exports, old databases and hand-written
//! serializers. So a text may contain half a surrogate pair, a raw tab, or a byte that is not
//! UTF-8, or the whole reply may be in another encoding. What has a meaning is kept (a raw tab is a
//! tab), what has none becomes U+FFFD, and the rest of the reply is unchanged. Only replies that
//! [`super::reply`] could not parse come here.

use std::fmt::Write as _;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use serde::de::IgnoredAny;

const UNREADABLE: char = '\u{fffd}';

/// The body as text. The encoding is chosen by the byte order mark first, then by the zero bytes of
/// UTF-16 (RFC 4627, 3). If the bytes are valid UTF-8, that comes next: RFC 8259 requires it, and
/// many servers declare another encoding than they send. The declared encoding is last.
pub(super) fn decode(body: &[u8], declared: Option<&'static Encoding>) -> String {
    let (encoding, mark) = Encoding::for_bom(body).unwrap_or_else(|| (unmarked(body, declared), 0));
    let (text, _) = encoding.decode_without_bom_handling(body.get(mark..).unwrap_or_default());
    text.into_owned()
}

fn unmarked(body: &[u8], declared: Option<&'static Encoding>) -> &'static Encoding {
    match body {
        [0, second, ..] if *second != 0 => UTF_16BE,
        [first, 0, ..] if *first != 0 => UTF_16LE,
        _ => {
            let declared = declared.unwrap_or(UTF_8);
            let is_utf8 = declared.is_ascii_compatible() && std::str::from_utf8(body).is_ok();
            if is_utf8 { UTF_8 } else { declared }
        }
    }
}

/// Returns the text with every string literal repaired. A number that a double would change becomes
/// a string literal. `None` if the result exceeds `limit` bytes.
pub(super) fn mend(text: &str, limit: usize) -> Option<String> {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => {
                in_string = !in_string;
                copy(rest, 1, &mut mended)
            }
            _ if in_string => mend_string(first, rest, &mut mended)?,
            _ => mend_value(first, rest, &mut mended),
        };
        if mended.len() > limit {
            return None;
        }
        rest = rest.get(taken..)?;
    }
    Some(mended)
}

/// Continues inside a string literal. Returns how many bytes were read.
fn mend_string(first: char, rest: &str, mended: &mut String) -> Option<usize> {
    let taken = match first {
        '\\' => escape(rest, mended),
        control @ '\0'..='\u{1f}' => {
            write!(mended, "\\u{:04x}", u32::from(control)).ok()?;
            1
        }
        _ => {
            let plain = run(rest, |c| c == '"' || c == '\\' || c < ' ');
            copy(rest, plain, mended)
        }
    };
    Some(taken)
}

/// Continues outside of string literals. Returns how many bytes were read.
fn mend_value(first: char, rest: &str, mended: &mut String) -> usize {
    if begins_number(first) {
        return number(rest, mended);
    }
    copy(rest, run(rest, |c| c == '"' || begins_number(c)), mended)
}

fn begins_number(c: char) -> bool {
    matches!(c, '-' | '0'..='9' | 'N' | 'I')
}

/// The number of bytes before the end of a run.
fn run(rest: &str, ends: impl Fn(char) -> bool) -> usize {
    rest.find(ends).unwrap_or(rest.len())
}

fn copy(rest: &str, bytes: usize, mended: &mut String) -> usize {
    mended.push_str(rest.get(..bytes).unwrap_or_default());
    bytes
}

/// An escape sequence (RFC 8259, 7), or U+FFFD for an invalid one.
fn escape(rest: &str, mended: &mut String) -> usize {
    let length = match rest.as_bytes().get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
        Some(b'u') => match (utf16(rest, 0), utf16(rest, 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mended.push(UNREADABLE);
                return 6;
            }
            (Some(_), _) => 6,
            (None, _) => 0,
        },
        _ => 0,
    };
    if length == 0 {
        mended.push(UNREADABLE);
        return 1;
    }
    copy(rest, length, mended)
}

/// The code unit of the `\uXXXX` at this position.
fn utf16(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

fn number(rest: &str, mended: &mut String) -> usize {
    // What some serializers write for doubles that are not numbers.
    if let Some(none) = ["NaN", "Infinity", "-Infinity"]
        .into_iter()
        .find(|none| rest.starts_with(none))
    {
        mended.push_str("null");
        return none.len();
    }
    let length = run(rest, |c| {
        !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')
    })
    .max(1);
    let number = rest.get(..length).unwrap_or_default();
    if is_changed_by_a_double(number) {
        mended.extend(["\"", number, "\""]);
        length
    } else {
        copy(rest, length, mended)
    }
}

/// Returns whether it is a number, but no 64-bit integer, and its double prints differently.
fn is_changed_by_a_double(number: &str) -> bool {
    let is_integer = !number.contains(['.', 'e', 'E']);
    if is_integer && (number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok()) {
        return false;
    }
    let is_number = serde_json::from_str::<IgnoredAny>(number).is_ok();
    is_number
        && (is_integer
            || !number
                .parse::<f64>()
                .is_ok_and(|double| digits(number) == digits(&format!("{double:e}"))))
}

/// The significant digits of a number.
fn digits(number: &str) -> String {
    let digits = number
        .chars()
        .take_while(|c| !matches!(c, 'e' | 'E'))
        .filter(char::is_ascii_digit);
    digits.collect::<String>().trim_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const ROOM: usize = 1 << 20;

    #[test]
    fn string_literals_are_put_in_order() {
        for (text, expected) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""\udc00""#, "\u{fffd}"),
            (r#""A\ud800\ud800B""#, "A\u{fffd}\u{fffd}B"),
            (r#""\udc00\ud800""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ud83dx\ude00""#, "\u{fffd}x\u{fffd}"),
            (r#""\uD83D\u""#, "\u{fffd}\u{fffd}u"),
            (r#""\u12""#, "\u{fffd}u12"),
            (r#""\u+123""#, "\u{fffd}u+123"),
            (r#""\u12é""#, "\u{fffd}u12é"),
            (r#""\'\x""#, "\u{fffd}'\u{fffd}x"),
            (r#""\\ud800""#, r"\ud800"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            ("\"a\tb\u{0}c\nd\u{1f}\"", "a\tb\u{0}c\nd\u{1f}"),
            ("\"\\\t\"", "\u{fffd}\t"),
            ("\"-1e999\"", "-1e999"),
        ] {
            let mended = mend(text, ROOM).unwrap();
            assert_eq!(
                serde_json::from_str::<String>(&mended).ok().as_deref(),
                Some(expected),
                "{text:?}: {mended}"
            );
        }
    }

    #[test]
    fn numbers_that_a_double_would_change_become_texts() {
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            "100000000000000000000",
            "9007199254740993.0",
            "1e999",
            "-1e999",
            "1e-999",
            "0.12345678901234567891",
            "123456789.123456789123",
        ] {
            assert_eq!(mend(number, ROOM).unwrap(), format!("\"{number}\""));
        }
        for same in [
            "0",
            "-0",
            "7",
            "7.0",
            "0.1",
            "1.50",
            "-1.5e3",
            "1E+5",
            "1e300",
            "5e-324",
            "18446744073709551615",
            "9007199254740993",
            "-9223372036854775808",
            "0.30000000000000004",
            "9007199254740992.0",
            "--1e999",
            "01e999",
            "1.e999",
            "-",
            "1-18446744073709551616",
            "[1,-2,{\"3\":4.5}]",
        ] {
            assert_eq!(mend(same, ROOM).unwrap(), same);
        }
    }

    #[test]
    fn doubles_that_are_no_numbers_are_null() {
        let odd = r#"{"a": NaN, "b": [Infinity,-Infinity], "NaN": "NaN Infinity"}"#;
        let expected = r#"{"a": null, "b": [null,null], "NaN": "NaN Infinity"}"#;
        assert_eq!(mend(odd, ROOM).unwrap(), expected);
        for same in ["I", "Nan", "[Id]", "-", "-Inf"] {
            assert_eq!(mend(same, ROOM).unwrap(), same);
        }
    }

    #[test]
    fn the_encoding_is_found_by_mark_zeros_bytes_and_declaration() {
        let latin1 = encoding_rs::WINDOWS_1252;
        let utf16 = |order: fn(u16) -> [u8; 2], text: &str| {
            text.encode_utf16().flat_map(order).collect::<Vec<u8>>()
        };
        let text = "{\"name\":\"Zoë\"}";
        for (body, declared) in [
            (text.into(), None),
            (text.into(), Some(latin1)),
            (format!("\u{feff}{text}").into(), Some(latin1)),
            (b"{\"name\":\"Zo\xeb\"}".to_vec(), Some(latin1)),
            (utf16(u16::to_le_bytes, text), None),
            (utf16(u16::to_be_bytes, text), None),
            (utf16(u16::to_be_bytes, text), Some(UTF_16LE)),
            (
                utf16(u16::to_le_bytes, &format!("\u{feff}{text}")),
                Some(latin1),
            ),
            (utf16(u16::to_be_bytes, &format!("\u{feff}{text}")), None),
        ] {
            assert_eq!(decode(&body, declared), text, "{body:?} {declared:?}");
        }
        assert_eq!(decode(b"Zo\xeb", None), "Zo\u{fffd}");
        assert_eq!(decode(b"\x80", Some(latin1)), "€");
        assert_eq!(
            decode(b"\x1b$B$\"\x1b(B", Some(encoding_rs::ISO_2022_JP)),
            "あ"
        );
        assert_eq!(decode(b"", Some(latin1)), "");
    }

    #[test]
    fn mending_has_a_limit() {
        assert_eq!(
            mend(&format!("\"{}\"", "\t".repeat(100)), 602),
            Some(format!("\"{}\"", "\\u0009".repeat(100)))
        );
        assert_eq!(mend(&format!("\"{}\"", "\t".repeat(100)), 601), None);
    }

    proptest! {
        #[test]
        fn json_stays_what_it_is(text in "[\\[\\]{}\",:0-9a\\\\ .eu-]{0,40}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let mended: Value = serde_json::from_str(&mend(&text, ROOM).unwrap()).unwrap();
                let has_long_numbers = text.bytes().filter(u8::is_ascii_digit).count() > 15 || text.contains('e');
                prop_assert!(mended == value || has_long_numbers, "{text}: {mended}");
            }
        }

        #[test]
        fn any_string_literal_can_be_read(inner in "(\\PC|[\\x00-\\x1f]|\\\\ud[8-f]00|\\\\u|\\\\[a-z]){0,20}") {
            let inner = inner.replace('"', "").trim_end_matches('\\').to_owned();
            let mended = mend(&format!("\"{inner}\""), ROOM).unwrap();
            prop_assert!(serde_json::from_str::<String>(&mended).is_ok(), "{inner:?}: {mended}");
        }
    }
}
