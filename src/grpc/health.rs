//! Places for health: watches and checks of all connections together.

use std::time::Duration;

use super::fair::{FairPlaces, LINGERING};
use crate::api::Overload;

/// Watches, and checks in hand, for each connection that may be open: a client watches one or two
/// services, and a proxy carries some clients.
const WATCHES: usize = 8;
const CHECKS: usize = 4;

/// Streams of health that there are at most for each connection, with those whose place was taken
/// back and whose peers take nothing.
pub(crate) const HEALTH_STREAMS: usize = (WATCHES + CHECKS) * (LINGERING + 1) / LINGERING;

/// When a watch of health that found no place may try again.
const WATCH_AGAIN: Duration = Duration::from_secs(10);

/// All places are taken, and nobody has more of them than this connection would have.
pub(super) const NO_PLACE: Overload = Overload::Front {
    message: "too many calls of health at once: eight watches and four checks for each of \
              grpc.max_connections, and nobody has more of them than this connection",
    retry_after: WATCH_AGAIN,
};

/// A connection that has fewer got this one's place.
pub(super) const GAVE_WAY: Overload = Overload::Front {
    message: "this call of health gave its place to a connection that has fewer",
    retry_after: WATCH_AGAIN,
};

/// The places.
#[derive(Debug)]
pub(super) struct HealthPlaces {
    pub(super) watches: FairPlaces,
    pub(super) checks: FairPlaces,
}

impl HealthPlaces {
    pub(super) fn new(connections: usize) -> Self {
        Self {
            watches: FairPlaces::new(WATCHES.saturating_mul(connections)),
            checks: FairPlaces::new(CHECKS.saturating_mul(connections)),
        }
    }
}
