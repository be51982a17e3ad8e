//! One call to a CRM: request, reply, and what follows.
//!
//! Every HTTP call goes through this module. It decides whether the quota has room, how long the
//! call may take, how large the reply may be, which redirects are followed, and whether the request
//! is sent again. The table in [`reply_class`] decides what a reply means. Texts of the CRM and of
//! the HTTP library do not leave this module, because they may contain numbers.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderName, LOCATION};
use serde_json::Value;

use super::body::{failure_of, read};
use super::headers;
use super::http_client::{HttpClient, HttpRequest, HttpResponse, TransportError};
use super::part::DetailsPart;
use super::readers::ReadingTurn;
use super::redirect::keeps_request;
use super::repeat::Repeat;
use super::reply_class::{self, ReplyClass, ReplyFacts, ReplyMeaning, ReplyRule};
use super::request::NAMED_BY_THE_CRM;
use super::session::CrmSession;
use super::spent::Granted;
use super::tally::CallTally;
use super::witness::{CallSeen, Ending, Event, ReplySeen};
use crate::budget::CallKind;
use crate::clock::{self, Instant};
use crate::domain::LookupError;
use crate::domain::error::{BadReply, Unavailable};

/// Trace context (W3C).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Redirects followed within one call, all to the same host.
const MAX_REDIRECTS: u32 = 3;

/// Limits for the body of an error reply, in bytes and time. It is read only for an error code.
const REFUSAL: (usize, Duration) = (16 * 1024, Duration::from_secs(1));

/// No call takes longer, whatever the settings allow.
const LONGEST_CALL: Duration = Duration::from_secs(86_400);

const TIMEOUT: LookupError = LookupError::CrmUnavailable(Unavailable::Timeout);

/// What a CRM replied to one request, except a failure.
#[derive(Debug)]
pub(super) enum CrmReply {
    /// A reply that may be a success.
    Json {
        body: Value,
        /// The target of its `Link` header with `rel="next"`.
        next: Option<String>,
    },
    /// There are no such records.
    Nobody,
    /// The CRM cannot answer this call, but it answers others.
    Partial,
}

/// How an exchange ended.
enum Exchanged {
    Reply(CrmReply),
    MovedTo(HttpRequest),
}

impl CrmSession {
    /// Makes the call, unless it is for a part that was refused earlier or while this call waited.
    ///
    /// # Errors
    /// Any failure of a CRM, as a [`LookupError`].
    pub(super) async fn fetch(
        &self,
        mut request: HttpRequest,
        kind: CallKind,
        part: Option<DetailsPart<'_>>,
    ) -> Result<CrmReply, LookupError> {
        let slot = self.find.slots.acquire().await;
        let _slot = slot.map_err(|_| LookupError::Internal)?;
        if let Some(refusal) = part.and_then(|part| self.known_refusal(part)) {
            return Err(refusal);
        }
        if self.is_dry() {
            let dry = || self.call_seen(&request, kind, (Ending::Dry, Duration::ZERO));
            self.show(dry);
            return Ok(CrmReply::Nobody);
        }
        for _ in 0..=MAX_REDIRECTS {
            match Box::pin(self.call(&request, kind)).await? {
                Exchanged::Reply(answer) => return Ok(answer),
                Exchanged::MovedTo(target) => request = target,
            }
        }
        Err(LookupError::CrmBadReply(BadReply::Redirect))
    }

    /// Makes the call, and repeats it once if that may help. Each attempt takes a permit of its
    /// own.
    async fn call(&self, request: &HttpRequest, kind: CallKind) -> Result<Exchanged, LookupError> {
        let egress = &self.find.client.egress;
        let first = self.call_once(request, kind, &egress.client).await;
        let Err(failure) = first else { return first };
        if failure == LookupError::CrmUnauthenticated
            && let Some(token) = &self.find.client.token
            && token.refused()
        {
            return self.call_once(request, kind, &egress.client).await;
        }
        let Some(repeat) = Repeat::of(&failure, self.urgency.deadline()) else {
            return Err(failure);
        };
        clock::sleep(repeat.after).await;
        let client = if repeat.afresh {
            &egress.afresh
        } else {
            &egress.client
        };
        match self.call_once(request, kind, client).await {
            // The CRM's failure says more than the lack of room for a second attempt.
            Err(LookupError::BudgetExhausted { .. }) => Err(failure),
            second => second,
        }
    }

    async fn call_once(
        &self,
        request: &HttpRequest,
        kind: CallKind,
        client: &HttpClient,
    ) -> Result<Exchanged, LookupError> {
        if !self.find.client.egress.allows(&request.url) {
            return Err(LookupError::CrmUnavailable(Unavailable::NotPublic));
        }
        let token = match &self.find.client.token {
            Some(token) => Some(token.get(client, self.call_timeout()).await?),
            None => None,
        };
        let mut request = request.clone();
        let credential = &self.find.credential;
        let added = credential.add_to(&mut request.headers, token.as_ref());
        added.map_err(|_| LookupError::CrmUnauthenticated)?;
        let granted = self.granted(kind).await?;
        let mut tally = self.tally(&granted);
        Box::pin(self.exchange(client, (&request, kind), granted, &mut tally)).await
    }

    fn tally(&self, granted: &Granted) -> CallTally<'_> {
        let span = self.find.span.call("crm call");
        let tally = CallTally::begin(&self.find.client.call_metrics, span);
        tally.span.set("lane", self.urgency.lane().label());
        let number = i64::try_from(granted.number + 1).unwrap_or(i64::MAX);
        tally.span.set("call", number);
        tally
    }

    /// Waits for the quota. A search gives up if another search of the same look-up failed for a
    /// reason that concerns this one too.
    async fn granted(&self, kind: CallKind) -> Result<Granted, LookupError> {
        let granted = self.find.spent.acquire(kind, &self.urgency);
        if kind != CallKind::Search {
            return granted.await;
        }
        tokio::select! {
            biased;
            failure = self.find.stopped.wait() => Err(failure.clone()),
            granted = granted => granted,
        }
    }

    fn call_timeout(&self) -> Duration {
        self.find.client.limits.call_timeout.min(LONGEST_CALL)
    }

    async fn exchange(
        &self,
        client: &HttpClient,
        (request, kind): (&HttpRequest, CallKind),
        granted: Granted,
        tally: &mut CallTally<'_>,
    ) -> Result<Exchanged, LookupError> {
        let until = clock::now() + self.call_timeout();
        let sending = self.send(client, request.clone(), tally);
        let response = match clock::timeout_at(until, sending).await {
            Some(Ok(response)) => response,
            Some(Err(failure)) => {
                self.show(|| self.call_seen(request, kind, tally.ended(Ending::Failed(&failure))));
                self.find.spent.broke(granted).await;
                return Err(failure);
            }
            // The request may still arrive.
            None => {
                self.show(|| self.call_seen(request, kind, tally.ended(Ending::Failed(&TIMEOUT))));
                return Err(TIMEOUT);
            }
        };
        self.receive((request, kind), response, until, granted, tally)
            .await
    }

    /// Sends a request with the credential and the trace context.
    async fn send(
        &self,
        client: &HttpClient,
        mut request: HttpRequest,
        tally: &CallTally<'_>,
    ) -> Result<HttpResponse, LookupError> {
        if let Some(traceparent) = tally.span.traceparent().and_then(|text| text.parse().ok()) {
            request.headers.insert(TRACEPARENT, traceparent);
        }
        client.send(request).await.map_err(sending_failed)
    }

    /// Reads a reply, and reports its hints to the quota.
    async fn receive(
        &self,
        (request, kind): (&HttpRequest, CallKind),
        response: HttpResponse,
        until: Instant,
        granted: Granted,
        tally: &mut CallTally<'_>,
    ) -> Result<Exchanged, LookupError> {
        let status = response.status();
        if status != StatusCode::OK {
            tally.replied(status);
        }
        let (profile, now) = (&self.find.client.profile, self.find.client.clock.wall());
        let hint = headers::rate_hint(response.headers(), &profile.rate, now);
        let is_moved = status.is_redirection();
        let moved = is_moved.then(|| self.moved(request, &response));
        let next = headers::next_link(response.headers());
        let fields = response.headers().clone();
        let body = self.body(response, until, tally).await;
        let facts = ReplyFacts {
            status: status.as_u16(),
            headers: &hint,
            fields: &fields,
            body: body.as_ref().ok(),
        };
        let meaning = reply_class::read(&profile.replies, facts);
        self.show(|| {
            let reply = reply_seen(facts, tally.bytes, failure(&meaning, &body));
            self.call_seen(request, kind, tally.ended(Ending::Reply(reply)))
        });
        self.find.spent.observe(granted, &meaning.hint).await;
        match moved {
            Some(moved) => moved.map(Exchanged::MovedTo),
            None => reply_of(meaning, body, next).map(Exchanged::Reply),
        }
    }

    /// The body as JSON. The body of an error reply is read only if the table needs it, and only
    /// for a short time.
    async fn body(
        &self,
        response: HttpResponse,
        until: Instant,
        tally: &mut CallTally<'_>,
    ) -> Result<Value, LookupError> {
        let client = &self.find.client;
        let status = response.status();
        let Some((limit, until)) = self.limits_of_body(status.as_u16(), until) else {
            return Err(LookupError::CrmBadReply(BadReply::Status(status.as_u16())));
        };
        let declared = headers::encoding(response.headers());
        let reading = async {
            let body = read(response, limit).await?;
            tally.bytes = body.len();
            tally.replied(status);
            let turn = self.reading_turn();
            client.readers.read(turn, body, declared, limit).await
        };
        clock::timeout_at(until, reading)
            .await
            .unwrap_or(Err(TIMEOUT))
    }

    /// The most bytes of a body, and the time for it. `None` if it is not read.
    fn limits_of_body(&self, status: u16, until: Instant) -> Option<(usize, Instant)> {
        let client = &self.find.client;
        let bytes = client.limits.reply_bytes;
        match size_of_body(&client.profile.replies, status) {
            BodySize::Answer => Some((bytes, until)),
            BodySize::Refusal => {
                let soon = clock::now() + REFUSAL.1;
                Some((bytes.min(REFUSAL.0), until.min(soon)))
            }
            BodySize::Nothing => None,
        }
    }

    fn call_seen<'e>(
        &'e self,
        request: &'e HttpRequest,
        kind: CallKind,
        (ending, took): (Ending<'e>, Duration),
    ) -> Event<'e> {
        Event::Call(Box::new(CallSeen {
            kind,
            took,
            path: request.shown.as_deref().unwrap_or(NAMED_BY_THE_CRM),
            method: request.method.name(),
            url: &request.url,
            headers: self.find.credential.without(&request.headers),
            credential: self.find.credential.names(),
            body: &request.body,
            ending,
        }))
    }

    /// The turn in which a reply is read.
    fn reading_turn(&self) -> ReadingTurn<'_> {
        let named = self.find.client.egress.is_named();
        ReadingTurn {
            scope: self.find.spent.scope(),
            host: named.then(|| self.find.base.host_str()).flatten(),
        }
    }

    /// The request after a redirect, if it stays on this session's host with the same method and
    /// body.
    fn moved(
        &self,
        request: &HttpRequest,
        response: &HttpResponse,
    ) -> Result<HttpRequest, LookupError> {
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let target = location
            .and_then(|text| response.url().join(text).ok())
            .filter(|url| self.is_home(url))
            .filter(|_| keeps_request(request.method, response.status()));
        let url = target.ok_or(LookupError::CrmBadReply(BadReply::Redirect))?;
        Ok(HttpRequest {
            url,
            shown: None,
            ..request.clone()
        })
    }
}

fn sending_failed(error: TransportError) -> LookupError {
    match error {
        TransportError::Broken => LookupError::CrmUnavailable(Unavailable::NoReply),
        error => failure_of(error),
    }
}

fn reply_seen(facts: ReplyFacts<'_>, bytes: usize, failure: Option<LookupError>) -> ReplySeen<'_> {
    ReplySeen {
        status: facts.status,
        headers: facts.fields,
        body: facts.body,
        bytes,
        failure,
    }
}

/// Why a reply is no answer.
fn failure(meaning: &ReplyMeaning, body: &Result<Value, LookupError>) -> Option<LookupError> {
    let unreadable = || body.as_ref().err().cloned();
    meaning.failure().or_else(unreadable)
}

fn reply_of(
    meaning: ReplyMeaning,
    body: Result<Value, LookupError>,
    next: Option<String>,
) -> Result<CrmReply, LookupError> {
    match (meaning.failure(), meaning.class) {
        (Some(failure), _) => Err(failure),
        (None, ReplyClass::Nobody) => Ok(CrmReply::Nobody),
        (None, ReplyClass::Partial) => Ok(CrmReply::Partial),
        (None, _) => body.map(|body| CrmReply::Json { body, next }),
    }
}

/// How much of a reply's body is read.
enum BodySize {
    Answer,
    Refusal,
    Nothing,
}

fn size_of_body(rules: &[ReplyRule], status: u16) -> BodySize {
    if reply_class::may_be_found(rules, status) {
        BodySize::Answer
    } else if reply_class::needs_body(rules, status) {
        BodySize::Refusal
    } else {
        BodySize::Nothing
    }
}
