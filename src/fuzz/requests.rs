//! Requests: messages in JSON and in protobuf, with their envelopes, and HTTP/2 frames.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use prost::{Message, Name};

use super::platform;
use crate::api::{Violation, check_request, message};
use crate::connector::{Platform, Secrets, built_in};
use crate::frames::{Frame, Frames};
use crate::pb::v1 as pb;
use crate::proto_json;

/// More than a violation needs: a path of fields, and a sentence.
const LONGEST_VIOLATION: usize = 512;

/// Largest body of the methods whose requests have a list.
const LIST_BYTES: usize = 1 << 20;

static PLATFORM: LazyLock<Arc<Platform>> = LazyLock::new(|| {
    let Some(Ok(connector)) = built_in("example", Secrets::Any) else {
        unreachable!("it is built in");
    };
    Arc::new(platform(connector))
});

/// What a client sends to one of the methods.
trait Asked: Message + Name + Default + PartialEq + Clone + 'static {
    /// What the service makes of it.
    fn check(self, platform: &Arc<Platform>) -> Result<(), Violation>;
}

impl Asked for pb::FindContactRequest {
    fn check(self, platform: &Arc<Platform>) -> Result<(), Violation> {
        check_request::question(self, platform)
    }
}

impl Asked for pb::PrefetchContactsRequest {
    fn check(self, platform: &Arc<Platform>) -> Result<(), Violation> {
        check_request::batch(self, platform)
    }
}

impl Asked for pb::InvalidateContactsRequest {
    fn check(self, _: &Arc<Platform>) -> Result<(), Violation> {
        check_request::invalidation(&self)
    }
}

impl Asked for pb::ExplainContactRequest {
    fn check(self, platform: &Arc<Platform>) -> Result<(), Violation> {
        self.question.unwrap_or_default().check(platform)
    }
}

/// The number of a method, and its request in JSON.
pub fn http_json(data: &[u8]) {
    let Some((method, body)) = data.split_first() else {
        return;
    };
    match method % 5 {
        0 => json_is_sound::<pb::FindContactRequest>(body),
        1 => json_is_sound::<pb::PrefetchContactsRequest>(body),
        2 => json_is_sound::<pb::InvalidateContactsRequest>(body),
        3 => json_is_sound::<pb::ExplainContactRequest>(body),
        _ => crate::http::query_is_sound(body),
    }
}

fn json_is_sound<M: Asked>(body: &[u8]) {
    match proto_json::from_json::<M>(body) {
        Ok(request) => {
            let written = proto_json::to_json(&request).map(|json| json.to_string());
            if let Ok(written) = written {
                let again = proto_json::from_json::<M>(written.as_bytes());
                assert!(again == Ok(request.clone()), "{written}");
            }
            request_is_sound(request);
        }
        Err(fault) => is_short(&fault.field, &fault.what),
    }
}

/// The number of a method, and a request for it: a message, or a message with a prefix of gRPC that
/// may be wrong. For some numbers, HTTP/2 frames.
pub fn grpc_frame(data: &[u8]) {
    let Some((method, body)) = data.split_first() else {
        return;
    };
    if method % 5 == 4 {
        return frames_are_sound(body);
    }
    let Some(message) = message_of(body, *method >= 128) else {
        return;
    };
    match method % 5 {
        0 => message_is_sound::<pb::FindContactRequest>(message),
        1 => message_is_sound::<pb::PrefetchContactsRequest>(message),
        2 => message_is_sound::<pb::InvalidateContactsRequest>(message),
        _ => message_is_sound::<pb::ExplainContactRequest>(message),
    }
}

fn message_of(body: &[u8], has_prefix: bool) -> Option<Bytes> {
    let length = u32::try_from(body.len()).ok()?.to_be_bytes();
    let prefix: &[&[u8]] = if has_prefix { &[] } else { &[&[0], &length] };
    let framed = [&prefix.concat(), body].concat();
    let message = crate::grpc::one_message(framed.into(), LIST_BYTES + 5);
    if let Some(message) = &message {
        assert!(body.ends_with(message));
    }
    assert!(has_prefix || body.len() > LIST_BYTES || message.is_some());
    message
}

fn message_is_sound<M: Asked>(bytes: Bytes) {
    match message::decode::<M>(bytes) {
        Ok(request) => {
            let again = message::decode::<M>(request.encode_to_vec().into());
            assert!(again == Ok(request.clone()));
            request_is_sound(request);
        }
        Err(violation) => is_short(&violation.field, &violation.description),
    }
}

fn request_is_sound<M: Asked>(request: M) {
    if let Err(violation) = request.check(&PLATFORM) {
        is_short(&violation.field, &violation.description);
    }
}

fn is_short(field: &str, what: &str) {
    assert!(!field.is_empty() && !what.is_empty());
    let length = field.len() + what.len();
    assert!(length <= LONGEST_VIOLATION, "{field} {what}");
}

/// However the bytes are cut, the frames are the same, and together no longer than the bytes.
fn frames_are_sound(bytes: &[u8]) {
    let whole = frames_of(&[bytes]);
    let heads = whole.len() * 9;
    let content: usize = whole
        .iter()
        .take(whole.len().saturating_sub(1))
        .map(|frame| frame.length)
        .sum();
    assert!(heads + content <= bytes.len());
    let each: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(frames_of(&each), whole);
    let threes: Vec<&[u8]> = bytes.chunks(3).collect();
    assert_eq!(frames_of(&threes), whole);
}

fn frames_of(parts: &[&[u8]]) -> Vec<Frame> {
    let (mut frames, mut seen) = (Frames::of_a_server(), Vec::new());
    for part in parts {
        frames.read(part, |frame| seen.push(frame));
    }
    seen
}
