//! The gate that all calls pass: who calls, is there room, and what a refusal looks like.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response, header};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;

use super::fair::{FairPlace, FairPlaces};
use super::health::HealthPlaces;
use crate::api::{ApiError, ClientLimits, RequestKind};
use crate::clients::{Client, Origin, Peer};

/// Reflection streams of all connections together. It is for people who explore; one such stream
/// takes 30 KiB.
pub const REFLECTIONS: usize = 16;

/// The end of a wait.
pub(super) type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How much there is room for at the gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    /// Requests that are not whole yet.
    pub(crate) pending: usize,
    /// Connections, each with its part of the places for health.
    pub(crate) connections: usize,
}

/// What all calls pass. Clones share it.
#[derive(Clone)]
pub(crate) struct CallGate(Arc<GateParts>);

struct GateParts {
    limits: ClientLimits,
    pending: FairPlaces,
    health: HealthPlaces,
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
    /// A gate to what `limits` let in.
    #[must_use]
    pub(crate) fn new(limits: ClientLimits, capacity: Capacity) -> Self {
        Self(Arc::new(GateParts {
            limits,
            pending: FairPlaces::new(capacity.pending),
            health: HealthPlaces::new(capacity.connections),
            reflections: Arc::new(Semaphore::new(REFLECTIONS)),
        }))
    }

    pub(super) fn limits(&self) -> &ClientLimits {
        &self.0.limits
    }

    /// One more request that is not whole yet.
    pub(super) fn pend<B>(&self, request: &Request<B>) -> FairPlace {
        self.0.pending.enter(&origin(request))
    }

    /// Places for health, of all connections together.
    pub(super) fn health(&self) -> &HealthPlaces {
        &self.0.health
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

    /// Counts the refusal of something beside look-ups.
    pub(super) fn count_refused(&self, error: &ApiError) {
        self.0.limits.count_refused(RequestKind::Other, error);
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

/// The connection of a request.
pub(super) fn origin<B>(request: &Request<B>) -> Arc<Origin> {
    peer(request)
        .map(|peer| Arc::clone(peer.origin()))
        .unwrap_or_default()
}

/// The kind of a request, by its path. Health and reflection are of none that is special.
pub(super) fn kind<B>(request: &Request<B>) -> RequestKind {
    let method = request
        .uri()
        .path()
        .strip_prefix("/contactd.v1.ContactService/");
    method.map_or(RequestKind::Other, RequestKind::of_method)
}
