//! The Connect protocol: unary calls by POST and GET, and the server streams.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, header};

use super::admit::Admitted;
use super::codec::Codec;
use super::error::{self, Refusal, answer};
use super::method::{Method, timeout};
use super::query::Query;
use super::{HttpFront, ReplyBody, RequestBody, envelope};
use crate::api::{ApiError, RequestContext, Violation};
use crate::pb::v1 as pb;
use crate::trace::Span;

const UNARY_TYPES: &str = "application/json, application/proto";
const STREAM_TYPES: &str = "application/connect+json, application/connect+proto";

/// The header with the version of the protocol, which clients may leave out.
const VERSION: &str = "connect-protocol-version";

/// The headers that say how a message, or each message of a stream, is compressed.
const ENCODINGS: [&str; 2] = ["content-encoding", "connect-content-encoding"];

/// With or without padding, as clients like.
const URL_BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A call that was admitted.
struct Call {
    codec: Codec,
    timeout: Option<Duration>,
    headers: HeaderMap,
    admitted: Admitted,
}

impl HttpFront {
    /// Answers a call by POST.
    pub(super) async fn post(
        &self,
        method: Method,
        request: Request<RequestBody<'_>>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let (parts, body) = request.into_parts();
        let (prefix, types) = if method.is_stream() {
            ("connect+", STREAM_TYPES)
        } else {
            ("", UNARY_TYPES)
        };
        let codec = Codec::of_type(&parts.headers, prefix).ok_or(Refusal::MediaType(types))?;
        if ENCODINGS
            .iter()
            .any(|name| is_compressed(&parts.headers, name))
        {
            return Err(Refusal::Compressed);
        }
        let call = self.call(method, codec, parts, body).await;
        match method {
            Method::Watch | Method::Prefetch => self.stream(method, codec, call).await,
            Method::Find => Ok(unary(codec, self.find(call).await)),
            Method::Invalidate => Ok(unary(codec, self.invalidate(call).await)),
            Method::Explain => Ok(unary(codec, self.explain(call).await)),
        }
    }

    /// Answers a call by GET, whose message is in the URL.
    pub(super) async fn get(
        &self,
        method: Method,
        request: Request<RequestBody<'_>>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let (parts, body) = request.into_parts();
        let mut query = Query::of(&parts.uri);
        if matches!(query.take("compression"), Ok(Some(name)) if name != "identity") {
            return Err(Refusal::Compressed);
        }
        let named = query.take("encoding").ok().flatten();
        let codec = named.and_then(|name| Codec::named(&name));
        let call = self.call(method, codec.unwrap_or(Codec::Json), parts, body);
        let call = call.await.and_then(|mut call| {
            let unknown = || Violation::new("encoding", "must be json or proto");
            codec.ok_or_else(unknown)?;
            call.admitted.body = message(&mut query)?;
            Ok(call)
        });
        Ok(unary(codec.unwrap_or(Codec::Json), self.find(call).await))
    }

    /// Admits a call.
    async fn call(
        &self,
        method: Method,
        codec: Codec,
        parts: Parts,
        body: RequestBody<'_>,
    ) -> Result<Call, ApiError> {
        let admitted = self.admit(method.kind(), &parts, body).await?;
        if parts
            .headers
            .get(VERSION)
            .is_some_and(|version| version != "1")
        {
            return Err(Violation::new(VERSION, "must be 1").into());
        }
        Ok(Call {
            codec,
            timeout: timeout(&parts.headers)?,
            headers: parts.headers,
            admitted,
        })
    }

    async fn find(&self, call: Result<Call, ApiError>) -> Result<Bytes, ApiError> {
        let call = call?;
        let request = call.codec.read(call.admitted.body.clone()).await?;
        let span = self.span(Method::Find, &call.headers);
        let context = call.admitted.context(call.timeout, span);
        let reply = self.0.api.find(context, request).await?;
        call.codec.write_reply(&reply)
    }

    async fn invalidate(&self, call: Result<Call, ApiError>) -> Result<Bytes, ApiError> {
        let call = call?;
        let request = call.codec.read(call.admitted.body.clone()).await?;
        let context = call.admitted.context(call.timeout, Span::default());
        let done: pb::InvalidateContactsResponse = self.0.api.invalidate(context, request).await?;
        call.codec.write(&done)
    }

    async fn explain(&self, call: Result<Call, ApiError>) -> Result<Bytes, ApiError> {
        let call = call?;
        let request = call.codec.read(call.admitted.body.clone()).await?;
        let span = self.span(Method::Explain, &call.headers);
        let context = call.admitted.context(call.timeout, span);
        let explained: pb::ExplainContactResponse = self.0.api.explain(context, request).await?;
        call.codec.write(&explained)
    }

    async fn stream(
        &self,
        method: Method,
        codec: Codec,
        call: Result<Call, ApiError>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let call = match call {
            Ok(call) => call,
            Err(error) => return Ok(envelope::failed(codec, &error)),
        };
        let message = envelope::opened(&call.admitted.body)?;
        let started = match method {
            Method::Watch => self.watch(call, message).await,
            _ => self.prefetch(call, message).await,
        };
        Ok(started.unwrap_or_else(|error| envelope::failed(codec, &error)))
    }

    async fn prefetch(
        &self,
        call: Call,
        message: Result<Bytes, Violation>,
    ) -> Result<Response<ReplyBody>, ApiError> {
        let (codec, request) = (call.codec, call.codec.read(message?).await?);
        let (left, context) = self.streaming(Method::Prefetch, &call);
        let places = Some(call.admitted.places.into());
        let events = self.0.api.prefetch(context, request, places).await?;
        let messages = events.map(move |event| event.and_then(|event| codec.write(&event)));
        Ok(envelope::stream(codec, messages, left))
    }

    async fn watch(
        &self,
        call: Call,
        message: Result<Bytes, Violation>,
    ) -> Result<Response<ReplyBody>, ApiError> {
        let (codec, request) = (call.codec, call.codec.read(message?).await?);
        let (left, context) = self.streaming(Method::Watch, &call);
        let places = Some(call.admitted.places.into());
        let events = self.0.api.watch(context, request, places).await?;
        let messages = events.map(move |event| event.and_then(|event| codec.write_reply(&event)));
        Ok(envelope::stream(codec, messages, left))
    }

    /// What remains of the client's time, and the context of a stream.
    fn streaming(&self, method: Method, call: &Call) -> (Option<Duration>, RequestContext) {
        let span = self.span(method, &call.headers);
        let left = call.admitted.left(call.timeout);
        (left, call.admitted.context(call.timeout, span))
    }
}

fn unary(codec: Codec, result: Result<Bytes, ApiError>) -> Response<ReplyBody> {
    match result {
        Ok(message) => answer(StatusCode::OK, codec.unary_type(), message),
        Err(error) => error::unary(&error),
    }
}

fn is_compressed(headers: &HeaderMap, name: &str) -> bool {
    let encoding = headers.get(name).map(header::HeaderValue::as_bytes);
    encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity"))
}

/// The message in a query.
fn message(query: &mut Query) -> Result<Bytes, Violation> {
    query.check()?;
    let version = query.take("connect")?;
    if version.is_some_and(|version| version != "v1") {
        return Err(Violation::new("connect", "must be v1"));
    }
    let message = query.take("message")?;
    let message = message.ok_or_else(|| Violation::new("message", "is required"))?;
    match query.take("base64")?.as_deref() {
        None | Some("0") => Ok(message.into()),
        Some("1") => URL_BASE64
            .decode(message)
            .map(Bytes::from)
            .map_err(|_| Violation::new("message", "is not base64 for URLs")),
        Some(_) => Err(Violation::new("base64", "must be 1 or 0")),
    }
}
