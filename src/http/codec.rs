//! Messages as JSON or as protobuf.

use bytes::Bytes;
use http::{HeaderMap, header};
use prost::{Message, Name};

use super::text;
use crate::api::{ApiError, Reply, Violation, message};
use crate::proto_json::{self, JsonFault};

/// Largest JSON that is read on the current thread: this takes less than a millisecond.
const READ_AT_ONCE: usize = 16 << 10;

/// How messages are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Json,
    Proto,
}

impl Codec {
    /// The codec that a `Content-Type` names, after `application/` and `prefix`.
    pub(super) fn of_type(headers: &HeaderMap, prefix: &str) -> Option<Self> {
        let content_type = text(headers, header::CONTENT_TYPE.as_str())?;
        let media = content_type.split(';').next()?.trim().to_ascii_lowercase();
        Self::named(media.strip_prefix("application/")?.strip_prefix(prefix)?)
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "proto" => Some(Self::Proto),
            _ => None,
        }
    }

    /// The media type of unary answers.
    pub(super) fn unary_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Proto => "application/proto",
        }
    }

    /// The media type of streams.
    pub(super) fn stream_type(self) -> &'static str {
        match self {
            Self::Json => "application/connect+json",
            Self::Proto => "application/connect+proto",
        }
    }

    /// Reads a request. A large one is read on a thread that may block.
    pub(super) async fn read<M>(self, body: Bytes) -> Result<M, ApiError>
    where
        M: Message + Name + Default + 'static,
    {
        match self {
            Self::Proto => Ok(message::decode(body)?),
            Self::Json if body.len() <= READ_AT_ONCE => json(&body),
            Self::Json => tokio::task::spawn_blocking(move || json(&body))
                .await
                .unwrap_or_else(|_| Err(ApiError::internal())),
        }
    }

    /// Writes a reply with stored answers.
    pub(super) fn write_reply<R: Reply>(self, reply: &R) -> Result<Bytes, ApiError> {
        let encoded = reply.to_bytes().map_err(|_| ApiError::internal())?;
        self.write_bytes(&format!("contactd.v1.{}", R::NAME), encoded)
    }

    /// Writes any other message.
    pub(super) fn write<M: Message + Name>(self, message: &M) -> Result<Bytes, ApiError> {
        self.write_bytes(&M::full_name(), message.encode_to_vec().into())
    }

    fn write_bytes(self, name: &str, encoded: Bytes) -> Result<Bytes, ApiError> {
        match self {
            Self::Proto => Ok(encoded),
            Self::Json => proto_json::bytes_to_json(name, &encoded)
                .map(|json| json.to_string().into())
                .map_err(|_| ApiError::internal()),
        }
    }
}

fn json<M: Message + Name + Default>(body: &[u8]) -> Result<M, ApiError> {
    let read = proto_json::from_json(body);
    read.map_err(|JsonFault { field, what }| Violation::new(field, what).into())
}
