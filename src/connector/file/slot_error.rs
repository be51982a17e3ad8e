//! Why a text is not a template, worded for the person who wrote it.

use crate::connector::path::PathError;

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SlotError {
    #[error("a slot is not closed by }}}}")]
    Unclosed,
    #[error("a slot is empty")]
    Empty,
    #[error("{{{{{0}}}}} names nothing that exists here; {1}")]
    UnknownName(String, &'static str),
    #[error("\"{0}\" is not a filter; filters: {FILTERS}")]
    UnknownFilter(String),
    #[error("the filter {0} does not have the arguments that it takes")]
    Arguments(&'static str),
    #[error("{{{{{0}}}}}: {1}")]
    Path(String, PathError),
    #[error(
        "\"{0}\" is not a spelling; spellings: e164, digits, national, local, local_digits, \
         international, and a pattern in quotation marks"
    )]
    Spelling(String),
    #[error("a slot has at most four filters")]
    TooMany,
    #[error("{{{{each …}}}} must be a whole text, in a list with one element")]
    Each,
}

/// The filters, for people.
pub(super) const FILTERS: &str =
    "join, split, between, starts, ends, contains, last, spread, json, unix, unix_ms";
