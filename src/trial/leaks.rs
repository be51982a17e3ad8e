//! The last pass over a recording: nothing is written where something of the user's still stands.

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
    "{0} would still stand in the recording; nothing was written. Use a test account, or write it by hand"
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
    let secret = caller.auth_header.as_deref().unwrap_or_default();
    if credential_pieces(secret)
        .iter()
        .any(|piece| all.contains(piece))
    {
        return Err(Leak("a piece of the credential"));
    }
    if look_ups
        .iter()
        .any(|look_up| digits.contains(&look_up.number.national()))
    {
        return Err(Leak("a number that was looked up"));
    }
    let is_address = |text: &str| host_of(text).is_some_and(|host| host == text);
    let texts = texts_of(caller);
    let mut texts = texts.iter().filter(|text| !is_address(text));
    if texts.any(|text| all.contains(text.as_str())) {
        return Err(Leak("a setting or another value of the user"));
    }
    Ok(())
}

/// The parts of a credential that could be recognized, also of a Basic one.
fn credential_pieces(header: &str) -> Vec<String> {
    let secret = header.split_once(' ').map_or(header, |(_, secret)| secret);
    let decoded = STANDARD.decode(secret).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let texts = [Some(secret.to_owned()), decoded].into_iter().flatten();
    let pieces = texts.flat_map(|text| {
        let parts = text.split(|c: char| !c.is_ascii_alphanumeric());
        parts.map(str::to_owned).collect::<Vec<_>>()
    });
    pieces.filter(|piece| piece.len() >= PIECE).collect()
}

/// Texts of the user.
pub(super) fn texts_of(caller: &Caller) -> Vec<String> {
    fn add(value: &Value, texts: &mut Vec<String>) {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Number(number) => texts.push(number.to_string()),
            Value::Array(items) => items.iter().for_each(|item| add(item, texts)),
            Value::Object(members) => members.values().for_each(|value| add(value, texts)),
            Value::Null | Value::Bool(_) => {}
        }
    }
    let mut texts = Vec::new();
    let values = caller.settings.values().chain(caller.info.values());
    values.for_each(|value| add(value, &mut texts));
    texts.retain(|text| text.len() >= TELLING);
    texts
}

/// An address without its path, if a text is one.
pub(super) fn host_of(text: &str) -> Option<String> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| url.scheme() == "https")?;
    let origin = url.origin().ascii_serialization();
    let path = if url.path().len() > 1 { "/x" } else { "" };
    Some(format!("{origin}{path}"))
}
