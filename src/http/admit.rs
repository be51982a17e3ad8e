//! Before a request is answered: who calls, whether there is room, and all of its body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use http::request::Parts;

use super::arrival::{self, Late};
use super::{HttpFront, RequestBody};
use crate::api::{
    ApiError, Overload, RequestContext, RequestKind, RequestPlaces, enter, until_sent_away,
};
use crate::clients::{Client, LoginAccess, Peer};
use crate::clock::{self, Instant};
use crate::trace::Span;

/// A complete request with its places.
pub(super) struct Admitted {
    client: Option<Arc<Client>>,
    access: LoginAccess,
    since: Instant,
    pub(super) body: Bytes,
    pub(super) places: RequestPlaces,
}

impl Admitted {
    /// What remains of the client's time limit.
    pub(super) fn left(&self, timeout: Option<Duration>) -> Option<Duration> {
        let passed = clock::now().saturating_duration_since(self.since);
        timeout.map(|timeout| timeout.saturating_sub(passed))
    }

    pub(super) fn context(&self, timeout: Option<Duration>, span: Span) -> RequestContext {
        RequestContext::new(self.client.clone(), self.access, self.left(timeout), span)
    }
}

impl HttpFront {
    /// Admits a request. If the client is unknown or there is no place, nothing of it is kept. A
    /// refusal is counted.
    pub(super) async fn admit(
        &self,
        kind: RequestKind,
        parts: &Parts,
        body: RequestBody<'_>,
    ) -> Result<Admitted, ApiError> {
        let (limits, since) = (&self.0.limits, clock::now());
        let counted = |error: ApiError| {
            limits.count_refused(kind, &error);
            error
        };
        let peer = parts.extensions.get::<Peer>();
        let token = parts.headers.get(header::AUTHORIZATION);
        let client = limits
            .identify(token.map(header::HeaderValue::as_bytes), peer)
            .map_err(counted)?;
        let access = limits.login_access(client.as_deref(), peer, named(parts));
        let place = enter(client.as_deref()).map_err(counted)?;
        limits.check_room(kind).map_err(counted)?;
        let body = match arrival::whole(body, kind.max_bytes(), || limits.pend(peer)).await {
            Ok(body) => body,
            Err(Late::Refused(error)) => return Err(error),
            Err(Late::GaveWay) => {
                drop(place);
                let error = counted(Overload::Calls.into());
                clock::sleep(until_sent_away()).await;
                return Err(error);
            }
        };
        let places = limits.take(kind, place, peer).map_err(counted)?;
        Ok(Admitted {
            client,
            access,
            since,
            body,
            places,
        })
    }
}

/// The names by which a request addresses the daemon.
fn named(parts: &Parts) -> impl Iterator<Item = &[u8]> {
    let hosts = parts.headers.get_all(header::HOST).iter();
    let authority = parts.uri.authority();
    let hosts = hosts.map(header::HeaderValue::as_bytes);
    hosts.chain(authority.map(|name| name.as_str().as_bytes()))
}
