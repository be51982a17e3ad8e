//! Spellings: the texts in which one number is searched for, and their order.

use super::phone::{E164, other_form};

/// Longest pattern that is accepted, in characters.
const MAX_PATTERN: usize = 64;

/// A user's way of writing telephone numbers, such as `(###) ###-####`: `#` and `*` are replaced by
/// the digits of the national significant number one by one, everything else stays unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NumberFormat {
    pattern: String,
    places: usize,
}

/// A spelling that a connector always searches for, before the user's formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `+16505551234`
    E164,
    /// The national significant number, `6505551234`.
    National,
}

impl Spelling {
    fn of(self, number: &E164) -> String {
        match self {
            Self::E164 => number.to_string(),
            Self::National => number.national(),
        }
    }
}

/// The texts to search for one number: in order, without duplicates, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variants(Vec<String>);

impl NumberFormat {
    /// Parses a pattern. `None` if it can spell no number: empty, without a placeholder, longer
    /// than 64 characters, or with control characters. Such a pattern is ignored, because a typo in
    /// a user's settings must not cost the call pop.
    #[must_use]
    pub fn parse(pattern: &str) -> Option<Self> {
        let pattern = pattern.trim();
        let places = pattern.chars().filter(|&c| is_place(c)).count();
        let usable = places > 0
            && pattern.chars().count() <= MAX_PATTERN
            && !pattern.contains(char::is_control);
        usable.then(|| Self {
            pattern: pattern.to_owned(),
            places,
        })
    }

    /// The number in this spelling. `None` unless there are as many placeholders as digits: half a
    /// number would find other people, and a left-over `#` would find nobody.
    #[must_use]
    pub(crate) fn spell(&self, number: &E164) -> Option<String> {
        let national = number.national();
        let mut digits = national.chars();
        (self.places == national.len()).then(|| {
            self.pattern
                .chars()
                .map(|c| {
                    if is_place(c) {
                        digits.next().unwrap_or(c)
                    } else {
                        c
                    }
                })
                .collect()
        })
    }

    /// The pattern as the user wrote it, without white space around it.
    #[must_use]
    pub(crate) fn pattern(&self) -> &str {
        &self.pattern
    }
}

fn is_place(c: char) -> bool {
    matches!(c, '#' | '*')
}

impl Variants {
    /// The connector's own spellings come first. Then comes the first of them for the subscriber's
    /// other form, if there is one, and then the user's formats in the user's order.
    #[must_use]
    pub fn new(number: &E164, own: &[Spelling], formats: &[NumberFormat]) -> Self {
        let other = other_form(number).and_then(|(other, _)| Some(own.first()?.of(&other)));
        let own = own.iter().map(|spelling| spelling.of(number));
        let mut texts: Vec<String> = Vec::with_capacity(own.len() + 1 + formats.len());
        for text in own
            .chain(other)
            .chain(formats.iter().filter_map(|format| format.spell(number)))
        {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        Self(texts)
    }

    /// The texts in the order of the search.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests;
