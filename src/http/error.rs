//! Failures as Connect writes them, with the codes, reasons and details that gRPC has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use prost_types::Any;
use serde_json::{Value, json};

use super::ReplyBody;
use crate::api::{ApiError, ErrorCode};
use crate::proto_json::any_to_json;

/// A request that is not for `api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The path leads nowhere.
    UnknownPath,
    /// The service has no such method.
    UnknownMethod,
    /// The path supports only these HTTP methods.
    Verb(&'static str),
    /// The body has another type than one of these.
    MediaType(&'static str),
    /// The message is compressed.
    Compressed,
    /// A browser sent it on behalf of a web page.
    WebPage,
}

impl Refusal {
    pub(super) fn respond(self) -> Response<ReplyBody> {
        let (status, message) = self.parts();
        let code = match self {
            Self::WebPage => "permission_denied",
            _ => "unimplemented",
        };
        let body = json!({ "code": code, "message": message });
        let mut response = answer(status, "application/json", body.to_string().into());
        let hint = match self {
            Self::Verb(verbs) => Some((header::ALLOW, verbs)),
            Self::MediaType(types) => Some((HeaderName::from_static("accept-post"), types)),
            _ => None,
        };
        if let Some((name, value)) = hint {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::UnknownPath => (StatusCode::NOT_FOUND, "there is nothing at this path"),
            Self::UnknownMethod => (
                StatusCode::NOT_FOUND,
                "contactd.v1.ContactService has no such method",
            ),
            Self::Verb(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not support this HTTP method: see the header Allow",
            ),
            Self::MediaType(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this method takes another Content-Type: see the header Accept-Post",
            ),
            Self::Compressed => (
                StatusCode::NOT_IMPLEMENTED,
                "compressed requests are not read: send them as they are (identity)",
            ),
            Self::WebPage => (
                StatusCode::FORBIDDEN,
                "requests from web pages are not answered",
            ),
        }
    }
}

/// An answer with this body. It is about people, so nobody on the way may store it.
pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
) -> Response<ReplyBody> {
    typed(status, content_type, Full::new(body).boxed_unsync())
}

/// The same for any body.
pub(super) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: ReplyBody,
) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // So that a browser never runs an answer as a script.
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// The answer to a unary call that failed.
pub(super) fn unary(error: &ApiError) -> Response<ReplyBody> {
    let body = body(error).to_string().into();
    with_hints(error, answer(status(error), "application/json", body))
}

/// Adds what HTTP itself has for failures: `Retry-After` and `WWW-Authenticate`.
pub(super) fn with_hints(
    error: &ApiError,
    mut response: Response<ReplyBody>,
) -> Response<ReplyBody> {
    let headers = response.headers_mut();
    if let Some(delay) = error.retry_after() {
        // Whole seconds, and not too early.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if matches!(error, ApiError::ClientUnauthenticated) {
        let scheme = HeaderValue::from_static("Bearer");
        headers.insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// The failure as an object, also within the last message of a stream.
pub(super) fn body(error: &ApiError) -> Value {
    let details: Vec<Value> = error.details().iter().map(detail).collect();
    json!({
        "code": code(error.code()),
        "message": error.to_string(),
        "details": details,
    })
}

fn detail(any: &Any) -> Value {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let mut detail = json!({ "type": name, "value": STANDARD_NO_PAD.encode(&any.value) });
    if let Ok(debug) = any_to_json(any) {
        detail["debug"] = debug;
    }
    detail
}

fn code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidArgument => "invalid_argument",
        ErrorCode::DeadlineExceeded => "deadline_exceeded",
        ErrorCode::NotFound => "not_found",
        ErrorCode::PermissionDenied => "permission_denied",
        ErrorCode::ResourceExhausted => "resource_exhausted",
        ErrorCode::Aborted => "aborted",
        ErrorCode::Internal => "internal",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::Unauthenticated => "unauthenticated",
    }
}

/// The HTTP status that Connect has for the code.
pub(super) fn status(error: &ApiError) -> StatusCode {
    match error.code() {
        ErrorCode::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Aborted => StatusCode::CONFLICT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
    }
}
