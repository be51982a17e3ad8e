//! Writes what a CRM replied as recordings without personal data.
//!
//! Of a reply only what the connector reads is kept, and that is replaced (`scrub`). Request headers
//! are never written. What is written is tried before: the same look-ups must find as much in the
//! recordings as in the CRM. Nothing is written if a piece of the credential, a number that was
//! looked up, or a value of the user still stands in it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use url::Url;

use super::caller::Caller;
use super::expected::{look_up_of, outline, without_nothing};
use super::leaks::{Leak, host_of, leaks, texts_of};
use super::prune::pruned;
use super::recorder::{CallEnding, Seen, SeenCall};
use super::recording::{RecordedBody, RecordedReply, RecordedRequest, Recording};
use super::replay::Replay;
use super::run::{LookUp, OtherEnd, Trial, TrialError};
use super::scrub::{Scrubber, TELLING};
use crate::connector::Reached;
use crate::domain::NumberFormat;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("only connectors from files can be recorded: what others read is not known")]
    Unknown,
    #[error("{0}")]
    Trial(#[from] TrialError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Leak(#[from] Leak),
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

    fn reply(&mut self, call: &SeenCall, reached: &[Reached]) -> Option<RecordedReply> {
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

    fn request(&self, call: &SeenCall) -> RecordedRequest {
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
        Ok(self.expect_of(&expected))
    }

    fn expect_of(&self, look_ups: &[Value]) -> Value {
        let caller = &self.caller;
        let formats = caller.formats.iter().map(NumberFormat::pattern);
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
fn calls(look_up: &LookUp) -> impl Iterator<Item = &SeenCall> {
    look_up.seen.iter().filter_map(|seen| match seen {
        Seen::Call(call) => Some(call.as_ref()),
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
fn pieces(call: &SeenCall) -> Vec<String> {
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
