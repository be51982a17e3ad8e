//! The one door to a CRM.
//!
//! Every HTTP call passes here, so this is where it is decided: whether the quota has room for it
//! now, which host (the session's own and no other, whatever a redirect or a next-page link says),
//! which credential, how long, how many bytes, how many at a time, and whether a call is sent
//! again. What a reply means is read by the table of [`reply_class`]. Texts of the CRM and of the
//! HTTP library stay here; they may hold numbers.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION};
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Url;

use super::client::{Failure, HttpClient, RequestBuilder, Response};
use super::headers;
use super::log_throttle::LogThrottle;
use super::outbound::Egress;
use super::part::Part;
use super::refusals::{Refusals, Refused};
use super::repeat::Repeat;
use super::reply::Readers;
use super::reply_class::{self, Row};
use super::spent::{Granted, Spent};
use super::tally::{Counts, Tally};
use crate::budget::{Budget, CallKind, Scopes};
use crate::clock::{self, Clock, Instant};
use crate::domain::error::{BadReply, Unavailable};
use crate::domain::{AuthHeader, LookupError, ScopeTag};
use crate::metrics::Metrics;
use crate::trace::Span;
use crate::urgency::Urgency;

/// Longest URL that is called. What makes one longer comes from the CRM: a cursor, a link, an id.
const LONGEST_URL: usize = 8 * 1024;

/// Room that is made for a reply before it comes, whatever length it announces.
const FIRST_ROOM: usize = 64 * 1024;

/// Trace context (W3C).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Redirects followed within one call, all to the same host.
const MAX_REDIRECTS: u32 = 3;

/// Bytes and time for the body of a reply that is no answer. It is read for a code only.
const REFUSAL: (usize, Duration) = (16 * 1024, Duration::from_secs(1));

/// No call takes longer, whatever the settings allow.
const LONGEST_CALL: Duration = Duration::from_secs(86_400);

const TIMEOUT: LookupError = LookupError::CrmUnavailable(Unavailable::Timeout);

/// What one find may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Time for one HTTP call, its reply included.
    pub(crate) call_timeout: Duration,
    /// Bytes of one reply, decompressed.
    pub(crate) reply_bytes: usize,
    /// Pages read of one list.
    pub(crate) pages: u32,
    /// Contacts in one answer.
    pub(crate) contacts: usize,
    /// HTTP calls of one find that may be under way at once.
    pub(crate) concurrent_calls: usize,
}

/// The door of one connector; sessions are opened from it.
#[derive(Clone)]
pub(crate) struct CrmClient {
    way: Egress,
    limits: Limits,
    /// The CRM's own rows of the table of replies.
    rows: &'static [Row],
    budget: Arc<Budget>,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
    log_throttle: Arc<LogThrottle>,
    refusals: Arc<Refusals>,
    readers: Arc<Readers>,
}

impl fmt::Debug for CrmClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl CrmClient {
    /// The door of the connector called `platform`.
    #[must_use]
    pub(crate) fn new(
        way: Egress,
        limits: Limits,
        budget: Arc<Budget>,
        clock: Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        platform: &str,
    ) -> Self {
        let counts = Arc::new(Counts::new(metrics, platform));
        let (log_throttle, refusals, readers) = (Arc::default(), Arc::default(), Arc::default());
        Self {
            way,
            limits,
            rows: &[],
            budget,
            clock,
            counts,
            log_throttle,
            refusals,
            readers,
        }
    }

    /// The same door for a CRM that has such rows of its own in the table of replies.
    #[must_use]
    pub(super) fn reading(self, rows: &'static [Row]) -> Self {
        Self { rows, ..self }
    }

    /// How many calls of a kind may go at once, as the settings say now.
    pub(super) fn burst(&self, kind: CallKind) -> NonZeroU32 {
        self.budget.quota(Some(kind)).burst()
    }

    /// What was told of failures.
    pub(super) fn log_throttle(&self) -> &LogThrottle {
        &self.log_throttle
    }

    /// A session with the CRM at `base` under one credential; its calls spend the quota of
    /// `scopes`, as urgently as `urgency` says by then.
    ///
    /// # Errors
    /// [`LookupError::Internal`] where the credential is no header value, which its parser rules
    /// out.
    pub(crate) fn open(
        &self,
        base: Url,
        auth: &AuthHeader,
        scopes: Scopes,
        urgency: Arc<Urgency>,
        span: Span,
    ) -> Result<CrmSession, LookupError> {
        let mut credential =
            HeaderValue::from_str(auth.expose()).map_err(|_| LookupError::Internal)?;
        credential.set_sensitive(true);
        let spent = Spent::new(Arc::clone(&self.budget), scopes);
        let slots = Semaphore::new(self.limits.concurrent_calls);
        let find = Find {
            door: self.clone(),
            base,
            credential,
            span,
            spent,
            slots,
        };
        Ok(CrmSession {
            find: Arc::new(find),
            urgency,
        })
    }
}

/// Calls to one CRM on behalf of one user, for one find. Clones share everything.
#[derive(Clone)]
pub(crate) struct CrmSession {
    find: Arc<Find>,
    urgency: Arc<Urgency>,
}

/// What all calls of one find share.
struct Find {
    door: CrmClient,
    base: Url,
    credential: HeaderValue,
    span: Span,
    spent: Arc<Spent>,
    slots: Semaphore,
}

impl fmt::Debug for CrmSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrmSession").finish_non_exhaustive()
    }
}

impl CrmSession {
    /// Reads `base/path?query` as JSON. Path segments and parameters are texts; encoding them is
    /// done here.
    ///
    /// # Errors
    /// Every way in which a CRM can fail, as a [`LookupError`]. [`BadReply::Segment`] if a segment
    /// cannot arrive as one: clients and servers drop empty ones, and walk along `.` and `..`
    /// however they are encoded.
    pub(crate) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, LookupError> {
        self.fetch(self.address(path, query)?, CallKind::Other, None)
            .await
    }

    pub(super) fn address(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Url, LookupError> {
        if path
            .iter()
            .any(|segment| matches!(*segment, "" | "." | ".."))
        {
            return Err(LookupError::CrmBadReply(BadReply::Segment));
        }
        let mut url = self.find.base.clone();
        url.path_segments_mut()
            .map_err(|()| LookupError::Internal)?
            .pop_if_empty()
            .extend(path);
        url.query_pairs_mut().extend_pairs(query);
        let is_short = url.as_str().len() <= LONGEST_URL;
        is_short
            .then_some(url)
            .ok_or(LookupError::CrmBadReply(BadReply::NextLink))
    }

    /// A next-page link, if it leads to this session's host; another is not called.
    pub(super) fn next_page(&self, link: &str) -> Result<Url, LookupError> {
        let url = self
            .find
            .base
            .join(link)
            .ok()
            .filter(|url| self.is_home(url) && url.as_str().len() <= LONGEST_URL);
        url.ok_or(LookupError::CrmBadReply(BadReply::NextLink))
    }

    /// The name of a part of details, for this credential and address.
    pub(super) fn refused_part(&self, part: &str, record: Option<&str>) -> Refused {
        self.refusals().name((
            self.find.base.as_str(),
            self.find.credential.as_bytes(),
            part,
            record,
        ))
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.find.door.refusals
    }

    /// What was told of failures of this connector.
    #[must_use]
    pub(crate) fn log_throttle(&self) -> &LogThrottle {
        self.find.door.log_throttle()
    }

    /// The limits of this find.
    #[must_use]
    pub(crate) fn limits(&self) -> &Limits {
        &self.find.door.limits
    }

    /// HTTP calls made so far, failed ones included.
    #[must_use]
    pub(crate) fn requests(&self) -> u32 {
        self.find.spent.calls()
    }

    /// The same session, in another hurry.
    #[must_use]
    pub(crate) fn at(&self, urgency: &Arc<Urgency>) -> Self {
        Self {
            find: Arc::clone(&self.find),
            urgency: Arc::clone(urgency),
        }
    }

    /// The CRM has accepted the credential. If that is news, a call of its account's quota is kept
    /// for such ones.
    pub(crate) async fn prove(&self) {
        if !self.urgency.is_proven() {
            self.urgency.set_proven(true);
            self.find.spent.prove().await;
        }
    }

    /// Spends another scope's quota from now on, because it has turned out whose the credential is.
    /// What was spent before counts there too; the future ends when all of it does.
    pub(crate) fn belongs_to(&self, scope: ScopeTag) -> impl Future<Output = ()> + use<> {
        self.find.spent.belongs_to(scope)
    }

    /// Same scheme, host and port, and no user in it: the credential may go there.
    fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.find.base.origin()
            && url.username().is_empty()
            && url.password().is_none()
    }

    /// Calls, unless it is for a part that was refused while this call waited for its turn, or
    /// before.
    pub(super) async fn fetch(
        &self,
        mut url: Url,
        kind: CallKind,
        part: Option<Part>,
    ) -> Result<Value, LookupError> {
        let _slot = self
            .find
            .slots
            .acquire()
            .await
            .map_err(|_| LookupError::Internal)?;
        if let Some(refusal) = part.and_then(|part| self.standing_refusal(part)) {
            return Err(refusal);
        }
        for _ in 0..=MAX_REDIRECTS {
            match Box::pin(self.call(url, kind)).await? {
                Reply::Json(value) => return Ok(value),
                Reply::MovedTo(target) => url = target,
            }
        }
        Err(LookupError::CrmBadReply(BadReply::Redirect))
    }

    /// Calls, and once more if it may help. Each call takes a permit of its own.
    async fn call(&self, url: Url, kind: CallKind) -> Result<Reply, LookupError> {
        let failure = match self
            .call_once(url.clone(), kind, &self.find.door.way.client)
            .await
        {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        let Some(repeat) = Repeat::of(&failure, self.urgency.deadline()) else {
            return Err(failure);
        };
        clock::sleep(repeat.after).await;
        let way = &self.find.door.way;
        match self
            .call_once(
                url,
                kind,
                if repeat.afresh {
                    &way.afresh
                } else {
                    &way.client
                },
            )
            .await
        {
            // What the CRM said is better to know than that there is no room to ask again.
            Err(LookupError::BudgetExhausted { .. }) => Err(failure),
            second => second,
        }
    }

    async fn call_once(
        &self,
        url: Url,
        kind: CallKind,
        client: &HttpClient,
    ) -> Result<Reply, LookupError> {
        if !self.find.door.way.allows(&url) {
            return Err(LookupError::CrmUnavailable(Unavailable::NotPublic));
        }
        let granted = self.find.spent.acquire(kind, &self.urgency).await?;
        let mut tally = Tally::begin(&self.find.door.counts, self.find.span.call("crm call"));
        tally.span.set("lane", self.urgency.lane().label());
        tally.span.set(
            "call",
            i64::try_from(granted.number + 1).unwrap_or(i64::MAX),
        );
        Box::pin(self.exchange(client.get(url), granted, &mut tally)).await
    }

    async fn exchange(
        &self,
        request: RequestBuilder,
        granted: Granted,
        tally: &mut Tally<'_>,
    ) -> Result<Reply, LookupError> {
        let until = clock::now() + self.find.door.limits.call_timeout.min(LONGEST_CALL);
        let response = match clock::timeout_at(until, self.send(request, tally)).await {
            Some(Ok(response)) => response,
            Some(Err(failure)) => {
                self.find.spent.broke(granted).await;
                return Err(failure);
            }
            // It may still arrive.
            None => return Err(TIMEOUT),
        };
        let status = response.status();
        if status != StatusCode::OK {
            tally.replied(status);
        }
        let headers = headers::rate_hint(response.headers(), self.find.door.clock.wall());
        let moved = status.is_redirection().then(|| self.moved(&response));
        let body = self.body(response, until, tally).await;
        let reply = reply_class::Reply {
            status: status.as_u16(),
            headers: &headers,
            body: body.as_ref().ok(),
        };
        let reading = reply_class::read(self.find.door.rows, reply);
        self.find.spent.observe(granted, &reading.hint).await;
        if let Some(moved) = moved {
            return moved.map(Reply::MovedTo);
        }
        if let Some(failure) = reading.failure() {
            return Err(failure);
        }
        body.map(Reply::Json)
    }

    async fn send(
        &self,
        request: RequestBuilder,
        tally: &Tally<'_>,
    ) -> Result<Response, LookupError> {
        let mut request = request.header(AUTHORIZATION, self.find.credential.clone());
        if let Some(traceparent) = tally.span.traceparent().and_then(|text| text.parse().ok()) {
            request = request.header(TRACEPARENT, traceparent);
        }
        request.send().await.map_err(|failure| match failure {
            Failure::Broken => LookupError::CrmUnavailable(Unavailable::NoReply),
            failure => transport_error(failure),
        })
    }

    /// The body as JSON. That of a reply which is no answer is read only if the table looks at it,
    /// and not for long.
    async fn body(
        &self,
        response: Response,
        until: Instant,
        tally: &mut Tally<'_>,
    ) -> Result<Value, LookupError> {
        let (status, limit) = (
            response.status().as_u16(),
            self.find.door.limits.reply_bytes,
        );
        let (limit, until) = match status {
            200 => (limit, until),
            _ if reply_class::needs_body(self.find.door.rows, status) => {
                (limit.min(REFUSAL.0), until.min(clock::now() + REFUSAL.1))
            }
            _ => return Err(LookupError::CrmBadReply(BadReply::Status(status))),
        };
        let declared = headers::encoding(response.headers());
        let status = response.status();
        let body = clock::timeout_at(until, read(response, limit))
            .await
            .unwrap_or(Err(TIMEOUT))?;
        tally.replied(status);
        self.find.door.readers.read(body, declared, limit).await
    }

    fn moved(&self, response: &Response) -> Result<Url, LookupError> {
        let target = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let target = target
            .and_then(|text| response.url().join(text).ok())
            .filter(|url| self.is_home(url));
        target.ok_or(LookupError::CrmBadReply(BadReply::Redirect))
    }
}

/// A body, read no further than the limit. Sizes are after decompression, so a small bomb is a
/// large body.
async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, LookupError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(LookupError::CrmBadReply(BadReply::TooLarge));
    }
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(FIRST_ROOM));
    while let Some(chunk) = response.chunk().await.map_err(transport_error)? {
        if body.len() + chunk.len() > limit {
            return Err(LookupError::CrmBadReply(BadReply::TooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

enum Reply {
    Json(Value),
    MovedTo(Url),
}

fn transport_error(failure: Failure) -> LookupError {
    LookupError::CrmUnavailable(match failure {
        Failure::Encoding => return LookupError::CrmBadReply(BadReply::Encoding),
        Failure::NotPublic => Unavailable::NotPublic,
        Failure::Connect => Unavailable::Connect,
        Failure::Broken | Failure::TooMuch => Unavailable::Broken,
    })
}
