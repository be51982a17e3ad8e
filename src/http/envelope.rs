//! Streams: messages in envelopes, of which the last one says how the stream ended.
//!
//! An envelope is a byte of flags, the length in four bytes, and the message.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, Stream};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::json;

use super::codec::Codec;
use super::error::{self, typed};
use super::{Refusal, ReplyBody};
use crate::api::{ApiError, Violation};
use crate::clock::{self, Instant};
use crate::domain::LookupError;

const PREFIX: usize = 5;

/// The flag of a compressed message.
const COMPRESSED: u8 = 1;

/// The flag of the last message, which is JSON in any case.
const END: u8 = 2;

/// The one message of a request, without its envelope.
pub(super) fn opened(body: &Bytes) -> Result<Result<Bytes, Violation>, Refusal> {
    let Some((prefix, message)) = body.split_at_checked(PREFIX) else {
        return Ok(Err(not_whole()));
    };
    let (flags, length) = prefix.split_at(1);
    let length = length
        .iter()
        .fold(0, |length: usize, byte| (length << 8) | usize::from(*byte));
    match flags {
        [0] if length == message.len() => Ok(Ok(body.slice(PREFIX..))),
        [flags] if flags & COMPRESSED != 0 => Err(Refusal::Compressed),
        _ => Ok(Err(not_whole())),
    }
}

fn not_whole() -> Violation {
    Violation::new("request", "is not one whole message in an envelope")
}

fn sealed(flags: u8, message: &[u8]) -> Bytes {
    let mut envelope = BytesMut::with_capacity(PREFIX + message.len());
    envelope.put_u8(flags);
    // No message of contactd comes near the 4 GiB that an envelope can hold.
    envelope.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    envelope.put_slice(message);
    envelope.freeze()
}

fn end(failure: Option<&ApiError>) -> Bytes {
    let last = match failure {
        Some(failure) => json!({ "error": error::body(failure) }),
        None => json!({}),
    };
    sealed(END, last.to_string().as_bytes())
}

/// The answer with a stream that failed before its first message. Its HTTP status is 200, as for
/// every stream.
pub(super) fn failed(codec: Codec, failure: &ApiError) -> Response<ReplyBody> {
    let last = end(Some(failure));
    error::answer(StatusCode::OK, codec.stream_type(), last)
}

/// The answer with these messages. It ends with the first failure, or when the time has passed.
pub(super) fn stream(
    codec: Codec,
    messages: impl Stream<Item = Result<Bytes, ApiError>> + Send + 'static,
    left: Option<Duration>,
) -> Response<ReplyBody> {
    let open = OpenStream {
        messages: messages.boxed(),
        until: left.and_then(clock::after),
    };
    let envelopes = stream::unfold(Some(open), |open| async { Some(open?.next().await) });
    let frames = envelopes.map(|envelope| Ok(Frame::data(envelope)));
    let body = StreamBody::new(frames).boxed_unsync();
    typed(StatusCode::OK, codec.stream_type(), body)
}

struct OpenStream {
    messages: BoxStream<'static, Result<Bytes, ApiError>>,
    until: Option<Instant>,
}

impl OpenStream {
    /// The next envelope, and the stream unless that was the last one.
    async fn next(mut self) -> (Bytes, Option<Self>) {
        let next = self.messages.next();
        let message = match self.until {
            Some(until) => match clock::timeout_at(until, next).await {
                Some(message) => message,
                None => Some(Err(too_late())),
            },
            None => next.await,
        };
        match message {
            Some(Ok(message)) => (sealed(0, &message), Some(self)),
            Some(Err(failure)) => (end(Some(&failure)), None),
            None => (end(None), None),
        }
    }
}

fn too_late() -> ApiError {
    ApiError::LookupFailed {
        error: LookupError::DeadlineExceeded,
        platform: "The CRM".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_message_in_one_envelope() {
        let open = |bytes: &'static [u8]| opened(&Bytes::from_static(bytes));
        let message = open(b"\0\0\0\0\x02{}").unwrap().unwrap();
        assert_eq!(&*message, b"{}");
        assert_eq!(&*open(b"\0\0\0\0\0").unwrap().unwrap(), b"");
        for cut in [
            &b""[..],
            b"\0\0\0",
            b"\0\0\0\0\x03{}",
            b"\0\0\0\0\x01{}",
            b"\x02\0\0\0\x02{}",
            b"\0\xff\xff\xff\xff",
        ] {
            assert!(open(cut).unwrap().is_err(), "{cut:?}");
        }
        assert_eq!(open(b"\x01\0\0\0\x02{}"), Err(Refusal::Compressed));
    }
}
