//! Places for health watches and checks, of all connections together.

use std::time::Duration;

use crate::api::Overload;
use crate::clients::{FairPlaces, LINGERING};

/// Watches for each connection that may be open, and checks in progress. A client watches one or
/// two services, and a proxy carries several clients.
const WATCHES: usize = 8;
const CHECKS: usize = 4;

/// The most health streams for each connection, including those whose place was taken back and
/// whose peers read nothing.
pub(crate) const HEALTH_STREAMS: usize = (WATCHES + CHECKS) * (LINGERING + 1) / LINGERING;

/// When a watch that found no place may try again.
const WATCH_AGAIN: Duration = Duration::from_secs(10);

/// All places are taken, and neither another address nor another connection of this address has to
/// give one back ([`FairPlaces::try_enter`]).
pub(super) const NO_PLACE: Overload = Overload::Front {
    message: "too many health calls: all places are in use (eight watches and four checks for each of \
              grpc.max_connections), and no other address or connection holds more of them than yours",
    retry_after: WATCH_AGAIN,
};

/// The place was given to another connection: one from an address with fewer places, or one from
/// the same address that has fewer.
pub(super) const GAVE_WAY: Overload = Overload::Front {
    message: "this health call lost its place to an address or a connection with fewer health calls",
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
