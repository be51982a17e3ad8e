//! The HTTP API: routes, the gate that every request passes, and the JSON of replies.
//!
//! At the gate a request is counted. It may then be refused by the rate limit (429), for its bearer
//! token (401, 403) or by chance (500), in this order. A path outside the API is 404. Every refusal
//! is `{"error": "..."}`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ExampleCrm;
use super::limits::RequestVerdict;
use super::records::{Deal, SampleContact};
use crate::clock;

const PAGE_SIZE: usize = 50;

/// Bearer tokens with this prefix are accepted.
const TOKEN_PREFIX: &str = "demo";
/// The token of a user who may not read contacts.
const FORBIDDEN_TOKEN: &str = "demo-forbidden";

/// The API of `crm`.
pub(super) fn router(crm: Arc<ExampleCrm>) -> Router {
    Router::new()
        .route("/api/v1/me", get(me))
        .route("/api/v1/contacts", get(contacts))
        .route("/api/v1/contacts/{id}/deals", get(deals))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .layer(from_fn_with_state(Arc::clone(&crm), gate))
        .with_state(crm)
}

/// A refusal with its reason.
#[derive(Debug)]
struct Rejection(StatusCode, &'static str);

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let Self(status, reason) = self;
        let mut response = (status, Json(json!({ "error": reason }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

const NOTHING_HERE: Rejection = Rejection(StatusCode::NOT_FOUND, "there is nothing here");

async fn nothing_here() -> Rejection {
    NOTHING_HERE
}

/// Passes a request to its handler, or answers it here. In both cases the reply waits for the
/// latency.
async fn gate(State(crm): State<Arc<ExampleCrm>>, request: Request, next: Next) -> Response {
    crm.requests.fetch_add(1, Ordering::Relaxed);
    let (verdict, admitted) = crm.admit(request.headers());
    clock::sleep(crm.latency).await;
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    if let Some(verdict) = verdict {
        verdict.write(response.headers_mut());
    }
    response
}

impl ExampleCrm {
    /// Returns whether a request with these headers may pass, and the rate limit's decision.
    fn admit(&self, headers: &HeaderMap) -> (Option<RequestVerdict>, Result<(), Rejection>) {
        // A request without a token has a bucket, too: that of the empty token.
        let token = bearer_token(headers).unwrap_or_default();
        let verdict = self.limiter.as_ref().map(|limiter| limiter.check(token));
        let admitted = if verdict.is_some_and(|verdict| !verdict.passes()) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Err(Rejection(
                StatusCode::TOO_MANY_REQUESTS,
                "the rate limit is reached",
            ))
        } else {
            authorise(token).and_then(|()| self.chance())
        };
        (verdict, admitted)
    }

    /// Fails as often as the error rate says.
    fn chance(&self) -> Result<(), Rejection> {
        // A rate of 1 always fails, because the drawn number is less than 1.
        if self.error_rate > 0.0 && self.faults.lock().f64() < self.error_rate {
            return Err(ON_PURPOSE);
        }
        Ok(())
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

const ON_PURPOSE: Rejection = Rejection(StatusCode::INTERNAL_SERVER_ERROR, "failed on purpose");
const FORBIDDEN: Rejection = Rejection(StatusCode::FORBIDDEN, "this user may not read contacts");
const UNAUTHORIZED: Rejection = Rejection(
    StatusCode::UNAUTHORIZED,
    "a bearer token that begins with \"demo\" is required",
);

fn authorise(token: &str) -> Result<(), Rejection> {
    if token == FORBIDDEN_TOKEN {
        return Err(FORBIDDEN);
    }
    if !token.starts_with(TOKEN_PREFIX) {
        return Err(UNAUTHORIZED);
    }
    Ok(())
}

#[derive(Deserialize)]
struct ContactsQuery {
    phone: Option<String>,
    extension: Option<String>,
    #[serde(default = "first_page")]
    page: NonZeroUsize,
}

#[derive(Deserialize)]
struct DealsQuery {
    #[serde(default = "first_page")]
    page: NonZeroUsize,
}

fn first_page() -> NonZeroUsize {
    NonZeroUsize::MIN
}

#[derive(Serialize)]
struct ContactsReply<'a> {
    contacts: &'a [&'a SampleContact],
    next_page: Option<usize>,
}

#[derive(Serialize)]
struct DealsReply<'a> {
    deals: &'a [Deal],
    next_page: Option<usize>,
}

#[derive(Serialize)]
struct Me<'a> {
    id: &'a str,
    account_id: &'static str,
}

/// Longest id of a user.
const LONGEST_ID: usize = 64;

/// `GET /api/v1/me`: whose the token is. All tokens with the same text before the first dot belong
/// to one user, so that a token can be replaced: `demo-ann.1` and `demo-ann.2` are both `demo-ann`.
async fn me(headers: HeaderMap) -> Response {
    let token = bearer_token(&headers).unwrap_or_default();
    Json(Me {
        id: id_of(token),
        account_id: "example",
    })
    .into_response()
}

/// The user of a token: what is before its first dot.
fn id_of(token: &str) -> &str {
    let id = token.split('.').next().unwrap_or(token);
    id.get(..LONGEST_ID).unwrap_or(id)
}

/// `GET /api/v1/contacts`: by `phone`, fuzzily; else by `extension`, exactly.
async fn contacts(
    State(crm): State<Arc<ExampleCrm>>,
    query: Result<Query<ContactsQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query.map_err(|_| bad_query())?;
    let found: Vec<&SampleContact> = match (&query.phone, &query.extension) {
        (Some(phone), _) => crm.data.search(phone),
        (None, Some(extension)) => crm.data.search_extension(extension).into_iter().collect(),
        (None, None) => {
            return Err(Rejection(
                StatusCode::BAD_REQUEST,
                "phone or extension is required",
            ));
        }
    };
    let (contacts, next_page) = page(&found, query.page);
    Ok(Json(ContactsReply {
        contacts,
        next_page,
    })
    .into_response())
}

/// `GET /api/v1/contacts/{id}/deals`.
async fn deals(
    State(crm): State<Arc<ExampleCrm>>,
    id: Result<Path<usize>, PathRejection>,
    query: Result<Query<DealsQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = id.map_err(|_| NOTHING_HERE)?;
    let Query(query) = query.map_err(|_| bad_query())?;
    let contact = crm.data.contact(id).ok_or(NOTHING_HERE)?;
    let (deals, next_page) = page(&contact.deals, query.page);
    Ok(Json(DealsReply { deals, next_page }).into_response())
}

fn bad_query() -> Rejection {
    Rejection(
        StatusCode::BAD_REQUEST,
        "page counts from 1, and no parameter may be repeated",
    )
}

/// The items of one page and the number of the next page, if there is more.
fn page<T>(items: &[T], number: NonZeroUsize) -> (&[T], Option<usize>) {
    let start = (number.get() - 1)
        .saturating_mul(PAGE_SIZE)
        .min(items.len());
    let end = (start + PAGE_SIZE).min(items.len());
    (
        &items[start..end],
        (end < items.len()).then(|| number.get() + 1),
    )
}

#[cfg(test)]
mod tests;
