//! Replaces personal data by invented data, the same value always by the same.
//!
//! Numbers are replaced digit by digit in their own spelling, so that what matched still matches.
//! Ids become small numbers, names come from a list, e-mail addresses are at example.com, and times
//! keep their day.

use std::collections::HashMap;

use serde_json::Value;

use crate::connector::Role;
use crate::domain::{E164, Region};

/// Invented words.
const WORDS: [&str; 16] = [
    "Ada",
    "Grace",
    "Alan",
    "Edsger",
    "Barbara",
    "Donald",
    "Katherine",
    "Tim",
    "Radia",
    "Ken",
    "Hedy",
    "Claude",
    "Margaret",
    "Dennis",
    "Frances",
    "Linus",
];

/// The shortest part of a number that counts as that number.
const SHORTEST: usize = 6;

/// The shortest text of a user that is replaced where it stands among other text.
pub(super) const TELLING: usize = 4;

/// What was replaced by what.
pub(super) struct Scrubber {
    region: Option<Region>,
    /// National digits, and what replaces them: as many digits.
    numbers: Vec<(String, String)>,
    values: HashMap<(Role, String), String>,
}

impl Scrubber {
    pub(super) fn new(region: Option<Region>) -> Self {
        Self {
            region,
            numbers: Vec::new(),
            values: HashMap::new(),
        }
    }

    /// The replacement of a number that is looked up.
    pub(super) fn number(&mut self, number: &E164) -> String {
        self.add_number(number);
        self.with_numbers(&number.to_string())
    }

    fn add_number(&mut self, number: &E164) {
        let national = number.national();
        if self.numbers.iter().any(|(known, _)| *known == national) {
            return;
        }
        let n = self.numbers.len();
        let is_american = number.to_string().starts_with("+1") && national.len() == 10;
        let replacement = if is_american {
            invented_american(n)
        } else {
            invented(n, &national)
        };
        self.numbers.push((national, replacement));
    }

    /// A value of a reply, replaced according to what it is.
    pub(super) fn value(&mut self, value: &Value, role: Role) -> Value {
        match value {
            Value::Number(number) => self.whole_number(&number.to_string(), role),
            Value::String(text) => self.text(text, role).into(),
            other => other.clone(),
        }
    }

    fn whole_number(&mut self, digits: &str, role: Role) -> Value {
        let replaced = match role {
            Role::Phone => self.phone(digits),
            Role::Time => return time_number(digits),
            Role::Word | Role::Page => return serde_json::from_str(digits).unwrap_or_default(),
            Role::Id | Role::Text | Role::Email => self.id(digits),
        };
        serde_json::from_str(&replaced).unwrap_or_default()
    }

    fn text(&mut self, text: &str, role: Role) -> String {
        if let Some(known) = self.values.get(&(Role::Word, text.to_owned())) {
            return known.clone();
        }
        let is_email = text.contains('@') && !text.contains(char::is_whitespace);
        match role {
            _ if text.trim().is_empty() => text.to_owned(),
            Role::Phone => self.phone(text),
            _ if is_email => self.known(Role::Email, text, |n| format!("person{n}@example.com")),
            Role::Word if is_word(text) => text.to_owned(),
            Role::Time => day_of(text),
            Role::Id => self.id(text),
            Role::Page => self.page(text),
            Role::Text | Role::Email | Role::Word => self.words(text),
        }
    }

    /// A stored number in its own spelling. Digits that are no part of a number become ones.
    fn phone(&mut self, text: &str) -> String {
        if let Ok(number) = E164::parse(text, self.region) {
            self.add_number(&number);
        }
        let replaced = self.with_numbers(text);
        if replaced == text && text.bytes().filter(u8::is_ascii_digit).count() > 2 {
            let one = |c: char| if c.is_ascii_digit() { '1' } else { c };
            return text.chars().map(one).collect();
        }
        replaced
    }

    /// A link keeps its form, a cursor becomes another one.
    fn page(&mut self, text: &str) -> String {
        if text.contains('/') || text.contains('?') {
            self.request_text(text)
        } else {
            self.known(Role::Page, text, |n| format!("cursor{n}"))
        }
    }

    /// An id of a few digits is kept. It identifies nobody, and the same digits may occur in
    /// requests with another meaning.
    fn id(&mut self, text: &str) -> String {
        if text.len() < TELLING {
            return text.to_owned();
        }
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        self.known(Role::Id, text, |n| {
            let n = 1000 + n;
            if is_number {
                n.to_string()
            } else {
                format!("id{n}")
            }
        })
    }

    /// As many invented words as there were, three at most.
    fn words(&mut self, text: &str) -> String {
        let count = text.split_whitespace().count().clamp(1, 3);
        self.known(Role::Text, text, |n| {
            let word = |k: usize| WORDS[(n + k * 5) % WORDS.len()];
            let words: Vec<&str> = (0..count).map(word).collect();
            match n / WORDS.len() {
                0 => words.join(" "),
                round => format!("{}{round}", words.join(" ")),
            }
        })
    }

    /// Text of the user's that stands in requests, such as the id of a sheet.
    pub(super) fn of_user(&mut self, text: &str) -> String {
        self.known(Role::Word, text, |n| format!("value{n}"))
    }

    /// Text of the user's, and what stands in its place.
    pub(super) fn replace_user(&mut self, text: &str, new: &str) {
        if !text.is_empty() {
            self.values
                .insert((Role::Word, text.to_owned()), new.to_owned());
        }
    }

    fn known(&mut self, role: Role, text: &str, new: impl FnOnce(usize) -> String) -> String {
        let known = self.values.keys().filter(|(known, _)| *known == role);
        let n = known.count() + 1;
        let entry = self.values.entry((role, text.to_owned()));
        entry.or_insert_with(|| new(n)).clone()
    }

    /// A text of a request: numbers, and everything that was replaced elsewhere.
    pub(super) fn request_text(&self, text: &str) -> String {
        let mut known: Vec<_> = self.values.iter().collect();
        known.sort_by_key(|((_, from), _)| std::cmp::Reverse(from.len()));
        let mut parts = vec![TextPart::old(self.with_numbers(text))];
        for ((_, from), to) in known {
            let replaced = parts.into_iter().flat_map(|part| part.replaced(from, to));
            parts = replaced.collect();
        }
        parts.into_iter().map(|part| part.text).collect()
    }

    /// The text with every known number replaced, digit by digit.
    fn with_numbers(&self, text: &str) -> String {
        let mut digits = Digits::of(text);
        for (national, replacement) in &self.numbers {
            for length in (SHORTEST.min(national.len())..=national.len()).rev() {
                let skipped = national.len() - length;
                digits.replace(&national[skipped..], &replacement[skipped..]);
            }
        }
        digits.in_text(text)
    }
}

/// 555-01xx is reserved for invented numbers in every area.
fn invented_american(n: usize) -> String {
    format!("{}55501{:02}", 202 + n / 100, n % 100)
}

/// Keeps the first half, which says where the number is, because the look-up of the result needs a
/// valid number. If the result is still not a valid number, nothing is recorded.
fn invented(n: usize, national: &str) -> String {
    let kept = national.len().div_ceil(2);
    let digits = national.len() - kept;
    let count = format!("{n:0digits$}");
    format!("{}{}", &national[..kept], &count[count.len() - digits..])
}

/// The digits of a text, some of them replaced. Each is replaced once.
struct Digits {
    old: String,
    new: Vec<Option<char>>,
}

impl Digits {
    fn of(text: &str) -> Self {
        let old: String = text.chars().filter(char::is_ascii_digit).collect();
        Self {
            new: vec![None; old.len()],
            old,
        }
    }

    /// Replaces these digits by as many others, wherever none of them is replaced yet.
    fn replace(&mut self, from: &str, to: &str) {
        for (start, _) in self.old.match_indices(from) {
            let place = &mut self.new[start..start + from.len()];
            if place.iter().all(Option::is_none) {
                let new = place.iter_mut().zip(to.chars());
                new.for_each(|(digit, new)| *digit = Some(new));
            }
        }
    }

    /// The text that the digits come from, with the new digits in their places.
    fn in_text(self, text: &str) -> String {
        let mut new = self.new.into_iter();
        let replaced = |c: char| match c {
            '0'..='9' => new.next().flatten().unwrap_or(c),
            other => other,
        };
        text.chars().map(replaced).collect()
    }
}

/// A part of a text. What was replaced is not replaced again.
struct TextPart {
    text: String,
    is_new: bool,
}

impl TextPart {
    fn old(text: String) -> Self {
        Self {
            text,
            is_new: false,
        }
    }

    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            is_new: true,
        }
    }

    /// Replaces `from` by `to` wherever `from` is a whole word.
    fn replaced(self, from: &str, to: &str) -> Vec<Self> {
        if self.is_new {
            return vec![self];
        }
        let (mut parts, mut start) = (Vec::new(), 0);
        for (at, _) in self.text.match_indices(from) {
            let end = at + from.len();
            if at >= start && is_whole(&self.text, at, end) {
                parts.push(Self::old(self.text[start..at].to_owned()));
                parts.push(Self::new(to));
                start = end;
            }
        }
        parts.push(Self::old(self.text[start..].to_owned()));
        parts
    }
}

/// Whether what stands between two places of a text is a whole word.
fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let before = text[..start].chars().next_back();
    let after = text[end..].chars().next();
    !is_part(before) && !is_part(after)
}

/// A word of a CRM: no digits, no spaces, nothing that people typed.
fn is_word(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | '.');
    text.len() <= 64 && text.chars().all(is_plain)
}

/// A time with its day only: every digit after the date becomes 0.
fn day_of(text: &str) -> String {
    if let Value::Number(number) = time_number(text) {
        return number.to_string();
    }
    let date = text.char_indices().nth(10).map_or(text.len(), |(at, _)| at);
    let (date, time) = text.split_at(date);
    let zero = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let time: String = time.chars().map(zero).collect();
    format!("{date}{time}")
}

/// A Unix time in seconds or milliseconds with its day only. Null for other texts.
fn time_number(text: &str) -> Value {
    let Ok(number) = text.parse::<u64>() else {
        return Value::Null;
    };
    let day = if number > 100_000_000_000 {
        86_400_000
    } else {
        86_400
    };
    (number / day * day).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scrubber() -> Scrubber {
        Scrubber::new(Region::parse("US"))
    }

    #[test]
    fn numbers_keep_their_spelling_and_what_matched_still_matches() {
        let mut scrub = scrubber();
        let asked = E164::parse("+14155552671", None).unwrap();
        assert_eq!(scrub.number(&asked), "+12025550100");
        for (stored, replaced) in [
            ("(415) 555-2671", "(202) 555-0100"),
            ("+1 415.555.2671 x", "+1 202.555.0100 x"),
            ("4155552671", "2025550100"),
            ("(415) 555-2672", "(202) 555-0101"),
            ("+44 20 7946 0018", "+44 20 7940 0002"),
            ("n/a 12345", "n/a 11111"),
        ] {
            assert_eq!(
                scrub.value(&json!(stored), Role::Phone),
                replaced,
                "{stored}"
            );
        }
        assert_eq!(
            scrub.request_text("phone:\"4155552671\""),
            "phone:\"2025550100\""
        );
        assert_eq!(scrub.request_text("%5552671"), "%5550100");
    }

    #[test]
    fn the_same_value_becomes_the_same_and_ids_keep_their_type() {
        let mut scrub = scrubber();
        assert_eq!(scrub.value(&json!(7700), Role::Id), json!(1001));
        assert_eq!(scrub.value(&json!("003Ax"), Role::Id), json!("id1002"));
        assert_eq!(scrub.value(&json!(7700), Role::Id), json!(1001));
        assert_eq!(
            scrub.request_text("/contacts/7700/deals/77000"),
            "/contacts/1001/deals/77000"
        );
        assert_eq!(
            scrub.request_text("IN ('003Ax', '7700')"),
            "IN ('id1002', '1001')"
        );
        let name = scrub.value(&json!("Jane Roe"), Role::Text);
        assert!(name.as_str().unwrap().split(' ').count() == 2 && name != "Jane Roe");
        assert_eq!(scrub.value(&json!("Jane Roe"), Role::Text), name);
        assert_eq!(
            scrub.value(&json!("j@roe.org"), Role::Text),
            "person1@example.com"
        );
        assert_eq!(scrub.value(&json!("Contact"), Role::Word), "Contact");
        assert_ne!(
            scrub.value(&json!("Jane's deal 7"), Role::Word),
            "Jane's deal 7"
        );
        let time = scrub.value(&json!("2026-01-02T03:04:05Z"), Role::Time);
        assert_eq!(time, "2026-01-02T00:00:00Z");
        assert_eq!(
            scrub.value(&json!(1_767_323_045), Role::Time),
            json!(1_767_312_000)
        );
    }
}
