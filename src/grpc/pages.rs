//! Health and reflection: what is answered beside look-ups, health to anybody who reaches the port.
//!
//! Promises that nobody holds much by it: a connection has a few places for streams and a few for
//! health checks, all connections together a few for reflection. A place is kept until the stream
//! ends, and a stream ends in time. A health check has to arrive in time as well.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::admit::{CallGate, Refusal, enter};
use super::request::WholeBody;
use crate::clients::{Peer, Place};
use crate::clock;

/// How long a reflection stream may take.
const REFLECTION: Duration = Duration::from_secs(60);

/// How long an answer to a health check may take.
const CHECK: Duration = Duration::from_secs(10);

/// Largest request for health: the name of a service, with room.
const HEALTH_BYTES: usize = 1 << 10;

const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// A service with its bounds; see the header.
#[derive(Debug, Clone)]
pub(crate) struct Pages<S> {
    inner: S,
    hall: CallGate,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Open to anybody; a watch ends after this time.
    Health(Duration),
    /// For known callers.
    Reflection,
}

/// Given back when the answer has ended.
#[derive(Debug)]
pub(crate) struct Held {
    _connection: Option<OwnedSemaphorePermit>,
    _reflection: Option<OwnedSemaphorePermit>,
    _caller: Option<Place>,
    longest: Duration,
}

impl CallGate {
    /// Health, which needs no credential. Whoever watches it is asked to begin again after `watch`.
    pub(crate) fn before_health<S>(&self, inner: S, watch: Duration) -> Pages<S> {
        Pages {
            inner,
            hall: self.clone(),
            kind: Kind::Health(watch),
        }
    }

    /// Reflection, for which the credential of a caller is enough.
    pub(crate) fn before_reflection<S>(&self, inner: S) -> Pages<S> {
        Pages {
            inner,
            hall: self.clone(),
            kind: Kind::Reflection,
        }
    }
}

impl<S> Pages<S> {
    fn hold(&self, request: &Request<Body>) -> Result<Held, Refusal> {
        let peer = request.extensions().get::<Peer>();
        let of_connection =
            |places: fn(&Peer) -> &Arc<Semaphore>| peer.map(|peer| take(places(peer))).transpose();
        match self.kind {
            Kind::Health(_) if request.uri().path() == HEALTH_CHECK => {
                let connection = of_connection(Peer::checks)?;
                Ok(Held {
                    _connection: connection,
                    _reflection: None,
                    _caller: None,
                    longest: CHECK,
                })
            }
            Kind::Health(longest) => {
                let connection = of_connection(Peer::streams)?;
                Ok(Held {
                    _connection: connection,
                    _reflection: None,
                    _caller: None,
                    longest,
                })
            }
            Kind::Reflection => {
                let caller = self.hall.caller(request)?;
                let connection = of_connection(Peer::streams)?;
                let reflection = Some(take(self.hall.reflections())?);
                let caller = enter(caller.as_deref())?;
                Ok(Held {
                    _connection: connection,
                    _reflection: reflection,
                    _caller: caller,
                    longest: REFLECTION,
                })
            }
        }
    }
}

fn take(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(places)
        .try_acquire_owned()
        .map_err(|_| Refusal::Full)
}

impl<S: NamedService> NamedService for Pages<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Pages<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Unpin>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let held = match self.hold(&request) {
            Ok(held) => held,
            Err(refusal) => return Answer::Refused(Some(self.hall.refuse(&request, refusal))),
        };
        let request = match self.kind {
            Kind::Health(_) => request.map(|body| Body::new(WholeBody::new(body, HEALTH_BYTES))),
            Kind::Reflection => request,
        };
        Answer::Begun {
            call: self.inner.call(request),
            held: Some(held),
        }
    }
}

/// The answer of a bounded service.
pub(crate) enum Answer<F> {
    /// Let in.
    Begun {
        /// What answers it.
        call: F,
        /// Moves into the answer's body.
        held: Option<Held>,
    },
    /// Refused; taken when it is polled.
    Refused(Option<Response<Body>>),
}

impl<F> fmt::Debug for Answer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer(…)")
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for Answer<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.get_mut() {
            Self::Begun { call, held } => {
                let response = match ready!(Pin::new(call).poll(cx)) {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                let held = held.take();
                Poll::Ready(Ok(response.map(|body| match held {
                    Some(held) => Body::new(HeldBody::new(body, held)),
                    None => body,
                })))
            }
            Self::Refused(answer) => Poll::Ready(Ok(answer.take().unwrap_or_default())),
        }
    }
}

/// The body of an answer, which keeps its places and ends in time.
struct HeldBody {
    inner: Body,
    alarm: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
    _held: Held,
}

impl HeldBody {
    fn new(inner: Body, held: Held) -> Self {
        Self {
            inner,
            alarm: Box::pin(clock::sleep(held.longest)),
            ended: false,
            _held: held,
        }
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.alarm.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut this.inner).poll_frame(cx);
        }
        (this.ended, this.inner) = (true, Body::empty());
        let status =
            Status::unavailable("this stream has lived as long as it may: begin another one");
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(
            status
                .add_header(&mut trailers)
                .map(|()| Frame::trailers(trailers)),
        ))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }
}
