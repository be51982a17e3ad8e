//! Before a call is read: who calls, and whether there is room.
//!
//! If the client is unknown or there is no place, nothing of the request is read. So a refusal is
//! quick and costs no memory. A request takes a place among the calls in progress once it is
//! complete.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::admitted::AdmittedCall;
use super::body::WholeBody;
use super::gate::{CallGate, Timer, kind, peer};
use crate::api::{ApiError, Overload, RequestPlaces, enter, until_sent_away};
use crate::clients::{CallPlace, FairPlace};
use crate::clock;

/// The places of a stream, which outlives the call that starts it.
#[derive(Debug, Clone)]
pub(super) struct StreamPlaces(pub(super) Arc<RequestPlaces>);

/// See [`CallGate::before_calls`].
#[derive(Debug, Clone)]
pub(crate) struct AdmitCalls<S> {
    inner: S,
    gate: CallGate,
}

impl CallGate {
    /// The service after all checks.
    pub(crate) fn before_calls<S>(&self, inner: S) -> AdmitCalls<S> {
        AdmitCalls {
            inner,
            gate: self.clone(),
        }
    }

    /// Admits a request by its headers: the client is known, and there is a place now.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Option<CallPlace>, ApiError> {
        let client = self.identify(request)?;
        let place = enter(client.as_deref())?;
        if let Some(client) = client {
            request.extensions_mut().insert(client);
        } else {
            let access = self.login_access(request);
            request.extensions_mut().insert(access);
        }
        self.limits().check_room(kind(request))?;
        Ok(place)
    }

    /// Takes the places of a complete request. A stream keeps its own.
    fn seat<B>(
        &self,
        request: &mut Request<B>,
        place: Option<CallPlace>,
    ) -> Result<Option<RequestPlaces>, ApiError> {
        let kind = kind(request);
        let places = self.limits().take(kind, place, peer(request))?;
        if !kind.is_stream() {
            return Ok(Some(places));
        }
        let places = StreamPlaces(Arc::new(places));
        request.extensions_mut().insert(places);
        Ok(None)
    }
}

impl<S: NamedService> NamedService for AdmitCalls<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for AdmitCalls<S>
where
    S: Service<Request<WholeBody>, Response = Response<Body>, Error = Infallible, Future: Unpin>
        + Clone
        + Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = CallFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> CallFuture<S> {
        let place = match self.gate.admit(&mut request) {
            Ok(place) => place,
            Err(error) => {
                let refusal = self.gate.refuse(&request, error);
                return CallFuture::Decided(AdmittedCall::refused(refusal));
            }
        };
        let most = kind(&request).max_bytes();
        CallFuture::Arriving(Box::new(ArrivingCall {
            request: Some(request.map(|body| WholeBody::new(body, most))),
            inner: self.inner.clone(),
            gate: self.gate.clone(),
            place,
            pending: None,
            sent_away: None,
        }))
    }
}

/// A call, from its first bytes on.
#[derive(Debug)]
pub(crate) enum CallFuture<S: Service<Request<WholeBody>>> {
    /// The request is not complete yet, or was not polled yet.
    Arriving(Box<ArrivingCall<S>>),
    /// The call has its places, or was refused.
    Decided(AdmittedCall<S::Future>),
}

/// A request that is still arriving.
pub(crate) struct ArrivingCall<S> {
    /// Taken when it is complete.
    request: Option<Request<WholeBody>>,
    inner: S,
    gate: CallGate,
    place: Option<CallPlace>,
    /// Set if it does not arrive all at once.
    pending: Option<FairPlace>,
    /// The answer to a rejected request, and when it is sent.
    sent_away: Option<(Response<Body>, Timer)>,
}

impl<S> fmt::Debug for ArrivingCall<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrivingCall")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl<S> ArrivingCall<S>
where
    S: Service<Request<WholeBody>, Response = Response<Body>, Error = Infallible>,
{
    fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<AdmittedCall<S::Future>> {
        if self.sent_away.is_none()
            && let Some(mut request) = self.request.take()
        {
            match request.body_mut().poll_arrived(cx) {
                Poll::Ready(arrived) => return Poll::Ready(self.decide(request, arrived)),
                Poll::Pending if self.poll_room(&request, cx).is_ready() => {
                    self.send_away(&request);
                }
                Poll::Pending => self.request = Some(request),
            }
        }
        self.poll_sent_away(cx)
    }

    /// Ready if newer incomplete requests need this one's room.
    fn poll_room(&mut self, request: &Request<WholeBody>, cx: &mut Context<'_>) -> Poll<()> {
        let limits = self.gate.limits();
        let pending = self
            .pending
            .get_or_insert_with(|| limits.pend(peer(request)));
        pending.poll_taken_back(cx)
    }

    /// Drops what was read of the request. Its client keeps the stream occupied for a while.
    fn send_away(&mut self, request: &Request<WholeBody>) {
        (self.pending, self.place) = (None, None);
        let answer = self.gate.refuse(request, Overload::Calls.into());
        self.sent_away = Some((answer, Box::pin(clock::sleep(until_sent_away()))));
    }

    fn poll_sent_away(&mut self, cx: &mut Context<'_>) -> Poll<AdmittedCall<S::Future>> {
        let Some((answer, until)) = &mut self.sent_away else {
            return Poll::Pending;
        };
        ready!(until.as_mut().poll(cx));
        Poll::Ready(AdmittedCall::refused(std::mem::take(answer)))
    }

    /// The request is complete, or never will be.
    fn decide(
        &mut self,
        mut request: Request<WholeBody>,
        arrived: Result<(), Status>,
    ) -> AdmittedCall<S::Future> {
        self.pending = None;
        if let Err(status) = arrived {
            return AdmittedCall::refused(status.into_http());
        }
        match self.gate.seat(&mut request, self.place.take()) {
            Ok(places) => AdmittedCall::new(self.inner.call(request), places),
            Err(error) => AdmittedCall::refused(self.gate.refuse(&request, error)),
        }
    }
}

impl<S> Future for CallFuture<S>
where
    S: Service<Request<WholeBody>, Response = Response<Body>, Error = Infallible, Future: Unpin>
        + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Self::Arriving(arriving) = this {
            *this = Self::Decided(ready!(arriving.poll_decided(cx)));
        }
        match this {
            Self::Decided(call) => Pin::new(call).poll(cx),
            Self::Arriving(_) => Poll::Pending,
        }
    }
}
