//! Writes what a CRM replied as recordings without personal data.
//!
//! Only the parts of a reply that the connector reads are kept, and their values are replaced
//! (`scrub`). Request headers are never written. Recordings are tried before they are written: the
//! same look-ups must find as much in them as in the CRM. Nothing is written if a piece of the
//! credential, a number that was looked up, or a value of the user still stands in it.

use std::fs;
use std::io;
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
use crate::connector::{Found, Reached};
use crate::domain::{LookupError, NumberFormat, Region};

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(
        "only connectors from files can be recorded: contactd does not know what another connector reads"
    )]
    Unknown,
    #[error("{0}")]
    Trial(#[from] TrialError),
    #[error(transparent)]
    Replay(#[from] io::Error),
    #[error("{0} cannot be written: {1}")]
    Unwritten(String, String),
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
/// [`RecordError`]. Nothing is written then. One exception: if writing one of the files fails, the
/// files written before it stay.
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
    let files = files(&recordings, &expected)?;
    leaks(trial.caller(), look_ups, &files)?;
    fs::create_dir_all(directory).map_err(|error| unwritten(directory, &error))?;
    for (name, text) in &files {
        let file = directory.join(name);
        fs::write(&file, text).map_err(|error| unwritten(&file, &error))?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

fn unwritten(path: &Path, error: &io::Error) -> RecordError {
    RecordError::Unwritten(path.display().to_string(), error.to_string())
}

/// The names and the texts of the files that are written.
fn files(recordings: &[Recording], expected: &Value) -> Result<Vec<(String, String)>, RecordError> {
    let expected = toml::to_string(expected);
    let expected = expected.map_err(|error| RecordError::Format(error.to_string()))?;
    let files = recordings.iter();
    let files = files.map(|recording| (recording.name.clone(), recording.written()));
    Ok(files
        .chain([("expect.toml".to_owned(), expected)])
        .collect())
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
        for piece in pieces_of_user(own, look_ups) {
            scrub.of_user(&piece);
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
        let body = body.as_ref().map(|body| {
            let replace = &mut |value: &Value, role| self.scrub.value(value, role);
            format!("{:#}", pruned(body, reached, replace))
        });
        let kept = headers.iter().filter(|(name, _)| is_kept(name));
        let kept = kept.map(|(name, value)| (name.clone(), self.header(name, value)));
        Some(RecordedReply {
            status: *status,
            headers: kept.collect(),
            body: body.unwrap_or_default(),
        })
    }

    /// A header of a reply. The next request may go to a link, so its values are replaced as in
    /// requests.
    fn header(&self, name: &str, value: &str) -> String {
        match name {
            "link" => self.scrub.request_text(value),
            _ => value.to_owned(),
        }
    }

    fn request(&self, call: &SeenCall) -> RecordedRequest {
        let base = self.base.path().trim_end_matches('/');
        let path = call.url.path();
        let path = path.strip_prefix(base).unwrap_or(path);
        let query = call.url.query_pairs().into_owned();
        RecordedRequest {
            method: call.method.to_owned(),
            path: self.scrub.request_text(path),
            query: self.pairs(query),
            headers: Vec::new(),
            body: match RecordedBody::of_bytes(&call.body, media_type(call)) {
                RecordedBody::None => RecordedBody::None,
                RecordedBody::Json(body) => RecordedBody::Json(self.leaves(&body)),
                RecordedBody::Form(fields) => RecordedBody::Form(self.pairs(fields.into_iter())),
            },
        }
    }

    fn pairs(&self, pairs: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
        let pairs = pairs.map(|(name, value)| (name, self.scrub.request_text(&value)));
        pairs.collect()
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
            check_unmatched(&replay.take_unmatched())?;
            check_same(&live.found, &came.found)?;
            expected.push(look_up_of(number, &came));
        }
        Ok(self.expect_of(&expected))
    }

    fn expect_of(&self, look_ups: &[Value]) -> Value {
        let caller = &self.caller;
        let formats = caller.formats.iter().map(NumberFormat::pattern);
        without_nothing(json!({
            "hostname": caller.hostname,
            "region": caller.region.map(region_name),
            "formats": formats.collect::<Vec<_>>(),
            "auth_header": caller.auth_header,
            "settings": caller.settings,
            "info": caller.info,
            "look_up": look_ups,
        }))
    }
}

fn region_name(region: Region) -> String {
    String::from_utf8_lossy(&region.to_bytes()).into_owned()
}

/// Every request of the replaced numbers must be a recorded one.
fn check_unmatched(unmatched: &[String]) -> Result<(), RecordError> {
    if unmatched.is_empty() {
        return Ok(());
    }
    Err(RecordError::Different(unmatched.join("\n")))
}

/// As much must be found in the recordings as in the CRM.
fn check_same(
    live: &Result<Found, LookupError>,
    came: &Result<Found, LookupError>,
) -> Result<(), RecordError> {
    let (was, is) = (outline(live), outline(came));
    if was == is {
        return Ok(());
    }
    Err(RecordError::Different(format!("{was}, but now {is}")))
}

fn media_type(call: &SeenCall) -> &str {
    let mut headers = call.headers.iter();
    let header = headers.find(|(name, _)| name == "content-type");
    header.map_or("", |(_, value)| value)
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

/// The parts of requests that come from the user: a text of the user, or a part of one with digits.
fn pieces_of_user(caller: &Caller, look_ups: &[&LookUp]) -> Vec<String> {
    let calls = look_ups.iter().copied().flat_map(calls);
    let pieces = calls
        .flat_map(pieces)
        .filter(|piece| piece.len() >= TELLING);
    let pieces: Vec<String> = pieces.collect();
    let texts = texts_of(caller).into_iter();
    let theirs = texts.flat_map(|text| {
        let theirs = pieces.iter().filter(|piece| is_of(piece, &text));
        theirs.cloned().collect::<Vec<_>>()
    });
    theirs.collect()
}

fn is_of(piece: &str, text: &str) -> bool {
    let has_digit = piece.contains(|c: char| c.is_ascii_digit());
    piece == text || (has_digit && text.contains(piece))
}

/// The parts of a request that may come from the user: segments of the path, and values of the
/// query.
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

/// Settings or info with every text replaced.
fn scrubbed(scrub: &mut Scrubber, fields: &Map<String, Value>) -> Map<String, Value> {
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| (name.clone(), scrubbed_value(scrub, value)));
    fields.collect()
}

fn scrubbed_value(scrub: &mut Scrubber, value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| scrubbed_value(scrub, item));
            items.collect()
        }
        Value::Object(members) => scrubbed(scrub, members).into(),
        Value::String(text) => scrubbed_text(scrub, text).into(),
        other => other.clone(),
    }
}

/// The replacement of a text. One that is too short to identify anybody stays as it is. The address
/// of a CRM keeps its host.
fn scrubbed_text(scrub: &mut Scrubber, text: &str) -> String {
    let known = scrub.request_text(text);
    if known != text || text.len() < TELLING {
        return known;
    }
    host_of(text).unwrap_or_else(|| scrub.of_user(text))
}
