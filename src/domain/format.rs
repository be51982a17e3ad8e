//! Spellings: the texts in which one number is searched for, and their order.

use std::fmt;

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

/// A spelling of a number that a CRM is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spelling {
    /// `+16505551234`
    E164,
    /// `16505551234`
    Digits,
    /// The national significant number, `6505551234`.
    National,
    /// As people of the country write it, `(650) 555-1234` or `030 1234567`.
    Local,
    /// The digits of [`Spelling::Local`], `6505551234` or `0301234567`.
    LocalDigits,
    /// `+1 650-555-1234`
    International,
    /// A fixed pattern.
    Pattern(NumberFormat),
    /// All formats of the user.
    Formats,
}

impl Spelling {
    /// Parses the name of a spelling in a connector file, or a pattern.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "e164" => Self::E164,
            "digits" => Self::Digits,
            "national" => Self::National,
            "local" => Self::Local,
            "local_digits" => Self::LocalDigits,
            "international" => Self::International,
            "formats" => Self::Formats,
            pattern => Self::Pattern(NumberFormat::parse(pattern)?),
        })
    }

    /// The number in this spelling. `None` if a pattern has another number of places, and for
    /// [`Spelling::Formats`], which depend on the user.
    #[must_use]
    pub(crate) fn of(&self, number: &E164) -> Option<String> {
        match self {
            Self::E164 => Some(number.to_string()),
            Self::Digits => Some(number.to_string().replace('+', "")),
            Self::National => Some(number.national()),
            Self::Local => Some(number.local()),
            Self::LocalDigits => {
                let mut digits = number.local();
                digits.retain(|c| c.is_ascii_digit());
                Some(digits)
            }
            Self::International => Some(number.international()),
            Self::Pattern(format) => format.spell(number),
            Self::Formats => None,
        }
    }
}

impl fmt::Display for Spelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::E164 => "e164",
            Self::Digits => "digits",
            Self::National => "national",
            Self::Local => "local",
            Self::LocalDigits => "local_digits",
            Self::International => "international",
            Self::Pattern(format) => return write!(f, "\"{}\"", format.pattern()),
            Self::Formats => "formats",
        })
    }
}

/// A text to search for, and the form of the number that it spells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The text.
    pub text: String,
    /// The number, or the subscriber's other form of it.
    pub number: E164,
    /// The position of its spelling: first the connector's spellings, then the user's formats, last
    /// the other form of the number.
    pub(crate) rule: usize,
}

/// The texts to search for one number: in order, without duplicates, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variants(Vec<Variant>);

impl NumberFormat {
    /// Parses a pattern. `None` if it can spell no number: empty, without a placeholder, longer
    /// than 64 characters, or with control characters. Such a pattern is ignored, because a typo in
    /// a user's settings must not cost the call pop.
    #[must_use]
    pub fn parse(pattern: &str) -> Option<Self> {
        let pattern = pattern.trim();
        let places = pattern.chars().filter(|&c| is_place(c)).count();
        (places > 0 && is_usable(pattern)).then(|| Self {
            pattern: pattern.to_owned(),
            places,
        })
    }

    /// The number in this spelling. `None` unless there are as many placeholders as digits: half a
    /// number would find other people, and a left-over `#` would find nobody.
    #[must_use]
    pub(crate) fn spell(&self, number: &E164) -> Option<String> {
        let national = number.national();
        (self.places == national.len()).then(|| self.filled(&national))
    }

    /// The pattern with these digits in its places.
    fn filled(&self, digits: &str) -> String {
        let mut digits = digits.chars();
        let filled = self.pattern.chars().map(|c| match c {
            place if is_place(place) => digits.next().unwrap_or(place),
            other => other,
        });
        filled.collect()
    }

    /// The pattern as the user wrote it, without white space around it.
    #[must_use]
    pub(crate) fn pattern(&self) -> &str {
        &self.pattern
    }
}

fn is_usable(pattern: &str) -> bool {
    pattern.chars().count() <= MAX_PATTERN && !pattern.contains(char::is_control)
}

fn is_place(c: char) -> bool {
    matches!(c, '#' | '*')
}

impl Variants {
    /// The spellings in their order. The first one is also used for the subscriber's other form, if
    /// there is one: before the user's formats, or else at the end.
    #[must_use]
    pub fn new(number: &E164, spellings: &[Spelling], formats: &[NumberFormat]) -> Self {
        let mut variants = Self(Vec::with_capacity(spellings.len() + 1 + formats.len()));
        let other = other_form(number).map(|(other, _)| other);
        let add_other = |variants: &mut Self| {
            let first = spellings
                .iter()
                .find(|spelling| **spelling != Spelling::Formats);
            if let (Some(first), Some(other)) = (first, &other) {
                variants.add(first.of(other), *other, spellings.len() + formats.len());
            }
        };
        for (n, spelling) in spellings.iter().enumerate() {
            if *spelling == Spelling::Formats {
                if n > 0 {
                    add_other(&mut variants);
                }
                for (m, format) in formats.iter().enumerate() {
                    variants.add(format.spell(number), *number, spellings.len() + m);
                }
            } else {
                variants.add(spelling.of(number), *number, n);
            }
        }
        add_other(&mut variants);
        if variants.0.is_empty() {
            variants.add(Some(number.to_string()), *number, 0);
        }
        variants
    }

    fn add(&mut self, text: Option<String>, number: E164, rule: usize) {
        let Some(text) = text else { return };
        if self.0.iter().all(|known| known.text != text) {
            self.0.push(Variant { text, number, rule });
        }
    }

    /// The texts in the order of the search.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|variant| variant.text.as_str())
    }

    /// The texts with the numbers that they spell.
    #[must_use]
    pub(crate) fn all(&self) -> &[Variant] {
        &self.0
    }
}

#[cfg(test)]
mod tests;
