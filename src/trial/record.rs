//! Writes what a CRM replied as recordings without personal data.
//!
//! Of a reply only what the connector reads is kept, and that is replaced (`scrub`). Request headers
//! are never written. What is written is tried before: the same look-ups must find as much in the
//! recordings as in the CRM. Nothing is written if a piece of the credential, a number that was
//! looked up, or a value of the user still stands in it.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use url::Url;

use super::caller::Caller;
use super::prune::pruned;
use super::recorder::{Call, CallEnding, Seen};
use super::recording::{RecordedBody, RecordedReply, RecordedRequest, Recording};
use super::replay::Replay;
use super::run::{LookUp, OtherEnd, Trial, TrialError};
use super::scrub::{Scrubber, TELLING};
use crate::connector::{Found, Reached};
use crate::domain::LookupError;

/// The shortest piece of a credential that is searched for.
const PIECE: usize = 6;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("only connectors from files can be recorded: what others read is not known")]
    Unknown,
    #[error("{0}")]
    Trial(#[from] TrialError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(
        "{0} would still stand in the recording; nothing was written. Use a test account, or write it by hand"
    )]
    Leak(&'static str),
    #[error("the recording does not give the same answer as the CRM; nothing was written:\n{0}")]
    Different(String),
    #[error("the recording cannot be written: {0}")]
    Format(String),
}

/// Writes recordings of these look-ups and `expect.toml` into a directory. Returns the names of the
/// files.
///
/// # Errors
/// Nothing is written then.
pub(crate) async fn record(
    trial: &Trial,
    look_ups: &[&LookUp],
    directory: &Path,
) -> Result<Vec<String>, RecordError> {
    let reached = trial.subject().reached();
    if reached.is_empty() {
        return Err(RecordError::Unknown);
    }
    let mut draft = Draft::new(trial, look_ups)?;
    // The first pass meets every value, the second one replaces it in links as well.
    draft.recordings(look_ups, &reached);
    let recordings = draft.recordings(look_ups, &reached);
    let expected = draft.tried(trial, look_ups, recordings.clone()).await?;
    let mut files: Vec<(String, String)> = recordings
        .iter()
        .map(|recording| (recording.name.clone(), recording.written()))
        .collect();
    let expected = toml::to_string(&expected);
    let expected = expected.map_err(|error| RecordError::Format(error.to_string()))?;
    files.push(("expect.toml".to_owned(), expected));
    leaks(trial.caller(), look_ups, &files)?;
    fs::create_dir_all(directory)?;
    for (name, text) in &files {
        fs::write(directory.join(name), text)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// Recordings in the making.
struct Draft {
    scrub: Scrubber,
    base: Url,
    numbers: Vec<String>,
    caller: Caller,
}

impl Draft {
    fn new(trial: &Trial, look_ups: &[&LookUp]) -> Result<Self, RecordError> {
        let own = trial.caller();
        let mut scrub = Scrubber::new(own.region);
        let numbers = look_ups.iter().map(|look_up| scrub.number(&look_up.number));
        let numbers = numbers.collect();
        let hostname = invented_host(&own.hostname, trial.subject().has_open_hosts());
        scrub.replace_user(&own.hostname, &hostname);
        for text in texts_of(own) {
            for call in look_ups.iter().copied().flat_map(calls) {
                for piece in pieces(call) {
                    let is_part =
                        text.contains(&piece) && piece.contains(|c: char| c.is_ascii_digit());
                    if piece.len() >= TELLING && (piece == text || is_part) {
                        scrub.of_user(&piece);
                    }
                }
            }
        }
        let caller = Caller {
            hostname,
            region: own.region,
            formats: own.formats.clone(),
            settings: scrubbed(&mut scrub, &own.settings),
            info: scrubbed(&mut scrub, &own.info),
            auth_header: Some("Bearer t0k3n".to_owned()),
        };
        Ok(Self {
            scrub,
            base: trial.address()?,
            numbers,
            caller,
        })
    }

    /// The exchanges, each once.
    fn recordings(&mut self, look_ups: &[&LookUp], reached: &[Reached]) -> Vec<Recording> {
        let mut recordings: Vec<Recording> = Vec::new();
        for call in look_ups.iter().copied().flat_map(calls) {
            let Some(reply) = self.reply(call, reached) else {
                continue;
            };
            let request = self.request(call);
            let is_known = |known: &Recording| known.request == request && known.reply == reply;
            if !recordings.iter().any(is_known) {
                let what = if call.is_search { "search" } else { "details" };
                recordings.push(Recording {
                    name: format!("{:02}-{what}.http", recordings.len() + 1),
                    request,
                    reply,
                });
            }
        }
        recordings
    }

    fn reply(&mut self, call: &Call, reached: &[Reached]) -> Option<RecordedReply> {
        let CallEnding::Reply {
            status,
            headers,
            body,
            ..
        } = &call.ending
        else {
            return None;
        };
        let scrub = &mut self.scrub;
        let body = body.as_ref().map(|body| {
            let body = pruned(body, reached, &mut |value, role| scrub.value(value, role));
            format!("{body:#}")
        });
        let kept = headers.iter().filter(|(name, _)| is_kept(name));
        let kept = kept.map(|(name, value)| {
            let value = if name == "link" {
                self.scrub.request_text(value)
            } else {
                value.clone()
            };
            (name.clone(), value)
        });
        Some(RecordedReply {
            status: *status,
            headers: kept.collect(),
            body: body.unwrap_or_default(),
        })
    }

    fn request(&self, call: &Call) -> RecordedRequest {
        let text = |text: &str| self.scrub.request_text(text);
        let base = self.base.path().trim_end_matches('/');
        let path = call.url.path();
        let path = path.strip_prefix(base).unwrap_or(path);
        let query = call.url.query_pairs();
        let media_type = call.headers.iter().find(|(name, _)| name == "content-type");
        let media_type = media_type.map_or("", |(_, value)| value.as_str());
        RecordedRequest {
            method: call.method.to_owned(),
            path: text(path),
            query: query
                .map(|(name, value)| (name.into_owned(), text(&value)))
                .collect(),
            headers: Vec::new(),
            body: match RecordedBody::of_bytes(&call.body, media_type) {
                RecordedBody::None => RecordedBody::None,
                RecordedBody::Json(body) => RecordedBody::Json(self.leaves(&body)),
                RecordedBody::Form(fields) => RecordedBody::Form(
                    fields
                        .into_iter()
                        .map(|(name, value)| (name, text(&value)))
                        .collect(),
                ),
            },
        }
    }

    fn leaves(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.leaves(item)).collect(),
            Value::Object(members) => {
                let member = |(key, value): (&String, &Value)| (key.clone(), self.leaves(value));
                members.iter().map(member).collect()
            }
            Value::String(text) => self.scrub.request_text(text).into(),
            Value::Number(number) => {
                let replaced = self.scrub.request_text(&number.to_string());
                serde_json::from_str(&replaced).unwrap_or_else(|_| value.clone())
            }
            other => other.clone(),
        }
    }

    /// Looks up the replaced numbers in the recordings. Returns `expect.toml`.
    async fn tried(
        &self,
        trial: &Trial,
        look_ups: &[&LookUp],
        recordings: Vec<Recording>,
    ) -> Result<Value, RecordError> {
        let replay = Replay::start(recordings).await?;
        let other_end = OtherEnd::Replay(replay.origin().clone());
        let again = Trial::new(trial.subject().clone(), self.caller.clone(), other_end)?;
        replay.stand_for(again.address()?);
        let mut expected = Vec::new();
        for (number, live) in self.numbers.iter().zip(look_ups) {
            let came = again.look_up(number).await?;
            let unmatched = replay.take_unmatched();
            if !unmatched.is_empty() {
                return Err(RecordError::Different(unmatched.join("\n")));
            }
            let (was, is) = (outline(&live.found), outline(&came.found));
            if was != is {
                return Err(RecordError::Different(format!("{was}, but now {is}")));
            }
            expected.push(look_up_of(number, &came));
        }
        Ok(self.expect_of(expected))
    }

    fn expect_of(&self, look_ups: Vec<Value>) -> Value {
        let caller = &self.caller;
        let formats = caller.formats.iter().map(|format| format.pattern());
        let all = json!({
            "hostname": caller.hostname,
            "region": caller.region.map(|region| String::from_utf8_lossy(&region.to_bytes()).into_owned()),
            "formats": formats.collect::<Vec<_>>(),
            "auth_header": caller.auth_header,
            "settings": caller.settings,
            "info": caller.info,
            "look_up": look_ups,
        });
        without_nothing(all)
    }
}

/// The calls of a look-up.
fn calls(look_up: &LookUp) -> impl Iterator<Item = &Call> {
    look_up.seen.iter().filter_map(|seen| match seen {
        Seen::Call(call) => Some(call),
        _ => None,
    })
}

/// Headers of a reply that mean something.
fn is_kept(name: &str) -> bool {
    let is_limit = ["ratelimit", "rate-limit", "retry"]
        .iter()
        .any(|part| name.contains(part));
    is_limit || matches!(name, "content-type" | "link")
}

/// The parts of a request that a user may have decided about.
fn pieces(call: &Call) -> Vec<String> {
    let path = call.url.path_segments().into_iter().flatten();
    let query = call.url.query_pairs().map(|(_, value)| value.into_owned());
    path.map(str::to_owned).chain(query).collect()
}

/// The host of an invented account.
fn invented_host(hostname: &str, is_open: bool) -> String {
    match hostname.split_once('.') {
        Some((_, domain)) if is_open => format!("acme.{domain}"),
        _ => hostname.to_owned(),
    }
}

/// Texts of the user.
fn texts_of(caller: &Caller) -> Vec<String> {
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

/// Settings or info with every text replaced. The address of a CRM keeps its host.
fn scrubbed(scrub: &mut Scrubber, fields: &Map<String, Value>) -> Map<String, Value> {
    fn one(scrub: &mut Scrubber, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| one(scrub, item)).collect(),
            Value::Object(members) => scrubbed(scrub, members).into(),
            Value::String(text) => {
                let known = scrub.request_text(text);
                let is_new = known == *text && text.len() >= TELLING;
                match host_of(text) {
                    Some(host) if is_new => host.into(),
                    None if is_new => scrub.of_user(text).into(),
                    _ => known.into(),
                }
            }
            other => other.clone(),
        }
    }
    fields
        .iter()
        .map(|(name, value)| (name.clone(), one(scrub, value)))
        .collect()
}

/// An address without its path, if a text is one.
fn host_of(text: &str) -> Option<String> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| url.scheme() == "https")?;
    let origin = url.origin().ascii_serialization();
    let path = if url.path().len() > 1 { "/x" } else { "" };
    Some(format!("{origin}{path}"))
}

/// What has to be the same in the recording.
fn outline(found: &Result<Found, LookupError>) -> String {
    match found {
        Err(error) => error.reason().to_lowercase(),
        Ok(found) => {
            let qualities = found.contacts.iter().map(|contact| contact.quality.label());
            let qualities: Vec<&str> = qualities.collect();
            let complete = if found.complete {
                "complete"
            } else {
                "incomplete"
            };
            format!(
                "{} contacts ({}), {complete}",
                qualities.len(),
                qualities.join(", ")
            )
        }
    }
}

fn look_up_of(number: &str, came: &LookUp) -> Value {
    let mut expected = json!({"number": number, "calls": came.calls});
    match &came.found {
        Err(error) => expected["error"] = error.reason().to_lowercase().into(),
        Ok(found) => {
            let contacts = found.contacts.iter().map(|contact| {
                json!({
                    "id": contact.id, "name": contact.name, "kind": contact.kind,
                    "quality": contact.quality.label(), "title": contact.title,
                    "company": contact.company, "email": contact.email,
                    "created": contact.created, "last_activity": contact.last_activity,
                    "info": contact.additional_info,
                })
            });
            expected["contacts"] = contacts.collect();
            if !found.complete {
                expected["complete"] = false.into();
            }
        }
    }
    expected
}

/// TOML has no null, and what is empty need not be written.
fn without_nothing(value: Value) -> Value {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    match value {
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key, without_nothing(value)))
            .filter(|(_, value)| !is_nothing(value))
            .collect(),
        value => value,
    }
}

/// The last pass over everything that would be written.
///
/// # Errors
/// What still stands there.
fn leaks(
    caller: &Caller,
    look_ups: &[&LookUp],
    files: &[(String, String)],
) -> Result<(), RecordError> {
    let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
    let digits: String = all.chars().filter(char::is_ascii_digit).collect();
    let secret = caller.auth_header.as_deref().unwrap_or_default();
    if credential_pieces(secret)
        .iter()
        .any(|piece| all.contains(piece))
    {
        return Err(RecordError::Leak("a piece of the credential"));
    }
    if look_ups
        .iter()
        .any(|look_up| digits.contains(&look_up.number.national()))
    {
        return Err(RecordError::Leak("a number that was looked up"));
    }
    let is_address = |text: &str| host_of(text).is_some_and(|host| host == text);
    let texts = texts_of(caller);
    let mut texts = texts.iter().filter(|text| !is_address(text));
    if texts.any(|text| all.contains(text.as_str())) {
        return Err(RecordError::Leak("a setting or another value of the user"));
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
