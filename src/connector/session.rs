//! The one door to a CRM.
//!
//! Every HTTP call passes here, so this is where it is decided: whether the quota has room for it now, which host (the
//! session's own and no other, whatever a redirect or a next-page link says), which credential, how long, how many
//! bytes, how many at a time, and which error each status is. Texts of the CRM and of the HTTP library stay here; they
//! may hold numbers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Url;

use super::calls::Part;
use super::complaints::Complaints;
use super::outbound::{NotPublic, Way};
use super::refusals::{Refusals, Refused};
use super::spent::{Granted, Spent};
use super::{headers, reply};
use crate::budget::{Budget, CallKind};
use crate::clock::{self, Clock, Stopwatch};
use crate::domain::error::{BadReply, Unavailable};
use crate::domain::{AuthHeader, LookupError, ScopeTag};
use crate::metrics::{CrmLabels, Metrics, PlatformLabels, observe};
use crate::trace::Span;
use crate::urgency::Urgency;

/// Longest URL that is called. What makes one longer comes from the CRM: a cursor, a link, an id.
const LONGEST_URL: usize = 8 * 1024;

/// Room that is made for a reply before it comes, whatever length it announces.
const FIRST_ROOM: usize = 64 * 1024;

/// Redirects followed within one call, all to the same host.
const MAX_REDIRECTS: u32 = 3;

/// What one find may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time for one HTTP call, its reply included.
    pub call_timeout: Duration,
    /// Bytes of one reply, decompressed.
    pub reply_bytes: usize,
    /// Pages read of one list.
    pub pages: u32,
    /// Contacts in one answer.
    pub contacts: usize,
    /// HTTP calls of one find that may be under way at once.
    pub concurrent_calls: usize,
}

/// The door of one connector; sessions are opened from it.
#[derive(Clone)]
pub struct Door {
    way: Way,
    limits: Limits,
    budget: Arc<Budget>,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
    complaints: Arc<Complaints>,
    refusals: Arc<Refusals>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Metric handles of one connector.
struct Counts {
    metrics: Arc<Metrics>,
    platform: String,
    duration: Histogram,
}

impl Counts {
    fn count(&self, status: &'static str) {
        let labels = CrmLabels { platform: self.platform.clone(), status };
        self.metrics.crm_requests.get_or_create(&labels).inc();
    }
}

impl Door {
    /// The door of the connector called `platform`.
    #[must_use]
    pub fn new(
        way: Way,
        limits: Limits,
        budget: Arc<Budget>,
        clock: Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        platform: &str,
    ) -> Self {
        let labels = PlatformLabels { platform: platform.to_owned() };
        let duration = metrics.crm_request_duration.get_or_create(&labels).clone();
        let counts = Counts { metrics: Arc::clone(metrics), platform: platform.to_owned(), duration };
        let (complaints, refusals) = (Arc::default(), Arc::default());
        Self { way, limits, budget, clock, counts: Arc::new(counts), complaints, refusals }
    }

    /// What was told of failures.
    pub(super) fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    /// A session with the CRM at `base` under one credential; its calls spend the quota of the second scope, as urgently
    /// as `urgency` says by then. The first is the one that they spend as long as it is not known whose the credential
    /// is.
    ///
    /// # Errors
    /// [`LookupError::Internal`] where the credential is no header value, which its parser rules out.
    pub fn open(
        &self,
        base: Url,
        auth: &AuthHeader,
        (unidentified, scope): (ScopeTag, ScopeTag),
        urgency: Arc<Urgency>,
        span: Span,
    ) -> Result<CrmSession, LookupError> {
        let mut credential = HeaderValue::from_str(auth.expose()).map_err(|_| LookupError::Internal)?;
        credential.set_sensitive(true);
        let spent = Spent::new(Arc::clone(&self.budget), unidentified, scope);
        let slots = Semaphore::new(self.limits.concurrent_calls);
        let find = Find { door: self.clone(), base, credential, span, spent, slots };
        Ok(CrmSession { find: Arc::new(find), urgency })
    }
}

/// Calls to one CRM on behalf of one user, for one find. Clones share everything.
#[derive(Clone)]
pub struct CrmSession {
    find: Arc<Find>,
    urgency: Arc<Urgency>,
}

/// What all calls of one find share.
struct Find {
    door: Door,
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
    /// Reads `base/path?query` as JSON. Path segments and parameters are texts; encoding them is done here.
    ///
    /// # Errors
    /// Every way in which a CRM can fail, as a [`LookupError`]. [`BadReply::Segment`] if a segment cannot arrive as one:
    /// clients and servers drop empty ones, and walk along `.` and `..` however they are encoded.
    pub async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, LookupError> {
        self.fetch(self.address(path, query)?, CallKind::Other, None).await
    }

    pub(super) fn address(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, LookupError> {
        if path.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(LookupError::CrmBadReply(BadReply::Segment));
        }
        let mut url = self.find.base.clone();
        url.path_segments_mut().map_err(|()| LookupError::Internal)?.pop_if_empty().extend(path);
        url.query_pairs_mut().extend_pairs(query);
        let is_short = url.as_str().len() <= LONGEST_URL;
        is_short.then_some(url).ok_or(LookupError::CrmBadReply(BadReply::NextLink))
    }

    /// A next-page link, if it leads to this session's host; another is not called.
    pub(super) fn next_page(&self, link: &str) -> Result<Url, LookupError> {
        let url = self.find.base.join(link).ok().filter(|url| self.is_home(url) && url.as_str().len() <= LONGEST_URL);
        url.ok_or(LookupError::CrmBadReply(BadReply::NextLink))
    }

    /// The name of a part of details, for this credential and address.
    pub(super) fn refused_part(&self, part: &str, record: Option<&str>) -> Refused {
        self.refusals().name((self.find.base.as_str(), self.find.credential.as_bytes(), part, record))
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.find.door.refusals
    }

    /// What was told of failures of this connector.
    #[must_use]
    pub fn complaints(&self) -> &Complaints {
        self.find.door.complaints()
    }

    /// The limits of this find.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.find.door.limits
    }

    /// HTTP calls made so far, failed ones included.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.find.spent.calls()
    }

    /// The same session, in another hurry.
    #[must_use]
    pub fn at(&self, urgency: &Arc<Urgency>) -> Self {
        Self { find: Arc::clone(&self.find), urgency: Arc::clone(urgency) }
    }

    /// The CRM has accepted the credential. If that is news, a call of its account's quota is kept for such ones.
    pub async fn prove(&self) {
        if !self.urgency.is_proven() {
            self.urgency.set_proven(true);
            self.find.spent.prove().await;
        }
    }

    /// Spends another scope's quota from now on, because it has turned out whose the credential is. What was spent
    /// before counts there too; the future ends when all of it does.
    pub fn belongs_to(&self, scope: ScopeTag) -> impl Future<Output = ()> + use<> {
        self.find.spent.belongs_to(scope)
    }

    /// Same scheme, host and port, and no user in it: the credential may go there.
    fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.find.base.origin() && url.username().is_empty() && url.password().is_none()
    }

    /// Calls, unless it is for a part that was refused while this call waited for its turn, or before.
    pub(super) async fn fetch(&self, mut url: Url, kind: CallKind, part: Option<Part>) -> Result<Value, LookupError> {
        let _slot = self.find.slots.acquire().await.map_err(|_| LookupError::Internal)?;
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

    async fn call(&self, url: Url, kind: CallKind) -> Result<Reply, LookupError> {
        if !self.find.door.way.permits(&url) {
            return Err(LookupError::CrmUnavailable(Unavailable::NotPublic));
        }
        let granted = self.find.spent.acquire(kind, &self.urgency).await?;
        let mut tally = Tally::begin(&self.find.door.counts, self.find.span.call("crm call"));
        tally.span.set("platform", self.find.door.counts.platform.clone());
        tally.span.set("lane", self.urgency.lane().label());
        tally.span.set("call", i64::try_from(granted.number + 1).unwrap_or(i64::MAX));
        let exchange = self.exchange(url, granted, &mut tally);
        let exchanged = clock::within(self.find.door.limits.call_timeout, exchange).await;
        exchanged.unwrap_or(Err(LookupError::CrmUnavailable(Unavailable::Timeout)))
    }

    async fn exchange(&self, url: Url, granted: Granted, tally: &mut Tally<'_>) -> Result<Reply, LookupError> {
        let mut request = self.find.door.way.client.get(url).header(AUTHORIZATION, &self.find.credential);
        if let Some(traceparent) = tally.span.traceparent() {
            request = request.header("traceparent", traceparent);
        }
        #[expect(clippy::disallowed_methods, reason = "this is the one door to CRMs")]
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                self.find.spent.broke(granted).await;
                return Err(transport_error(&error));
            }
        };
        let status = response.status();
        if status != StatusCode::OK {
            tally.status = class(status);
        }
        let hint = headers::rate_hint(status.as_u16(), response.headers(), self.find.door.clock.wall());
        self.find.spent.observe(granted, &hint).await;
        if status.is_redirection() {
            return self.moved(&response).map(Reply::MovedTo);
        }
        if hint.refused {
            return Err(LookupError::CrmRateLimited { retry_after: hint.retry_after });
        }
        if let Some(error) = status_error(status.as_u16(), hint.retry_after) {
            return Err(error);
        }
        let declared = headers::encoding(response.headers());
        let body = self.read(response).await?;
        tally.status = class(status);
        reply::read(body, declared, self.find.door.limits.reply_bytes)
            .map(Reply::Json)
            .map_err(LookupError::CrmBadReply)
    }

    fn moved(&self, response: &Response) -> Result<Url, LookupError> {
        let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let target = target.and_then(|text| response.url().join(text).ok()).filter(|url| self.is_home(url));
        target.ok_or(LookupError::CrmBadReply(BadReply::Redirect))
    }

    /// The body, read no further than the limit. Sizes are after decompression, so a small bomb is a large body.
    async fn read(&self, mut response: Response) -> Result<Vec<u8>, LookupError> {
        let limit = self.find.door.limits.reply_bytes;
        let announced = response.content_length().unwrap_or(0);
        if announced > limit as u64 {
            return Err(LookupError::CrmBadReply(BadReply::TooLarge));
        }
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(FIRST_ROOM));
        while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(LookupError::CrmBadReply(BadReply::TooLarge));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Counts and measures one call when it is over, also where it is given up: by its status if the reply is one, else as
/// an error.
struct Tally<'a> {
    counts: &'a Counts,
    span: Span,
    began: Stopwatch,
    status: &'static str,
}

impl<'a> Tally<'a> {
    fn begin(counts: &'a Counts, span: Span) -> Self {
        Self { counts, span, began: Stopwatch::start(), status: "error" }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.counts.count(self.status);
        observe(&self.counts.duration, self.began.elapsed());
        self.span.set("status", self.status);
        self.span.end();
    }
}

enum Reply {
    Json(Value),
    MovedTo(Url),
}

/// The error of a status that brings no answer. Only 200 brings one: 202 is one that comes later, 203 another's, 206 a
/// part of one.
pub(super) fn status_error(code: u16, retry_after: Option<Duration>) -> Option<LookupError> {
    match code {
        200 => None,
        401 => Some(LookupError::CrmUnauthenticated),
        403 => Some(LookupError::CrmForbidden),
        429 => Some(LookupError::CrmRateLimited { retry_after }),
        408 | 500..=599 => Some(LookupError::CrmUnavailable(Unavailable::Status(code))),
        _ => Some(LookupError::CrmBadReply(BadReply::Status(code))),
    }
}

/// The label of a status.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

fn transport_error(error: &reqwest::Error) -> LookupError {
    // reqwest calls every fault of a body one of decoding. Those of the decompression are I/O errors; the connection's
    // are hyper's.
    if error.is_decode() && std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
    {
        return LookupError::CrmBadReply(BadReply::Encoding);
    }
    LookupError::CrmUnavailable(if error.is_timeout() {
        Unavailable::Timeout
    } else if NotPublic::caused(error) {
        Unavailable::NotPublic
    } else if error.is_connect() {
        Unavailable::Connect
    } else {
        Unavailable::Broken
    })
}
