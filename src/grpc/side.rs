//! Health and reflection: what is answered beside look-ups, health to everybody who reaches the
//! port.
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

use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::body::WholeBody;
use super::gate::{CallGate, peer};
use super::timed::TimedBody;
use crate::api::{ApiError, Overload, enter};
use crate::clients::{Peer, Place};

/// How long a reflection stream may take.
const REFLECTION: Duration = Duration::from_secs(60);

/// How long an answer to a health check may take.
const CHECK: Duration = Duration::from_secs(10);

/// Largest request for health: the name of a service, with room.
const HEALTH_BYTES: usize = 1 << 10;

const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// A service beside look-ups, with its bounds; see the header of this file.
#[derive(Debug, Clone)]
pub(crate) struct SideService<S> {
    inner: S,
    gate: CallGate,
    bounds: SideBounds,
}

#[derive(Debug, Clone, Copy)]
enum SideBounds {
    /// Open to everybody; a watch ends after this time.
    Health(Duration),
    /// For known clients.
    Reflection,
}

/// What an answer holds until it has ended, and how long that may take.
#[derive(Debug)]
struct Hold {
    places: SidePlaces,
    longest: Duration,
}

/// Given back when the answer has ended.
#[derive(Debug, Default)]
struct SidePlaces {
    _connection: Option<OwnedSemaphorePermit>,
    _reflection: Option<OwnedSemaphorePermit>,
    _client: Option<Place>,
}

impl CallGate {
    /// Health, which needs no credential. Whoever watches it is asked to begin again after `watch`.
    pub(crate) fn before_health<S>(&self, inner: S, watch: Duration) -> SideService<S> {
        self.beside(inner, SideBounds::Health(watch))
    }

    /// Reflection, for which the credential of a client is enough.
    pub(crate) fn before_reflection<S>(&self, inner: S) -> SideService<S> {
        self.beside(inner, SideBounds::Reflection)
    }

    fn beside<S>(&self, inner: S, bounds: SideBounds) -> SideService<S> {
        SideService {
            inner,
            gate: self.clone(),
            bounds,
        }
    }
}

impl<S> SideService<S> {
    fn hold(&self, request: &Request<Body>) -> Result<Hold, ApiError> {
        match self.bounds {
            SideBounds::Health(watch) => hold_health(request, watch),
            SideBounds::Reflection => self.hold_reflection(request),
        }
    }

    fn hold_reflection(&self, request: &Request<Body>) -> Result<Hold, ApiError> {
        let client = self.gate.identify(request)?;
        let places = SidePlaces {
            _connection: peer(request).map(Peer::streams).map(take).transpose()?,
            _reflection: Some(take(self.gate.reflections())?),
            _client: enter(client.as_deref())?,
        };
        Ok(Hold {
            places,
            longest: REFLECTION,
        })
    }
}

fn hold_health(request: &Request<Body>, watch: Duration) -> Result<Hold, ApiError> {
    let peer = peer(request);
    let (places, longest) = if request.uri().path() == HEALTH_CHECK {
        (peer.map(Peer::checks), CHECK)
    } else {
        (peer.map(Peer::streams), watch)
    };
    let places = SidePlaces {
        _connection: places.map(take).transpose()?,
        ..Default::default()
    };
    Ok(Hold { places, longest })
}

fn take(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(places)
        .try_acquire_owned()
        .map_err(|_| Overload::Calls.into())
}

impl<S: NamedService> NamedService for SideService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for SideService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Unpin>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = SideFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let hold = match self.hold(&request) {
            Ok(hold) => hold,
            Err(error) => return SideFuture::refused(self.gate.refuse(&request, error)),
        };
        let request = match self.bounds {
            SideBounds::Health(_) => {
                request.map(|body| Body::new(WholeBody::new(body, HEALTH_BYTES)))
            }
            SideBounds::Reflection => request,
        };
        SideFuture::admitted(self.inner.call(request), hold)
    }
}

/// The answer of a service beside look-ups.
pub(crate) struct SideFuture<F>(SideCall<F>);

enum SideCall<F> {
    /// Let in; what it holds moves into the answer's body.
    Admitted { call: F, hold: Option<Hold> },
    /// Refused; taken when it is polled.
    Refused(Option<Response<Body>>),
}

impl<F> SideFuture<F> {
    fn admitted(call: F, hold: Hold) -> Self {
        let hold = Some(hold);
        Self(SideCall::Admitted { call, hold })
    }

    fn refused(answer: Response<Body>) -> Self {
        Self(SideCall::Refused(Some(answer)))
    }
}

impl<F> fmt::Debug for SideFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SideFuture(…)")
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for SideFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match &mut self.get_mut().0 {
            SideCall::Admitted { call, hold } => {
                let response = ready!(Pin::new(call).poll(cx))?;
                let hold = hold.take();
                Poll::Ready(Ok(response.map(|body| match hold {
                    Some(Hold { places, longest }) => {
                        Body::new(TimedBody::new(body, longest, places))
                    }
                    None => body,
                })))
            }
            SideCall::Refused(answer) => Poll::Ready(Ok(answer.take().unwrap_or_default())),
        }
    }
}
