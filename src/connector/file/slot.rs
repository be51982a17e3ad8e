//! Templates: text is literal, `{{name | filter}}` is a value.
//!
//! Parsing knows every name and filter, so that a file that loads cannot fail later for a name. A
//! value is rendered once: what was rendered is never parsed again.

use std::fmt;

use crate::connector::path::{Path, PathError, Wanted};
use crate::domain::Spelling;

/// Literal text and slots, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(pub(super) Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Slot(Slot),
}

/// A value with its filters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    /// Whether the surrounding list element is repeated for each value.
    pub(super) each: bool,
    pub(super) name: Name,
    pub(super) filters: Vec<Filter>,
    /// Set if the value is part of a pattern of the request's query language.
    pub(super) pattern: Option<Pattern>,
}

/// What a slot names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Name {
    /// The number in a spelling.
    Number(Spelling),
    /// All numbers of the request in a spelling.
    Numbers(Spelling),
    /// The spelling that is asked for now.
    Text,
    /// All spellings of all numbers.
    Texts,
    /// A value of the contact whose details are loaded.
    Record(Path),
    /// Values of all contacts whose details are loaded.
    Records(Path),
    Host,
    HostLabel,
    Setting(String),
    /// A field of `platform_additional_info`, and the path below it.
    Info(String, Path),
    For(String),
    /// What a request before took from its reply.
    Before(String),
    /// A secret of the settings.
    Secret(String),
    /// The token that the connector fetches.
    Token,
    /// The caller's header without its scheme.
    Credential,
    /// The caller's header as it came.
    Header,
    /// A path in the record or row that is mapped.
    Own(Path),
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

/// Where a template stands, which decides the names that exist there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site<'a> {
    /// The base address.
    Base,
    /// A header of the credential.
    Auth,
    /// The first request of a look-up; the names of `before`.
    Search(&'a [String]),
    /// A request for details; the names of `before`.
    Details(&'a [String]),
    /// A request that asks whose the credential is.
    WhoAmI,
    /// A field of a record, or of a choice.
    Record,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SlotError {
    #[error("a slot is not closed by }}}}")]
    Unclosed,
    #[error("a slot is empty")]
    Empty,
    #[error("{{{{{0}}}}} names nothing that exists here; {1}")]
    UnknownName(String, String),
    #[error("\"{0}\" is not a filter: they are {FILTERS}")]
    UnknownFilter(String),
    #[error("the filter {0} does not have the arguments that it takes")]
    Arguments(&'static str),
    #[error("{{{{{0}}}}}: {1}")]
    Path(String, PathError),
    #[error(
        "\"{0}\" is no spelling: they are e164, digits, national, local, local_digits, international, and a pattern in quotation marks"
    )]
    Spelling(String),
    #[error("{{{{each …}}}} must be the only slot of its element, in a list with one element")]
    Each,
}

const FILTERS: &str =
    "join, split, between, starts, ends, contains, last, spread, json, unix, unix_ms";

impl Template {
    /// Parses a template for a site.
    pub(super) fn parse(source: &str, site: Site<'_>) -> Result<Self, SlotError> {
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), source);
        while let Some(open) = rest.find("{{") {
            // Of more than two braces the innermost two belong to the slot.
            let braces = rest[open..].chars().take_while(|&c| c == '{').count();
            let start = open + braces - 2;
            literal.push_str(&rest[..start]);
            let inner = &rest[start + 2..];
            let close = slot_end(inner).ok_or(SlotError::Unclosed)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Slot(Slot::parse(&inner[..close], site)?));
            rest = &inner[close + 2..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// The slot, if the template is nothing else.
    pub(super) fn whole(&self) -> Option<&Slot> {
        match self.0.as_slice() {
            [Piece::Slot(slot)] => Some(slot),
            _ => None,
        }
    }

    /// The text, if there is no slot.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) => Some(slot),
            Piece::Text(_) => None,
        })
    }

    /// Whether a slot stands inside quotation marks of the literal text, other than `outer` ones.
    pub(super) fn has_quoted_slot(&self, outer: Option<char>) -> bool {
        let mut open: Option<char> = None;
        for piece in &self.0 {
            match piece {
                Piece::Slot(_) if open.is_some() => return true,
                Piece::Slot(_) => {}
                Piece::Text(text) => {
                    for c in text
                        .chars()
                        .filter(|c| matches!(c, '\'' | '"') && Some(*c) != outer)
                    {
                        open = match open {
                            None => Some(c),
                            Some(quote) if quote == c => None,
                            other => other,
                        };
                    }
                }
            }
        }
        false
    }
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

impl Slot {
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
            name: name_of(name, site)?,
            filters: Vec::new(),
            pattern: None,
        };
        parts.try_for_each(|filter| slot.add_filter(filter.trim()))?;
        Ok(slot)
    }

    fn add_filter(&mut self, source: &str) -> Result<(), SlotError> {
        let (word, arguments) = source.split_once(' ').unwrap_or((source, ""));
        let arguments = quoted_arguments(arguments);
        let filter = match (word, arguments.as_deref()) {
            ("join", Some([with])) => Filter::Join(with.clone()),
            ("split", Some([at])) if !at.is_empty() => Filter::Split(at.clone()),
            ("between", Some([from, to])) => Filter::Between(from.clone(), to.clone()),
            ("last", Some([count])) => {
                Filter::Last(count.parse().map_err(|_| SlotError::Arguments("last"))?)
            }
            ("json", Some([])) => Filter::Json,
            ("unix", Some([])) => Filter::Unix,
            ("unix_ms", Some([])) => Filter::UnixMs,
            ("starts" | "ends" | "contains" | "spread", Some([])) => {
                let pattern = self.pattern.get_or_insert_default();
                pattern.before |= matches!(word, "ends" | "contains");
                pattern.after |= matches!(word, "starts" | "contains");
                pattern.between |= word == "spread";
                return Ok(());
            }
            (word, _) => return Err(filter_error(word)),
        };
        self.filters.push(filter);
        Ok(())
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
        let (argument, next) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'')?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        arguments.push(argument.to_owned());
        rest = next.trim_start();
    }
    Some(arguments)
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

fn name_of(source: &str, site: Site<'_>) -> Result<Name, SlotError> {
    let path =
        |text: &str| Path::parse(text).map_err(|why| SlotError::Path(source.to_owned(), why));
    let name = match source.split_once('.') {
        Some(("number", view)) => Name::Number(spelling(view)?),
        Some(("numbers", view)) => Name::Numbers(spelling(view)?),
        Some(("record", below)) => Name::Record(path(below)?),
        Some(("records", below)) => Name::Records(path(below)?),
        Some(("setting", name)) => Name::Setting(name.to_owned()),
        Some(("for", name)) => Name::For(name.to_owned()),
        Some(("secret", name)) => Name::Secret(name.to_owned()),
        Some(("info", below)) => {
            let named = path(below)?.split_first_key();
            let (field, below) = named.ok_or_else(|| unknown(source, site))?;
            Name::Info(field, below)
        }
        Some(("host", "label")) => Name::HostLabel,
        _ => match source {
            "text" => Name::Text,
            "texts" => Name::Texts,
            "host" => Name::Host,
            "credential" => Name::Credential,
            "token" => Name::Token,
            "header" => Name::Header,
            _ => Name::Own(path(source)?),
        },
    };
    // In a record every other name is one of the record's own fields.
    match (site.has(&name), site) {
        (Some(name), _) => Ok(name),
        (None, Site::Record) => Ok(Name::Own(path(source)?)),
        (None, _) => Err(unknown(source, site)),
    }
}

fn unknown(source: &str, site: Site<'_>) -> SlotError {
    SlotError::UnknownName(source.to_owned(), site.names())
}

fn spelling(view: &str) -> Result<Spelling, SlotError> {
    let view = view.trim_matches('"');
    let known = Spelling::parse(view).filter(|spelling| *spelling != Spelling::Formats);
    known.ok_or_else(|| SlotError::Spelling(view.to_owned()))
}

impl Site<'_> {
    /// The name as it is meant here, if it exists here.
    fn has(self, name: &Name) -> Option<Name> {
        let is_info = matches!(name, Name::Info(..) | Name::Host | Name::HostLabel);
        let is_user = is_info || matches!(name, Name::Setting(_) | Name::For(_));
        let before = |names: &[String]| match name {
            Name::Own(path) if names.contains(&path.to_string()) => {
                Some(Name::Before(path.to_string()))
            }
            _ => None,
        };
        let is_number = matches!(
            name,
            Name::Number(_) | Name::Numbers(_) | Name::Text | Name::Texts
        );
        let is_record = matches!(name, Name::Record(_) | Name::Records(_));
        let exists = match self {
            Self::Base => is_info,
            Self::Auth => {
                let is_secret = matches!(name, Name::Secret(_) | Name::Token);
                is_info || is_secret || matches!(name, Name::Credential | Name::Header)
            }
            Self::Search(_) => is_user || is_number,
            Self::Details(_) => is_user || is_number || is_record,
            Self::WhoAmI => is_user,
            Self::Record => matches!(name, Name::Setting(_) | Name::For(_) | Name::Own(_)),
        };
        match self {
            Self::Search(names) | Self::Details(names) => {
                before(names).or_else(|| exists.then(|| name.clone()))
            }
            _ => exists.then(|| name.clone()),
        }
    }

    /// The names that exist here, for a person.
    fn names(self) -> String {
        match self {
            Self::Base => "there are host, host.label and info.NAME".to_owned(),
            Self::Auth => {
                "there are secret.NAME, info.NAME, credential, header, host, and token with [auth.token]".to_owned()
            }
            Self::Search(_) => "there are number.VIEW, text, numbers.VIEW, texts, host, setting.NAME, info.NAME, for.NAME and names from before".to_owned(),
            Self::Details(_) => "there are record.PATH, records.PATH, number.VIEW, text, host, setting.NAME, info.NAME, for.NAME and names from before".to_owned(),
            Self::WhoAmI => "there are host, setting.NAME and info.NAME".to_owned(),
            Self::Record => "there are paths of the record, setting.NAME and for.NAME".to_owned(),
        }
    }
}

impl Name {
    /// Whether its value may be a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Numbers(_) | Self::Texts | Self::Records(_) | Self::Before(_)
        )
    }

    /// Whether it speaks of the number that is looked up.
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Number(_) | Self::Numbers(_) | Self::Text | Self::Texts
        )
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Slot(slot) => write!(f, "{{{{{}}}}}", slot.name),
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(spelling) => write!(f, "number.{spelling}"),
            Self::Numbers(spelling) => write!(f, "numbers.{spelling}"),
            Self::Text => f.write_str("text"),
            Self::Texts => f.write_str("texts"),
            Self::Record(path) => write!(f, "record.{path}"),
            Self::Records(path) => write!(f, "records.{path}"),
            Self::Host => f.write_str("host"),
            Self::HostLabel => f.write_str("host.label"),
            Self::Setting(name) => write!(f, "setting.{name}"),
            // The path was cut from the whole name.
            Self::Info(_, path) => write!(f, "info.{path}"),
            Self::For(name) => write!(f, "for.{name}"),
            Self::Before(name) => f.write_str(name),
            Self::Secret(name) => write!(f, "secret.{name}"),
            Self::Token => f.write_str("token"),
            Self::Credential => f.write_str("credential"),
            Self::Header => f.write_str("header"),
            Self::Own(path) => write!(f, "{path}"),
        }
    }
}

impl Slot {
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
    let setting = |wanted| match wanted {
        &Wanted::Setting(ref name) => Some(name.as_str()),
        _ => None,
    };
    path.wanted().filter_map(setting).collect()
}
