//! Health and reflection, the services besides look-ups. Health is open to everybody who can reach
//! the port.
//!
//! Nobody can use up much with them. For each connection that may be open, there are places for
//! eight watches and four checks of health. One connection may take all that are free. It gives
//! places back to a connection that has fewer. All connections together have a few places for
//! reflection. A stream keeps its place until it ends, and its time is limited. The time for a
//! health check to arrive is limited as well.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::body::WholeBody;
use super::gate::CallGate;
use super::hold::Hold;
use super::timed::TimedBody;
use crate::api::ApiError;

/// Largest health request: the name of a service, with some room to spare.
const HEALTH_BYTES: usize = 1 << 10;

const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// A service besides look-ups, with its limits; see the module's header.
#[derive(Debug, Clone)]
pub(crate) struct SideService<S> {
    inner: S,
    gate: CallGate,
    bounds: SideBounds,
}

#[derive(Debug, Clone, Copy)]
enum SideBounds {
    /// Open to everybody. A watch ends after this time.
    Health(Duration),
    /// For known clients.
    Reflection,
}

impl CallGate {
    /// Health, without a credential. A watch ends after `watch`, and its client begins again.
    pub(crate) fn before_health<S>(&self, inner: S, watch: Duration) -> SideService<S> {
        self.beside(inner, SideBounds::Health(watch))
    }

    /// Reflection, for any known client.
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
            SideBounds::Health(_) if request.uri().path() == HEALTH_CHECK => {
                Hold::check(&self.gate, request)
            }
            SideBounds::Health(watch) => Hold::watch(&self.gate, request, watch),
            SideBounds::Reflection => Hold::reflection(&self.gate, request),
        }
    }
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

/// The answer of a service besides look-ups.
pub(crate) struct SideFuture<F>(SideCall<F>);

enum SideCall<F> {
    /// Admitted. What it holds moves into the answer's body.
    Admitted { call: F, hold: Option<Hold> },
    /// Refused. The answer is taken when it is polled.
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
                let taken_back = hold.as_mut().map(|hold| hold.poll_taken_back(cx));
                if let Some(Poll::Ready(status)) = taken_back {
                    *hold = None;
                    return Poll::Ready(Ok(status.into_http()));
                }
                let response = ready!(Pin::new(call).poll(cx))?;
                let hold = hold.take();
                Poll::Ready(Ok(response.map(|body| match hold {
                    Some(hold) => Body::new(TimedBody::new(body, hold)),
                    None => body,
                })))
            }
            SideCall::Refused(answer) => Poll::Ready(Ok(answer.take().unwrap_or_default())),
        }
    }
}
