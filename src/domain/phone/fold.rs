//! Replaces the many kinds of digits, spaces and dashes from keyboards, web pages and contact cards
//! with one kind.

use std::borrow::Cow;

use super::MAX_SPELLING;

/// The text with ASCII digits, spaces and dashes instead of other kinds, and without invisible
/// characters.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii() && !matches!(byte, b'_' | b'\'' | b'&' | b'\t');
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = entity(rest) {
            folded.push(' ');
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        folded.extend(folded_char(c));
    }
    Cow::Owned(folded)
}

/// The rest of `text` after an HTML entity at its start. The entities in phone fields are spaces.
fn entity(text: &str) -> Option<&str> {
    const LONGEST: usize = 8;
    let (name, after) = text.strip_prefix('&')?.split_once(';')?;
    let mut chars = name.chars();
    let is_name = chars.all(|c| c.is_ascii_alphanumeric() || c == '#');
    (is_name && (1..=LONGEST).contains(&name.len())).then_some(after)
}

fn folded_char(c: char) -> Option<char> {
    match c {
        '_' | '\'' | '\u{2019}' | '\t' => Some(' '),
        '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some('\n'),
        _ if is_invisible(c) => None,
        '\u{2010}'..='\u{2015}'
        | '\u{2212}'
        | '\u{fe58}'
        | '\u{fe63}'
        | '\u{ff0d}'
        | '\u{30fc}' => Some('-'),
        // Full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        _ if c.is_ascii() => Some(c),
        _ if c.is_whitespace() => Some(' '),
        _ => Some(digit(c).unwrap_or(c)),
    }
}

/// Direction and joining marks, and others that print nothing.
fn is_invisible(c: char) -> bool {
    let marks = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
    marks || matches!(c, '\u{2060}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// The ASCII digit for a decimal digit of another script. In Unicode the ten digits of a script are
/// consecutive.
fn digit(c: char) -> Option<char> {
    const ZEROS: [u32; 20] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50,
        0xed0, 0xf20, 0x1040, 0x17e0, 0x1810, 0x1d7ce, 0x1d7f6,
    ];
    let value = ZEROS
        .iter()
        .map(|zero| u32::from(c).wrapping_sub(*zero))
        .find(|value| *value < 10)?;
    char::from_digit(value, 10)
}

/// The first bytes of a field, as many as a spelling may have.
pub(super) fn beginning(field: &str) -> &str {
    let mut end = field.len().min(MAX_SPELLING);
    while !field.is_char_boundary(end) {
        end -= 1;
    }
    &field[..end]
}
