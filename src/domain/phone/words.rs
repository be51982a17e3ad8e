//! Texts that mean a withheld number, in the languages of telephones and on their keypads.

use std::fmt;
use std::str::FromStr;

use super::MAX_SPELLING;

/// Words that mean that a number is withheld or did not arrive: RFC 3323, the caller-ID texts of
/// carriers and phones, and translations in the languages of the telephones that send them.
const WITHHOLDING: [&str; 43] = [
    "anonymous",
    "anon",
    "private",
    "privacy",
    "restricted",
    "unavailable",
    "unknown",
    "withheld",
    "blocked",
    "hidden",
    "undisclosed",
    "unidentified",
    "suppressed",
    "masked",
    "secret",
    "international",
    "overseas",
    "payphone",
    "invalid",
    "none",
    "null",
    "nil",
    "anonym",
    "anonyme",
    "anonimo",
    "anónimo",
    "anoniem",
    "unbekannt",
    "unterdrückt",
    "privé",
    "privat",
    "privado",
    "masqué",
    "inconnu",
    "oculto",
    "desconocido",
    "sconosciuto",
    "nascosto",
    "onbekend",
    "skjult",
    "ukjent",
    "okänd",
    "dold",
];

/// Words that may accompany those.
const BESIDE: [&str; 24] = [
    "provided",
    "available",
    "given",
    "caller",
    "call",
    "calls",
    "calling",
    "number",
    "id",
    "cid",
    "name",
    "party",
    "user",
    "line",
    "by",
    "the",
    "not",
    "no",
    "numéro",
    "numero",
    "número",
    "nummer",
    "anruf",
    "appel",
];

/// Phrases that mean a withheld number, although none of their words does, and abbreviations. `o`
/// and `p` are the reasons "out of area" and "private" of analogue caller ID (Telcordia
/// GR-30-CORE).
const PHRASES: [&str; 20] = [
    "no number",
    "no caller id",
    "no caller",
    "no id",
    "no cid",
    "no name",
    "out of area",
    "out of service area",
    "not available",
    "not provided",
    "not disclosed",
    "not known",
    "n a",
    "na",
    "pay phone",
    "coin phone",
    "keine nummer",
    "sin número",
    "o",
    "p",
];

/// Words as keypad digits, for fields that accept only digits: ANONYMOUS, RESTRICTED, UNAVAILABLE,
/// BLOCKED, UNKNOWN, PRIVATE, WITHHELD.
pub(super) const KEYPAD: [&str; 7] = [
    "266696687",
    "7378742833",
    "86282452253",
    "2562533",
    "8656696",
    "7748283",
    "94844353",
];

/// An installation's own text for "no number", normalized for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WithheldWord(String);

/// The words of `lookup.withheld`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WithheldWords(Vec<WithheldWord>);

/// The text has nothing to compare, or is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have a letter or a digit, and at most 256 bytes")]
pub(crate) struct NotAWord;

impl FromStr for WithheldWord {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let word = comparable(text);
        if word.is_empty() || text.len() > MAX_SPELLING {
            Err(NotAWord)
        } else {
            Ok(Self(word))
        }
    }
}

impl fmt::Display for WithheldWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Vec<WithheldWord>> for WithheldWords {
    fn from(words: Vec<WithheldWord>) -> Self {
        Self(words)
    }
}

impl WithheldWords {
    pub(super) fn contain(&self, text: &str) -> bool {
        !self.0.is_empty() && {
            let word = comparable(text);
            self.0.iter().any(|WithheldWord(known)| *known == word)
        }
    }
}

/// "+266696687", or the digits alone unless they are a number somewhere.
pub(super) fn is_keypad_word(text: &str) -> bool {
    let plus = text.starts_with('+');
    let digits = text.strip_prefix('+').unwrap_or(text);
    // Without a `+` they may be numbers: (737) 874-2833 is in Texas. Only the first word is almost
    // certainly no number: it has nine digits and begins with 26.
    KEYPAD.contains(&digits) && (plus || digits == KEYPAD[0])
}

pub(super) fn says_withheld(text: &str) -> bool {
    let text = comparable(text);
    let any = text.split(' ').any(|word| WITHHOLDING.contains(&word));
    let fits = |rest: &str| {
        rest.split(' ')
            .all(|word| WITHHOLDING.contains(&word) || BESIDE.contains(&word))
    };
    let mut behind = PHRASES
        .iter()
        .filter_map(|phrase| text.strip_prefix(phrase));
    (any && fits(&text))
        || behind.any(|rest| rest.is_empty() || rest.strip_prefix(' ').is_some_and(fits))
}

/// Lower case. Each run of characters other than letters, digits and `+` becomes one space, or
/// nothing if the text has no letters.
fn comparable(text: &str) -> String {
    let mut form = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() || c == '+' {
            form.push(c);
        } else if !form.is_empty() && !form.ends_with(' ') {
            form.push(' ');
        }
    }
    form.truncate(form.trim_end().len());
    if !form.contains(char::is_alphabetic) {
        form.retain(|c| c != ' ');
    }
    form
}
