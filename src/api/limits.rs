//! Before a request is read: who calls, and whether there is room.

use std::sync::Arc;
use std::time::Duration;

use super::counts::{count_refusal, count_unread_lookup};
use super::error::{ApiError, Overload};
use crate::clients::{
    Busy, CallPlace, Client, Clients, FairPlace, FairPlaces, LocalClients, LoginAccess, Origin,
    Peer, PeerNetwork, Room, RoomPlace,
};
use crate::clock::EachPerMinute;
use crate::metrics::Metrics;

/// The most calls in progress, as a multiple of `grpc.max_in_flight`, which is how many calls of
/// one user may wait for a CRM. The resolver lets no connector take all of them, so that stored
/// answers are served whichever CRM hangs.
const FOR_ALL: usize = 2;

/// Largest look-up request: a credential of 8 KiB, ids and formats at their limits, and settings,
/// with some room to spare.
const LOOKUP_BYTES: usize = 64 << 10;

/// Largest request of another kind: 10,000 numbers, with some room to spare.
const LIST_BYTES: usize = 1 << 20;

/// How long a request may take to arrive after its headers: the rest is a few packets.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(10);

/// The shortest time that a rejected request waits for its answer. The longest is twice as long, so
/// that the answers are spread out. Meanwhile, a client that only sends incomplete requests uses up
/// its own streams and connections, and none of the daemon's time.
const SENT_AWAY: Duration = Duration::from_secs(1);

/// How long a request waits for its refusal after a newer one has taken its place.
#[must_use]
pub(crate) fn until_sent_away() -> Duration {
    SENT_AWAY.mul_f64(1.0 + fastrand::f64())
}

/// A kind of request, by its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// One number, one answer.
    Lookup,
    /// One number, answers until nothing better is expected.
    Watch,
    /// A question about one number, and why its answer is as it is.
    Explanation,
    /// A batch.
    Job,
    /// Anything else.
    Other,
}

impl RequestKind {
    /// The kind of a method of `contactd.v1.ContactService`.
    #[must_use]
    pub(crate) fn of_method(name: &str) -> Self {
        match name {
            "FindContact" => Self::Lookup,
            "WatchContact" => Self::Watch,
            "ExplainContact" => Self::Explanation,
            "PrefetchContacts" => Self::Job,
            _ => Self::Other,
        }
    }

    /// Most bytes of its request.
    #[must_use]
    pub(crate) fn max_bytes(self) -> usize {
        match self {
            Self::Lookup | Self::Watch | Self::Explanation => LOOKUP_BYTES,
            Self::Job | Self::Other => LIST_BYTES,
        }
    }

    /// Whether it is answered by a stream, which keeps the places of its request.
    #[must_use]
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Watch | Self::Job)
    }
}

/// The clients, and the room for their requests, over all fronts. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct ClientLimits {
    clients: Clients,
    local: LocalClients,
    /// Incomplete requests.
    pending: FairPlaces,
    in_flight: Room,
    jobs: Room,
    metrics: Arc<Metrics>,
    strangers: Arc<EachPerMinute<(&'static str, PeerNetwork)>>,
}

/// The places of a request in progress, given back on drop.
#[derive(Debug)]
pub(crate) struct RequestPlaces {
    _room: RoomPlace,
    _client: Option<CallPlace>,
    _busy: Option<Busy>,
}

impl ClientLimits {
    /// Room for `max_in_flight` incomplete requests, twice as many calls, and `max_jobs` prefetch
    /// jobs. If no clients are listed, `local` says which ones may use the daemon's own
    /// credentials.
    #[must_use]
    pub(crate) fn new(
        clients: Clients,
        local: LocalClients,
        max_in_flight: usize,
        max_jobs: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            clients,
            local,
            pending: FairPlaces::new(max_in_flight),
            in_flight: Room::new(max_in_flight.saturating_mul(FOR_ALL)),
            jobs: Room::new(max_jobs),
            metrics,
            strangers: Arc::default(),
        }
    }

    /// Returns who calls, or `None` if no clients are listed. If there is an `Authorization`
    /// header, it decides, otherwise the certificate. A refusal is logged.
    ///
    /// # Errors
    /// If the client is not listed, or a certificate is required and there is none.
    pub(crate) fn identify(
        &self,
        authorization: Option<&[u8]>,
        peer: Option<&Peer>,
    ) -> Result<Option<Arc<Client>>, ApiError> {
        if self.clients.need_certificates() && !peer.is_some_and(Peer::is_verified) {
            return Err(self.unknown("it sent no certificate", peer));
        }
        if self.clients.is_empty() {
            return Ok(None);
        }
        let (client, unknown) = match authorization {
            Some(header) => {
                let token = bearer(header);
                let client = token.and_then(|token| self.clients.by_token(token));
                (client, "its token is not in grpc.tokens")
            }
            None => match peer.and_then(|peer| peer.certificate.as_deref()) {
                Some(name) => {
                    let unknown = "the name in its certificate is not in grpc.tokens";
                    (self.clients.by_certificate(name), unknown)
                }
                None => (
                    None,
                    "it sent neither a token nor a certificate with a name",
                ),
            },
        };
        client.map(Some).ok_or_else(|| self.unknown(unknown, peer))
    }

    fn unknown(&self, reason: &'static str, peer: Option<&Peer>) -> ApiError {
        let network = peer.map(|peer| peer.origin().network_kind());
        let network = network.unwrap_or_default();
        self.strangers.log((reason, network), |suppressed| {
            tracing::info!(
                reason,
                network = network.label(),
                suppressed,
                "a call from an unknown client was refused"
            );
        });
        ApiError::ClientUnauthenticated
    }

    /// Returns whether a request of this client may use the daemon's own credentials. `named` are
    /// the names by which it addresses the daemon.
    pub(crate) fn login_access<'a>(
        &self,
        client: Option<&Client>,
        peer: Option<&Peer>,
        named: impl IntoIterator<Item = &'a [u8]>,
    ) -> LoginAccess {
        match client {
            Some(_) => LoginAccess::Granted,
            None => self.local.access(peer, named),
        }
    }

    /// Checks that there is room for a request now. The room may be gone once the request is read.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn check_room(&self, kind: RequestKind) -> Result<(), ApiError> {
        let (room, full) = self.room(kind);
        if room.is_full() {
            Err(full.into())
        } else {
            Ok(())
        }
    }

    /// Adds an incomplete request. It ends if its place is taken back.
    pub(crate) fn pend(&self, peer: Option<&Peer>) -> FairPlace {
        match peer {
            Some(peer) => self.pending.enter(peer.origin()),
            None => self.pending.enter(&Origin::default()),
        }
    }

    /// Takes the places of a completely received request: one of the daemon and one of its client.
    /// From then on a connection with an authenticated client counts the request as in progress.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn take(
        &self,
        kind: RequestKind,
        client: Option<CallPlace>,
        peer: Option<&Peer>,
    ) -> Result<RequestPlaces, ApiError> {
        let (room, full) = self.room(kind);
        let room = room.enter().ok_or(full)?;
        let known = peer.filter(|peer| client.is_some() || peer.is_verified());
        Ok(RequestPlaces {
            _room: room,
            _busy: known.map(Peer::busy),
            _client: client,
        })
    }

    /// Counts a request that is refused before it is read.
    pub(crate) fn count_refused(&self, kind: RequestKind, error: &ApiError) {
        if matches!(kind, RequestKind::Lookup | RequestKind::Watch) {
            count_unread_lookup(&self.metrics, error);
        } else {
            count_refusal(&self.metrics, error);
        }
    }

    fn room(&self, kind: RequestKind) -> (&Room, Overload) {
        match kind {
            RequestKind::Job => (&self.jobs, Overload::Jobs),
            RequestKind::Lookup
            | RequestKind::Watch
            | RequestKind::Explanation
            | RequestKind::Other => (&self.in_flight, Overload::Calls),
        }
    }
}

/// Takes a place under the client's own limits, if it has any.
///
/// # Errors
/// If the client is at its limits.
pub(crate) fn enter(client: Option<&Client>) -> Result<Option<CallPlace>, ApiError> {
    let Some(client) = client else {
        return Ok(None);
    };
    let place = client.enter().map_err(Overload::Client)?;
    Ok(Some(place))
}

/// The token in `Bearer …` (RFC 6750; the scheme's name in any case).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_behind_the_word_bearer() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc ", Some("abc")),
            ("BEARER  a b", Some("a b")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(
                bearer(value.as_bytes()),
                token.map(str::as_bytes),
                "{value}"
            );
        }
    }
}
