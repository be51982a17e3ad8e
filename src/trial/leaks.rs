//! The last pass over a recording: if it still contains a value of the user, nothing is written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::Url;

use super::caller::Caller;
use super::run::LookUp;
use super::scrub::TELLING;

/// The shortest piece of a credential that is searched for.
const PIECE: usize = 6;

/// What would still stand in a recording.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} would still be in the recording; nothing was written. Use a test account, or write it by hand"
)]
pub(crate) struct Leak(&'static str);

/// The last pass over everything that would be written.
///
/// # Errors
/// What still stands there.
pub(super) fn leaks(
    caller: &Caller,
    look_ups: &[&LookUp],
    files: &[(String, String)],
) -> Result<(), Leak> {
    let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
    let digits: String = all.chars().filter(char::is_ascii_digit).collect();
    let mut pieces = credential_pieces(caller).into_iter();
    let mut numbers = look_ups.iter().map(|look_up| look_up.number.national());
    let mut texts = texts_of(caller)
        .into_iter()
        .filter(|text| !is_address(text));
    for (stands, what) in [
        (
            pieces.any(|piece| all.contains(&piece)),
            "a piece of the credential",
        ),
        (
            numbers.any(|number| digits.contains(&number)),
            "a number that was looked up",
        ),
        (
            texts.any(|text| all.contains(&text)),
            "a setting or another value of the user",
        ),
    ] {
        if stands {
            return Err(Leak(what));
        }
    }
    Ok(())
}

/// The parts of a credential that could be recognized, also of a Basic one.
fn credential_pieces(caller: &Caller) -> Vec<String> {
    let header = caller.auth_header.as_deref().unwrap_or_default();
    let secret = header.split_once(' ').map_or(header, |(_, secret)| secret);
    let decoded = STANDARD.decode(secret).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let texts = [Some(secret), decoded.as_deref()].into_iter().flatten();
    let pieces = texts.flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()));
    let pieces = pieces.filter(|piece| piece.len() >= PIECE);
    pieces.map(str::to_owned).collect()
}

/// Texts of the user.
pub(super) fn texts_of(caller: &Caller) -> Vec<String> {
    let mut texts = Vec::new();
    for value in caller.settings.values().chain(caller.info.values()) {
        add_texts(value, &mut texts);
    }
    texts.retain(|text| text.len() >= TELLING);
    texts
}

fn add_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Number(number) => texts.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| add_texts(item, texts)),
        Value::Object(members) => members.values().for_each(|value| add_texts(value, texts)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Whether a text is an address and nothing else.
fn is_address(text: &str) -> bool {
    host_of(text).is_some_and(|host| host == text)
}

/// An address without its path, if a text is one.
pub(super) fn host_of(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (url.scheme() == "https").then(|| without_path(&url))
}

fn without_path(url: &Url) -> String {
    let origin = url.origin().ascii_serialization();
    let path = if url.path().len() > 1 { "/x" } else { "" };
    format!("{origin}{path}")
}
