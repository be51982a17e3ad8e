//! `GET /v1/name`: the name of a caller as text, for telephone systems.
//!
//! Such systems show the body of any answer to the person whose phone rings. So only a name is ever
//! a body. If nobody is found, or the look-up fails, the body is empty, and headers say why.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use prost::Message as _;

use super::error::{answer, status, with_hints};
use super::method::{Method, millis, timeout};
use super::query::Query;
use super::{HttpFront, ReplyBody, RequestBody, text};
use crate::api::{ApiError, FindReply, Reply as _, RequestKind, Violation};
use crate::pb::v1 as pb;

/// The header with the credential for the CRM. `Authorization` is the client's own, as for gRPC.
const CREDENTIAL: &str = "x-crm-authorization";

/// The reason of a failure, and the message about it or about a number that is not looked up.
const REASON: HeaderName = HeaderName::from_static("x-contactd-reason");
const MESSAGE: HeaderName = HeaderName::from_static("x-contactd-message");

/// The parameters and the header of the credential, with the fields of `FindContactRequest` that
/// they fill.
const PARAMETERS: [(&str, &str); 8] = [
    ("platform", "user.platform"),
    ("user", "user.id"),
    ("account", "user.account_id"),
    ("hostname", "user.hostname"),
    ("region", "user.region"),
    ("number", "phone_number"),
    ("format", "overriding_formats"),
    (CREDENTIAL, "auth_header"),
];

/// The parameter with the time limit; the header of the Connect protocol does the same.
const TIMEOUT: &str = "timeout_ms";

impl HttpFront {
    /// Answers with the name of the first contact that is certain or likely.
    pub(super) async fn name(&self, request: Request<RequestBody<'_>>) -> Response<ReplyBody> {
        let (parts, body) = request.into_parts();
        match self.named(&parts, body).await {
            Ok(CallerName::Known(name)) => {
                answer(StatusCode::OK, "text/plain; charset=utf-8", name.into())
            }
            Ok(CallerName::Unknown) => empty(StatusCode::NO_CONTENT),
            Ok(CallerName::NotLookedUp(why)) => explained(empty(StatusCode::NO_CONTENT), &why),
            Err(error) => failed(&with_parameter(error)),
        }
    }

    async fn named(&self, parts: &Parts, body: RequestBody<'_>) -> Result<CallerName, ApiError> {
        let admitted = self.admit(RequestKind::Lookup, parts, body).await?;
        let mut query = Query::with_number(&parts.uri, "number");
        let limit = match query.take(TIMEOUT)? {
            None => timeout(&parts.headers)?,
            Some(digits) => Some(millis(&digits).ok_or_else(no_time)?),
        };
        let request = pb::FindContactRequest {
            auth_header: text(&parts.headers, CREDENTIAL)
                .unwrap_or_default()
                .to_owned(),
            ..read(query)?
        };
        let span = self.span(Method::Find, &parts.headers);
        let reply = self.0.api.find(admitted.context(limit, span), request);
        caller(&reply.await?)
    }
}

/// The name of who calls.
enum CallerName {
    Known(String),
    /// Nobody whose name is certain or likely.
    Unknown,
    /// The number cannot be looked up, for this reason.
    NotLookedUp(String),
}

fn no_time() -> Violation {
    Violation::new(TIMEOUT, "is not a number of milliseconds")
}

/// The request in a query, without the credential.
fn read(mut query: Query) -> Result<pb::FindContactRequest, Violation> {
    query.check()?;
    let number = query.take("number")?;
    let number = number.ok_or_else(|| Violation::new("number", "is required"))?;
    let mut field = |name| query.take(name).map(Option::unwrap_or_default);
    let user = pb::User {
        id: field("user")?,
        platform: field("platform")?,
        account_id: field("account")?,
        hostname: field("hostname")?,
        region: field("region")?,
        ..Default::default()
    };
    let overriding_formats = query.take_all("format");
    if !query.is_empty() {
        return Err(Violation::new(
            "the query",
            "has an unknown parameter; the parameters are platform, user, account, hostname, region, number, format \
             and timeout_ms",
        ));
    }
    Ok(pb::FindContactRequest {
        user: Some(user),
        phone_number: number,
        overriding_formats,
        ..Default::default()
    })
}

/// Contacts come in the order of their quality.
fn caller(reply: &FindReply) -> Result<CallerName, ApiError> {
    let encoded = reply.to_bytes().map_err(|_| ApiError::internal())?;
    let response = pb::FindContactResponse::decode(encoded);
    let response = response.map_err(|_| ApiError::internal())?;
    let lookup = response.lookup.unwrap_or_default();
    if lookup.phone_number.is_empty() {
        let message = response.return_message.unwrap_or_default();
        return Ok(CallerName::NotLookedUp(in_one_line(message)));
    }
    let mut contacts = response.matched_contact_info.into_iter().filter(|contact| {
        let is_one = matches!(
            contact.match_quality(),
            pb::MatchQuality::Exact | pb::MatchQuality::Likely
        );
        is_one && !contact.is_new_contact && !contact.name.is_empty()
    });
    let first = contacts.next();
    Ok(first.map_or(CallerName::Unknown, |contact| {
        CallerName::Known(contact.name)
    }))
}

/// The message and its details, in terms of the query.
fn in_one_line(message: pb::ReturnMessage) -> String {
    let items = message.details.into_iter().flat_map(|detail| detail.items);
    let texts = items.map(|item| item.text.replace("user.region", "region"));
    let mut sentences = vec![format!("{}.", message.message)];
    sentences.extend(texts);
    sentences.join(" ")
}

/// The failure in terms of the query.
fn with_parameter(error: ApiError) -> ApiError {
    let ApiError::InvalidRequest(violation) = error else {
        return error;
    };
    let named = PARAMETERS
        .iter()
        .find(|(_, field)| *field == violation.field);
    let field = named.map_or(violation.field.as_str(), |(parameter, _)| *parameter);
    Violation::new(field, violation.description).into()
}

fn empty(status: StatusCode) -> Response<ReplyBody> {
    let mut response = answer(status, "text/plain; charset=utf-8", Bytes::new());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

fn failed(error: &ApiError) -> Response<ReplyBody> {
    let mut response = with_hints(error, empty(status(error)));
    let reason = HeaderValue::from_static(error.reason());
    response.headers_mut().insert(REASON, reason);
    explained(response, &error.to_string())
}

fn explained(mut response: Response<ReplyBody>, message: &str) -> Response<ReplyBody> {
    // The message may contain a connector's name that a header cannot hold. Then it is left out.
    if let Ok(message) = HeaderValue::from_str(message) {
        response.headers_mut().insert(MESSAGE, message);
    }
    response
}
