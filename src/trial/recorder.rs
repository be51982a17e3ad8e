//! Keeps what happened during one look-up, in order.

use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use serde_json::Value;
use url::Url;

use crate::budget::CallKind;
use crate::connector::{CallSeen, DropReason, Ending, Event, Record, RecordVerdict, Witness};
use crate::domain::LookupError;

/// The most keys of a reply that are shown.
const MOST_KEYS: usize = 20;

/// What happened.
pub(crate) enum Seen {
    Call(Box<SeenCall>),
    /// A request was not made because these slots are empty.
    NotAsked {
        request: String,
        empty: Vec<String>,
    },
    Judged(SeenRecord),
}

/// A call to the CRM.
pub(crate) struct SeenCall {
    pub(crate) is_search: bool,
    pub(crate) method: &'static str,
    pub(crate) url: Url,
    /// Without those of the credential.
    pub(crate) headers: Vec<(String, String)>,
    /// The names of the credential's headers.
    pub(crate) credential: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) ending: CallEnding,
}

/// How a call ended.
pub(crate) enum CallEnding {
    /// It would be sent.
    Dry,
    /// No reply came.
    Failed(LookupError),
    Reply {
        status: u16,
        headers: Vec<(String, String)>,
        /// `None` if it was not read, or is not JSON.
        body: Option<Value>,
        bytes: usize,
        /// Why the reply is a failure; `None` if it is an answer.
        failure: Option<LookupError>,
    },
}

/// A record, and whether it belongs to the party.
pub(crate) struct SeenRecord {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) phones: Vec<String>,
    pub(crate) verdict: RecordVerdict,
}

/// Keeps what happens during one look-up.
#[derive(Default)]
pub(super) struct Recorder {
    is_dry: bool,
    seen: Mutex<Vec<Seen>>,
}

impl Recorder {
    pub(super) fn new(is_dry: bool) -> Self {
        Self {
            is_dry,
            ..Self::default()
        }
    }

    /// Everything so far.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock())
    }
}

impl Witness for Recorder {
    fn is_dry(&self) -> bool {
        self.is_dry
    }

    fn see(&self, event: Event<'_>) {
        let seen = match event {
            Event::Call(call) => Seen::Call(Box::new(SeenCall::of(&call))),
            Event::NotAsked { request, empty } => Seen::NotAsked { request, empty },
            Event::Judged { record, verdict } => Seen::Judged(SeenRecord::of(record, verdict)),
        };
        self.seen.lock().push(seen);
    }
}

impl SeenCall {
    /// Whether it was only shown.
    pub(super) fn is_dry(&self) -> bool {
        matches!(self.ending, CallEnding::Dry)
    }

    /// The names of the fields at the top of its reply, and nothing of their values. `None` if the
    /// reply is no object, or a failure.
    pub(crate) fn reply_keys(&self) -> Option<Vec<String>> {
        let CallEnding::Reply {
            body: Some(Value::Object(fields)),
            failure: None,
            ..
        } = &self.ending
        else {
            return None;
        };
        Some(fields.keys().take(MOST_KEYS).cloned().collect())
    }

    /// Shows it as a call to this CRM.
    pub(super) fn move_to(&mut self, crm: &Url) {
        let mut url = crm.clone();
        url.set_path(self.url.path());
        url.set_query(self.url.query());
        self.url = url;
    }

    fn of(seen: &CallSeen<'_>) -> Self {
        Self {
            is_search: seen.kind == CallKind::Search,
            method: seen.method,
            url: seen.url.clone(),
            headers: texts(&seen.headers),
            credential: seen.credential.iter().map(ToString::to_string).collect(),
            body: seen.body.to_vec(),
            ending: (&seen.ending).into(),
        }
    }
}

impl From<&Ending<'_>> for CallEnding {
    fn from(ending: &Ending<'_>) -> Self {
        match ending {
            Ending::Dry => Self::Dry,
            Ending::Failed(error) => Self::Failed((*error).clone()),
            Ending::Reply(reply) => Self::Reply {
                status: reply.status,
                headers: texts(reply.headers),
                body: reply.body.cloned(),
                bytes: reply.bytes,
                failure: reply.failure.clone(),
            },
        }
    }
}

/// Names and values of headers. Bytes that are no text are replaced.
pub(super) fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let headers = headers.iter();
    let texts = headers.map(|(name, value)| (name.to_string(), text(value)));
    texts.collect()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

impl SeenRecord {
    /// Whether it is in the answer.
    pub(crate) fn is_kept(&self) -> bool {
        self.verdict.quality().is_some()
    }

    /// What became of the record, for a person.
    pub(crate) fn words(&self) -> String {
        match self.verdict {
            RecordVerdict::Exact { field } => self.kept_by("exact", field),
            RecordVerdict::Likely { field } => self.kept_by("likely", field),
            RecordVerdict::Unverified => "kept, unverified: it shows no phone field".to_owned(),
            RecordVerdict::Dropped(reason) => format!("dropped: {}", self.reason(reason)),
        }
    }

    fn quoted_phones(&self) -> String {
        let phones = self.phones.iter().map(|phone| format!("\"{phone}\""));
        phones.collect::<Vec<_>>().join(", ")
    }

    fn kept_by(&self, quality: &str, field: usize) -> String {
        let phone = self.phones.get(field).map_or("", String::as_str);
        format!(
            "kept, {quality}: its phone field {}, \"{phone}\"",
            field + 1
        )
    }

    fn reason(&self, reason: DropReason) -> String {
        match reason {
            DropReason::OtherNumbers => {
                format!("{reason}: {}", self.quoted_phones())
            }
            reason => reason.to_string(),
        }
    }
}

impl SeenRecord {
    fn of(record: &Record, verdict: RecordVerdict) -> Self {
        Self {
            id: record.contact.id.clone(),
            kind: record.contact.kind.clone(),
            name: record.contact.name.clone(),
            phones: record.phones.clone(),
            verdict,
        }
    }
}
