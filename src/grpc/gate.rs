//! The gate that all calls pass: who calls, is there room, and what a refusal looks like.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response, header};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;

use super::pending::{PendingRequest, PendingRequests};
use crate::api::{ApiError, ClientLimits, RequestKind};
use crate::clients::{Client, Peer};

/// Reflection streams of all connections together. It is for people who explore; one such stream
/// takes 30 KiB.
pub const REFLECTIONS: usize = 16;

/// The end of a wait.
pub(super) type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What all calls pass. Clones share it.
#[derive(Clone)]
pub(crate) struct CallGate(Arc<GateParts>);

struct GateParts {
    limits: ClientLimits,
    pending: PendingRequests,
    reflections: Arc<Semaphore>,
}

impl fmt::Debug for CallGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallGate")
            .field("limits", &self.0.limits)
            .field("pending", &self.0.pending)
            .finish_non_exhaustive()
    }
}

impl CallGate {
    /// A gate to what `limits` let in, with room for `max_pending` requests that are not whole yet.
    #[must_use]
    pub(crate) fn new(limits: ClientLimits, max_pending: usize) -> Self {
        Self(Arc::new(GateParts {
            limits,
            pending: PendingRequests::new(max_pending),
            reflections: Arc::new(Semaphore::new(REFLECTIONS)),
        }))
    }

    pub(super) fn limits(&self) -> &ClientLimits {
        &self.0.limits
    }

    /// One more request that is not whole yet.
    pub(super) fn pend(&self) -> PendingRequest {
        self.0.pending.enter()
    }

    /// RequestPlaces for reflection, of all connections together.
    pub(super) fn reflections(&self) -> &Arc<Semaphore> {
        &self.0.reflections
    }

    /// Who calls; `None` if nobody is listed.
    pub(super) fn identify<B>(
        &self,
        request: &Request<B>,
    ) -> Result<Option<Arc<Client>>, ApiError> {
        let authorization = request.headers().get(header::AUTHORIZATION);
        self.0.limits.identify(
            authorization.map(header::HeaderValue::as_bytes),
            peer(request),
        )
    }

    /// Counts a refusal and writes it.
    pub(super) fn refuse<B>(&self, request: &Request<B>, error: ApiError) -> Response<Body> {
        self.0.limits.count_refused(kind(request), &error);
        Status::from(error).into_http()
    }
}

/// The other end of the connection, unless a test calls without one.
pub(super) fn peer<B>(request: &Request<B>) -> Option<&Peer> {
    request.extensions().get()
}

/// The kind of a request, by its path. Health and reflection are of none that is special.
pub(super) fn kind<B>(request: &Request<B>) -> RequestKind {
    let method = request
        .uri()
        .path()
        .strip_prefix("/contactd.v1.ContactService/");
    method.map_or(RequestKind::Other, RequestKind::of_method)
}
