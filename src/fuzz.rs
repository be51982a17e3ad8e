//! What holds for any bytes from outside, one function for each parser.
//!
//! Compiled for tests and for cargo-fuzz only. Each function takes any bytes, runs the real parser,
//! and asserts what its callers rely on: a value is accepted or refused, what was accepted reads
//! the same when it is written and read again, and sizes are bounded. The targets in `tests/fuzz`
//! call nothing else; `tests` runs the committed corpus and mutations of it.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "the names are those of the targets; all of them panic if something does not hold"
)]

mod files;
mod mutate;
mod numbers;
mod replies;
mod requests;
mod settings;
mod stored;
#[cfg(test)]
mod tests;

pub(crate) use files::platform;
#[cfg(test)]
pub(crate) use files::platform_at;
pub use files::{connector_file, path};
pub use mutate::mutated;
pub use numbers::{formats, number, phone_field};
pub use replies::json_reply;
pub use requests::{grpc_frame, http_json};
pub use settings::{redis_url, settings};
pub use stored::redis_value;
#[cfg(test)]
pub(crate) use tests::worked;

/// The text after the first byte, and that byte, with which most inputs choose a variant.
fn choice_and_text(data: &[u8]) -> Option<(usize, &str)> {
    let (choice, text) = data.split_first()?;
    Some((usize::from(*choice), std::str::from_utf8(text).ok()?))
}
