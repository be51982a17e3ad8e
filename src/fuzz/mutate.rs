//! Changes inputs with their structure in mind: JSON by its values, files by their lines, protobuf
//! by its fields. Plain bytes are changed as well; libFuzzer does that by itself.

use fastrand::Rng;
use prost::encoding::{decode_varint, encode_varint};
use serde_json::Value;

/// What parsers tend to stumble over. The other texts that are inserted are parts of the input.
const TOKENS: [&str; 40] = [
    "\0",
    "\n",
    "\r\n",
    "\u{feff}",
    "\u{202e}",
    "\u{ff0b}",
    "é",
    "😀",
    "\\ud800",
    "\"",
    "\"\"\"",
    "'",
    "\\",
    "{{",
    "}}",
    "{",
    "}",
    "[",
    "]",
    "[]",
    "[0]",
    "[a=b]",
    "|",
    ".",
    ",",
    ":",
    ";",
    "=",
    "#",
    "%",
    "&",
    "+",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "null",
    "true",
    "{{setting.a}}",
    "ext 42",
];

/// Another input like this one, of at most `most` bytes. The same seed makes the same one.
#[must_use]
pub fn mutated(data: &[u8], most: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut changed = data.to_vec();
    for _ in 0..rng.usize(1..4) {
        changed = match rng.u8(..8) {
            0 | 1 => json(&changed, &mut rng),
            2 | 3 => lines(&changed, &mut rng),
            4 => fields(&changed, &mut rng),
            5 => token(&changed, &mut rng),
            6 if rng.u8(..8) == 0 => repeated(&changed, most, &mut rng),
            _ => bytes(&changed, &mut rng),
        };
        changed.truncate(most);
    }
    changed
}

fn position(data: &[u8], rng: &mut Rng) -> usize {
    rng.usize(..=data.len())
}

/// A part of the data, in most cases a short one.
fn part<'d>(data: &'d [u8], rng: &mut Rng) -> &'d [u8] {
    let start = position(data, rng);
    let most = if rng.bool() { 8 } else { data.len() };
    let end = data.len().min(start + rng.usize(..=most));
    &data[start..end]
}

fn bytes(data: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut changed = data.to_vec();
    match (rng.u8(..4), changed.len()) {
        (_, 0) | (0, _) => changed.insert(position(data, rng), rng.u8(..)),
        (1, length) => changed[rng.usize(..length)] ^= 1 << rng.u8(..8),
        (2, length) => changed[rng.usize(..length)] = rng.u8(..),
        (_, length) => {
            let start = rng.usize(..length);
            let end = length.min(start + rng.usize(1..9));
            changed.drain(start..end);
        }
    }
    changed
}

/// With a word, or a part of itself, at some place.
fn token(data: &[u8], rng: &mut Rng) -> Vec<u8> {
    let at = position(data, rng);
    let inserted = match rng.choice(TOKENS) {
        Some(token) if rng.bool() => token.as_bytes(),
        _ => part(data, rng),
    };
    [&data[..at], inserted, &data[at..]].concat()
}

/// Repeats a part of the input as often as there is room. Code that takes quadratic time is slow
/// with it.
fn repeated(data: &[u8], most: usize, rng: &mut Rng) -> Vec<u8> {
    let at = position(data, rng);
    let part = part(data, rng);
    let room = most.saturating_sub(data.len());
    let times = room / part.len().max(1);
    [&data[..at], &part.repeat(times), &data[at..]].concat()
}

/// Lines left out, repeated, moved, or with the value of another one.
fn lines(data: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.len() < 2 {
        return token(data, rng);
    }
    let [one, other] = [(); 2].map(|()| rng.usize(..lines.len()));
    match rng.u8(..4) {
        0 => {
            lines.remove(one);
        }
        1 => lines.insert(other, lines[one]),
        2 => lines.swap(one, other),
        _ => {
            let value = |line: &[u8]| line.iter().position(|byte| *byte == b'=');
            if let (Some(of_one), Some(of_other)) = (value(lines[one]), value(lines[other])) {
                let joined = [&lines[one][..of_one], &lines[other][of_other..]].concat();
                return [lines[..one].concat(), joined, lines[one + 1..].concat()].concat();
            }
        }
    }
    lines.concat()
}

/// The JSON at the end of an input, with a value replaced, repeated or left out.
fn json(data: &[u8], rng: &mut Rng) -> Vec<u8> {
    let begins = [
        0,
        1,
        2,
        data.iter()
            .position(|byte| *byte == 0)
            .map_or(0, |at| at + 1),
    ];
    for at in begins {
        let Some((head, text)) = data.split_at_checked(at) else {
            continue;
        };
        if let Ok(mut value) = serde_json::from_slice::<Value>(text) {
            let count = count(&value);
            let copy = node(&mut value.clone(), &mut rng.usize(..count)).clone();
            let changed = node(&mut value, &mut rng.usize(..count));
            change(changed, copy, rng);
            return [head, value.to_string().as_bytes()].concat();
        }
    }
    bytes(data, rng)
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The value with this number in a tree.
fn node<'v>(value: &'v mut Value, number: &mut usize) -> &'v mut Value {
    if *number == 0 {
        return value;
    }
    *number -= 1;
    let inner: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => Vec::new(),
    };
    for inner in inner {
        let size = count(inner);
        if *number < size {
            return node(inner, number);
        }
        *number -= size;
    }
    unreachable!("numbers are below the count")
}

fn change(value: &mut Value, copy: Value, rng: &mut Rng) {
    const TEXTS: [&str; 8] = [
        "",
        " ",
        "7",
        "+16505550101",
        "a\tb",
        "\u{202e}",
        "2026-01-01T00:00:00Z",
        "'",
    ];
    *value = match (rng.u8(..8), value.take()) {
        (0, _) => Value::Null,
        (1, _) => rng.choice(TEXTS).into(),
        (2, _) => rng
            .choice([0.0, -1.0, 7.5, 1e300, 9_007_199_254_740_993.0])
            .into(),
        (3, kept) => Value::Array(vec![kept, copy]),
        (4, Value::Array(mut items)) if !items.is_empty() => {
            items.truncate(rng.usize(..items.len()));
            Value::Array(items)
        }
        (5, Value::Object(mut members)) if !members.is_empty() => {
            let name = members.keys().nth(rng.usize(..members.len())).cloned();
            members.shift_remove(&name.unwrap_or_default());
            Value::Object(members)
        }
        (6, Value::Array(items)) => Value::Array([items.clone(), items].concat()),
        _ => copy,
    };
}

/// Protobuf after the first byte, with a field left out, repeated, moved, renumbered or with other
/// content.
fn fields(data: &[u8], rng: &mut Rng) -> Vec<u8> {
    let (head, message) = data.split_at(data.len().min(1));
    let mut fields = fields_of(message);
    if fields.is_empty() {
        return bytes(data, rng);
    }
    let [one, other] = [(); 2].map(|()| rng.usize(..fields.len()));
    match rng.u8(..5) {
        0 => {
            fields.remove(one);
        }
        1 => fields.insert(other, fields[one].clone()),
        2 => fields.swap(one, other),
        3 => fields[one][0] = rng.u8(..),
        _ => fields[one] = within(&fields[one], rng),
    }
    [head, &fields.concat()].concat()
}

/// The fields of a message, up to the first bytes that are not a field.
fn fields_of(mut message: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = Vec::new();
    while let Some((&key, mut rest)) = message.split_first() {
        let content = match key & 7 {
            0 => decode_varint(&mut rest).map(|_| 0),
            1 => Ok(8),
            2 => decode_varint(&mut rest),
            5 => Ok(4),
            _ => Ok(0),
        };
        let content = content
            .ok()
            .and_then(|content| usize::try_from(content).ok());
        let Some(after) = content.and_then(|content| rest.get(content..)) else {
            break;
        };
        fields.push(message[..message.len() - after.len()].to_vec());
        message = after;
    }
    fields
}

/// A field with other content, whose length prefix is correct.
fn within(field: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut content = &field[1..];
    if field[0] & 7 != 2 || decode_varint(&mut content).is_err() {
        return bytes(field, rng);
    }
    let changed = match rng.u8(..3) {
        0 => fields(&[&[0], content].concat(), rng)
            .into_iter()
            .skip(1)
            .collect(),
        1 => token(content, rng),
        _ => bytes(content, rng),
    };
    let mut whole = vec![field[0]];
    encode_varint(changed.len() as u64, &mut whole);
    whole.extend(changed);
    whole
}
