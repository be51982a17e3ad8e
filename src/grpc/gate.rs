//! The gate for all calls: who calls, whether there is room, and how a refusal is reported.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Method, Request, Response, header};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;

use super::health::HealthPlaces;
use crate::api::{ApiError, ClientLimits, RequestKind};
use crate::clients::{Client, LoginAccess, Origin, Peer, from_a_page};

/// Reflection streams of all connections together. Reflection is for people who explore the
/// service; one stream takes 30 KiB.
pub const REFLECTIONS: usize = 16;

/// The end of a wait.
pub(super) type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Passed by all calls. Clones share it.
#[derive(Clone)]
pub(crate) struct CallGate(Arc<GateParts>);

struct GateParts {
    limits: ClientLimits,
    health: HealthPlaces,
    reflections: Arc<Semaphore>,
}

impl fmt::Debug for CallGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallGate")
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

impl CallGate {
    /// A gate with the clients and room of `limits`. Each of `connections` adds places for health.
    #[must_use]
    pub(crate) fn new(limits: ClientLimits, connections: usize) -> Self {
        Self(Arc::new(GateParts {
            limits,
            health: HealthPlaces::new(connections),
            reflections: Arc::new(Semaphore::new(REFLECTIONS)),
        }))
    }

    pub(super) fn limits(&self) -> &ClientLimits {
        &self.0.limits
    }

    /// Places for health, of all connections together.
    pub(super) fn health(&self) -> &HealthPlaces {
        &self.0.health
    }

    /// Places for reflection, of all connections together.
    pub(super) fn reflections(&self) -> &Arc<Semaphore> {
        &self.0.reflections
    }

    /// Returns who calls, or `None` if no clients are listed.
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

    /// Returns whether a client that is not listed may use the daemon's own credentials.
    pub(super) fn login_access<B>(&self, request: &Request<B>) -> LoginAccess {
        let hosts = request.headers().get_all(header::HOST).iter();
        let authority = request.uri().authority();
        let named = hosts.map(header::HeaderValue::as_bytes);
        let named = named.chain(authority.map(|name| name.as_str().as_bytes()));
        self.0.limits.login_access(None, peer(request), named)
    }

    /// Counts the refusal of a call that is not a look-up.
    pub(super) fn count_refused(&self, error: &ApiError) {
        self.0.limits.count_refused(RequestKind::Other, error);
    }

    /// Counts a refusal and encodes it.
    pub(super) fn refuse<B>(&self, request: &Request<B>, error: ApiError) -> Response<Body> {
        self.0.limits.count_refused(kind(request), &error);
        Status::from(error).into_http()
    }
}

/// The peer of the connection, unless a test calls without one.
pub(super) fn peer<B>(request: &Request<B>) -> Option<&Peer> {
    request.extensions().get()
}

/// The connection of a request.
pub(super) fn origin<B>(request: &Request<B>) -> Arc<Origin> {
    peer(request)
        .map(|peer| Arc::clone(peer.origin()))
        .unwrap_or_default()
}

/// The kind of a request, by its path. Health and reflection have no kind of their own.
pub(super) fn kind<B>(request: &Request<B>) -> RequestKind {
    let method = request
        .uri()
        .path()
        .strip_prefix("/contactd.v1.ContactService/");
    method.map_or(RequestKind::Other, RequestKind::of_method)
}

/// Returns whether a request is one of gRPC, by its method and content type. A request that a
/// browser sends on behalf of a web page never counts as one, whatever its content type.
pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    request.method() == Method::POST
        && content_type.is_some_and(|value| is_grpc_type(value.as_bytes()))
        && !from_a_page(request.headers())
}

/// `application/grpc`, with the encoding of messages or parameters behind it.
fn is_grpc_type(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}
