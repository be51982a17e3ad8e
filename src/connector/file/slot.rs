//! Templates: text is literal, `{{name | filter}}` is a value.
//!
//! Parsing knows every name and filter, so that a file that loads never fails later because of an
//! unknown name. A value is rendered once: what was rendered is never parsed again.

use std::fmt;

use super::name::{Name, Site};
use super::slot_error::{FILTERS, SlotError};
use crate::connector::path::{Path, Wanted};

/// The most filters of one slot.
const MOST_FILTERS: usize = 4;

/// Literal text and slots, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(pub(super) Vec<TemplatePiece>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TemplatePiece {
    Text(String),
    Slot(TemplateSlot),
}

/// A value with its filters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TemplateSlot {
    /// Whether the surrounding list element is repeated for each value.
    pub(super) each: bool,
    pub(super) name: Name,
    pub(super) filters: Vec<Filter>,
    /// Set if the value is part of a pattern of the request's query language.
    pub(super) pattern: Option<Pattern>,
}

/// What is done with a value. No filter can fail: if it does not fit, the value is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Join(String),
    Split(String),
    Between(String, String),
    Last(usize),
    Json,
    Unix,
    UnixMs,
}

/// Where a pattern has wildcards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pattern {
    pub(super) before: bool,
    pub(super) between: bool,
    pub(super) after: bool,
}

impl Pattern {
    /// Adds the wildcards of one word.
    fn add(&mut self, word: &str) {
        self.before |= matches!(word, "ends" | "contains");
        self.after |= matches!(word, "starts" | "contains");
        self.between |= word == "spread";
    }
}

impl Template {
    /// Parses a template for a site.
    pub(super) fn parse(source: &str, site: Site<'_>) -> Result<Self, SlotError> {
        let (mut pieces, mut rest) = (Vec::new(), source);
        while let Some(open) = slot_start(rest) {
            let (literal, inner) = (&rest[..open], &rest[open + 2..]);
            let close = slot_end(inner).ok_or(SlotError::Unclosed)?;
            push_text(&mut pieces, literal);
            let slot = TemplateSlot::parse(&inner[..close], site)?;
            pieces.push(TemplatePiece::Slot(slot));
            rest = &inner[close + 2..];
        }
        push_text(&mut pieces, rest);
        Ok(Self(pieces))
    }

    /// Its texts, with what `write` makes of its slots. `None` if `write` returns `None` for a
    /// slot.
    pub(super) fn joined(
        &self,
        mut write: impl FnMut(&TemplateSlot) -> Option<String>,
    ) -> Option<String> {
        let mut joined = String::new();
        for piece in &self.0 {
            match piece {
                TemplatePiece::Text(text) => joined.push_str(text),
                TemplatePiece::Slot(slot) => joined.push_str(&write(slot)?),
            }
        }
        Some(joined)
    }

    /// The slot, if the template is nothing else.
    pub(super) fn whole(&self) -> Option<&TemplateSlot> {
        match self.0.as_slice() {
            [TemplatePiece::Slot(slot)] => Some(slot),
            _ => None,
        }
    }

    /// The slot, if the template is nothing else and writes no pattern.
    pub(super) fn plain_slot(&self) -> Option<&TemplateSlot> {
        self.whole().filter(|slot| slot.pattern.is_none())
    }

    /// The text, if it is the same for everybody.
    pub(super) fn fixed(&self) -> Option<String> {
        self.literal().map(str::to_owned)
    }

    pub(super) fn is_literal(&self) -> bool {
        self.literal().is_some()
    }

    /// The text, if there is no slot.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [TemplatePiece::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &TemplateSlot> {
        self.0.iter().filter_map(|piece| match piece {
            TemplatePiece::Slot(slot) => Some(slot),
            TemplatePiece::Text(_) => None,
        })
    }

    /// The segments of a path: split at the slashes of the literal text. What is before the first
    /// slash is empty.
    pub(super) fn segments(self) -> Vec<Self> {
        let (mut segments, mut current) = (Vec::new(), Vec::new());
        for piece in self.0 {
            match piece {
                TemplatePiece::Text(text) => {
                    for (n, part) in text.split('/').enumerate() {
                        if n > 0 {
                            segments.push(Self(std::mem::take(&mut current)));
                        }
                        push_text(&mut current, part);
                    }
                }
                slot @ TemplatePiece::Slot(_) => current.push(slot),
            }
        }
        segments.push(Self(current));
        segments.split_off(1)
    }

    /// Whether a slot stands inside quotation marks of the literal text, other than `outer` ones.
    pub(super) fn has_quoted_slot(&self, outer: Option<char>) -> bool {
        let mut open: Option<char> = None;
        for piece in &self.0 {
            match piece {
                TemplatePiece::Slot(_) if open.is_some() => return true,
                TemplatePiece::Slot(_) => {}
                TemplatePiece::Text(text) => open = open_quote(text, open, outer),
            }
        }
        false
    }
}

/// The quotation mark that is open after a text, if one is. `open` was open before it.
fn open_quote(text: &str, open: Option<char>, outer: Option<char>) -> Option<char> {
    let is_mark = |c: &char| matches!(c, '\'' | '"') && Some(*c) != outer;
    text.chars().filter(is_mark).fold(open, after_mark)
}

/// The quotation mark that is open after another one.
fn after_mark(open: Option<char>, mark: char) -> Option<char> {
    match open {
        None => Some(mark),
        Some(quote) if quote == mark => None,
        other => other,
    }
}

fn push_text(pieces: &mut Vec<TemplatePiece>, text: &str) {
    if !text.is_empty() {
        pieces.push(TemplatePiece::Text(text.to_owned()));
    }
}

/// The start of a slot. Of more than two braces the innermost two belong to it.
fn slot_start(source: &str) -> Option<usize> {
    let open = source.find("{{")?;
    let braces = source[open..].chars().take_while(|&c| c == '{');
    Some(open + braces.count() - 2)
}

/// The end of a slot: the first `}}` outside quotation marks. A path may contain `{{for.x}}`.
fn slot_end(inner: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0_u32);
    let bytes = inner.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let pair = inner.get(at..at + 2);
        match (quote, bytes[at]) {
            (None, mark @ (b'"' | b'\'')) => quote = Some(mark),
            (Some(open), mark) if open == mark => quote = None,
            (None, _) if pair == Some("{{") => {
                depth += 1;
                at += 1;
            }
            (None, _) if pair == Some("}}") && depth > 0 => {
                depth -= 1;
                at += 1;
            }
            (None, _) if pair == Some("}}") => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

impl TemplateSlot {
    fn parse(source: &str, site: Site<'_>) -> Result<Self, SlotError> {
        let mut parts = split_outside_quotes(source, '|').into_iter();
        let name = parts.next().unwrap_or_default().trim();
        let (each, name) = match name.strip_prefix("each ") {
            Some(name) => (true, name.trim()),
            None => (false, name),
        };
        if name.is_empty() {
            return Err(SlotError::Empty);
        }
        let mut slot = Self {
            each,
            name: Name::parse(name, site)?,
            filters: Vec::new(),
            pattern: None,
        };
        parts.try_for_each(|filter| slot.add_filter(filter.trim()))?;
        Ok(slot)
    }

    fn add_filter(&mut self, source: &str) -> Result<(), SlotError> {
        let (word, arguments) = source.split_once(' ').unwrap_or((source, ""));
        let arguments = quoted_arguments(arguments);
        let arguments = arguments.as_deref();
        if arguments == Some(&[]) && self.add_wildcards(word) {
            return Ok(());
        }
        self.filters.push(Filter::of(word, arguments)?);
        if self.filters.len() > MOST_FILTERS {
            return Err(SlotError::TooMany);
        }
        Ok(())
    }

    /// Adds the wildcards that the word means. `false` if it means none.
    fn add_wildcards(&mut self, word: &str) -> bool {
        if !matches!(word, "starts" | "ends" | "contains" | "spread") {
            return false;
        }
        self.pattern.get_or_insert_default().add(word);
        true
    }
}

impl Filter {
    /// Whether it makes one text of a list.
    fn makes_text(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Json)
    }

    fn of(word: &str, arguments: Option<&[String]>) -> Result<Self, SlotError> {
        Ok(match (word, arguments) {
            ("join", Some([with])) => Self::Join(with.clone()),
            ("split", Some([at])) if !at.is_empty() => Self::Split(at.clone()),
            ("between", Some([from, to])) => Self::Between(from.clone(), to.clone()),
            ("last", Some([count])) => {
                let count = count.parse().map_err(|_| SlotError::Arguments("last"))?;
                Self::Last(count)
            }
            ("json", Some([])) => Self::Json,
            ("unix", Some([])) => Self::Unix,
            ("unix_ms", Some([])) => Self::UnixMs,
            (word, _) => return Err(filter_error(word)),
        })
    }
}

fn filter_error(word: &str) -> SlotError {
    FILTERS
        .split(", ")
        .find(|known| *known == word)
        .map_or_else(
            || SlotError::UnknownFilter(word.to_owned()),
            SlotError::Arguments,
        )
}

/// Arguments in quotation marks, or one bare number. `None` if they are malformed.
fn quoted_arguments(source: &str) -> Option<Vec<String>> {
    let (mut arguments, mut rest) = (Vec::new(), source.trim());
    while !rest.is_empty() {
        let (argument, next) = next_argument(rest)?;
        arguments.push(argument.to_owned());
        rest = next.trim_start();
    }
    Some(arguments)
}

/// The first argument, and the rest.
fn next_argument(source: &str) -> Option<(&str, &str)> {
    match source.strip_prefix('\'') {
        Some(quoted) => quoted.split_once('\''),
        None => Some(source.split_once(' ').unwrap_or((source, ""))),
    }
}

fn split_outside_quotes(source: &str, at: char) -> Vec<&str> {
    let (mut parts, mut start, mut quote) = (Vec::new(), 0, None);
    for (n, c) in source.char_indices() {
        match quote {
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if c == at => {
                parts.push(&source[start..n]);
                start = n + c.len_utf8();
            }
            Some(open) if open == c => quote = None,
            _ => {}
        }
    }
    parts.push(&source[start..]);
    parts
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| piece.fmt(f))
    }
}

impl fmt::Display for TemplatePiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Slot(slot) => write!(f, "{{{{{}}}}}", slot.name),
        }
    }
}

impl TemplateSlot {
    /// Whether anything is done with the value.
    pub(super) fn has_filters(&self) -> bool {
        !self.filters.is_empty() || self.pattern.is_some()
    }

    /// Whether the value may still be a list where the slot stands.
    pub(super) fn is_list(&self) -> bool {
        self.name.is_list() && !self.each && !self.filters.iter().any(Filter::makes_text)
    }

    /// The settings that the slot reads.
    pub(super) fn settings(&self) -> Vec<&str> {
        match &self.name {
            Name::Setting(name) => vec![name],
            Name::Own(path) | Name::Record(path) | Name::Records(path) => settings_of(path),
            _ => Vec::new(),
        }
    }
}

/// The settings that a path reads.
pub(super) fn settings_of(path: &Path) -> Vec<&str> {
    path.wanted().filter_map(Wanted::setting).collect()
}
