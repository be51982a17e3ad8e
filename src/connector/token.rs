//! A token that a connector fetches itself, with client credentials (RFC 6749, 4.4).
//!
//! Some CRMs do not know the caller's credential: an operator's secrets are exchanged for a token
//! that serves all callers for an hour. The token is kept in memory only, is fetched once for all
//! calls that wait for it, and is renewed before it ends.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use parking_lot::Mutex;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use url::{Url, form_urlencoded};

use super::body::{failure_of, read};
use super::http_client::{HttpClient, HttpRequest};
use super::request::ReadMethod;
use crate::clock::{self, Instant};
use crate::domain::LookupError;
use crate::domain::error::{BadReply, Unavailable};

/// The largest reply with a token, in bytes.
const LARGEST: usize = 64 * 1024;

/// How long before its end a token is renewed; half of its life if that is shorter.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// The life of a token whose reply does not state it.
const HOUR: Duration = Duration::from_secs(3_600);

/// The longest life that is believed.
const DAY: Duration = Duration::from_secs(86_400);

/// For how long a failure is not tried again, so that not every ringing phone repeats it.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// A token that the CRM refuses is renewed at most this often.
const RENEWED_AFTER: Duration = Duration::from_secs(60);

/// How a token is fetched.
#[derive(Clone)]
pub(crate) struct TokenRequest {
    pub(crate) url: Url,
    pub(crate) form: Vec<(String, SecretString)>,
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenRequest([REDACTED])")
    }
}

/// The token of one connector.
pub(super) struct TokenSource {
    request: TokenRequest,
    current: Mutex<TokenState>,
    /// One permit, so that a token is fetched once for all that wait for it.
    fetching: Semaphore,
}

#[derive(Default)]
enum TokenState {
    #[default]
    None,
    Token {
        token: SecretString,
        fetched: Instant,
        renew_at: Instant,
    },
    Failed(LookupError, Instant),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").finish_non_exhaustive()
    }
}

/// The reply with a token (RFC 6749, 5.1).
#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    expires_in: Option<u64>,
}

impl TokenSource {
    /// The token of this request. If `base_url` is set, the request goes to its host, with the path
    /// of the token's URL.
    pub(super) fn new(mut request: TokenRequest, base_url: Option<&Url>) -> Self {
        if let Some(base) = base_url {
            let mut url = base.clone();
            url.set_path(request.url.path());
            request.url = url;
        }
        Self {
            request,
            current: Mutex::default(),
            fetching: Semaphore::new(1),
        }
    }

    /// The token, fetched if there is none or if it ends soon.
    ///
    /// # Errors
    /// [`LookupError::CrmUnauthenticated`] if the operator's secrets are refused, and any other
    /// failure of a CRM.
    pub(super) async fn get(
        &self,
        client: &HttpClient,
        time: Duration,
    ) -> Result<SecretString, LookupError> {
        if let Some(known) = self.known() {
            return known;
        }
        // Fails if the semaphore is closed, which never happens.
        let _turn = self.fetching.acquire().await;
        if let Some(known) = self.known() {
            return known;
        }
        let fetched = clock::timeout(time, self.fetch(client)).await;
        let fetched = fetched.unwrap_or(Err(LookupError::CrmUnavailable(Unavailable::Timeout)));
        let (state, result) = state_of(fetched, clock::now());
        *self.current.lock() = state;
        result
    }

    /// The token or the failure that still stands.
    fn known(&self) -> Option<Result<SecretString, LookupError>> {
        match &*self.current.lock() {
            TokenState::Token {
                token, renew_at, ..
            } if clock::now() < *renew_at => Some(Ok(token.clone())),
            TokenState::Failed(error, at) if clock::now() < *at + FAILED_FOR => {
                Some(Err(error.clone()))
            }
            _ => None,
        }
    }

    /// The CRM has refused the token. Returns whether it is worth fetching another one.
    pub(super) fn refused(&self) -> bool {
        let mut current = self.current.lock();
        let is_old = match &*current {
            TokenState::Token { fetched, .. } => clock::now() >= *fetched + RENEWED_AFTER,
            TokenState::None | TokenState::Failed(..) => false,
        };
        if is_old {
            *current = TokenState::None;
        }
        is_old
    }

    async fn fetch(&self, client: &HttpClient) -> Result<TokenReply, LookupError> {
        let response = client.send(self.http_request()).await;
        let response = response.map_err(failure_of)?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(failure(status));
        }
        let body = Zeroizing::new(read(response, LARGEST).await?);
        let reply = serde_json::from_slice::<TokenReply>(&body);
        let reply = reply.map_err(|_| LookupError::CrmBadReply(BadReply::Shape))?;
        let is_header = HeaderValue::from_str(&reply.access_token).is_ok();
        let is_sound = is_header && !reply.access_token.is_empty();
        is_sound
            .then_some(reply)
            .ok_or(LookupError::CrmBadReply(BadReply::Shape))
    }

    fn http_request(&self) -> HttpRequest {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.request.form {
            form.append_pair(name, value.expose_secret());
        }
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        HttpRequest {
            method: ReadMethod::ReadByPost,
            url: self.request.url.clone(),
            headers: HeaderMap::from_iter([
                (CONTENT_TYPE, kind),
                (ACCEPT, HeaderValue::from_static("application/json")),
            ]),
            body: Bytes::from(form.finish()),
            shown: None,
        }
    }
}

/// What is remembered of an attempt, and its result.
fn state_of(
    fetched: Result<TokenReply, LookupError>,
    now: Instant,
) -> (TokenState, Result<SecretString, LookupError>) {
    match fetched {
        Ok(reply) => {
            let life = reply.expires_in.map_or(HOUR, Duration::from_secs).min(DAY);
            let token = SecretString::from(reply.access_token);
            let state = TokenState::Token {
                token: token.clone(),
                fetched: now,
                renew_at: now + life.saturating_sub(EARLY.min(life / 2)),
            };
            (state, Ok(token))
        }
        Err(error) => (TokenState::Failed(error.clone(), now), Err(error)),
    }
}

/// What a refusal of the request for a token means. The body of the reply is not read.
fn failure(status: StatusCode) -> LookupError {
    match status.as_u16() {
        400 | 401 | 403 => LookupError::CrmUnauthenticated,
        429 => LookupError::CrmRateLimited { retry_after: None },
        code @ 500..=599 => LookupError::CrmUnavailable(Unavailable::Status {
            code,
            retry_after: None,
        }),
        code => LookupError::CrmBadReply(BadReply::Status(code)),
    }
}
