//! Why a call is not let in, and what its caller is told.

use std::time::Duration;

use tonic::Status;

use super::status;
use crate::clients::Excess;

/// What a watch of health that found no place is asked to wait.
const WATCH_AGAIN: Duration = Duration::from_secs(10);

/// Why a call is not let in.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    Unknown,
    Excess(Excess),
    Full,
    Jobs,
    /// All places for health are taken, and nobody has more than this connection would have.
    Health,
    /// Somebody who has fewer got this one's place.
    GaveWay,
}

impl Refusal {
    /// The status, and the label in metrics.
    pub(super) fn status(self) -> (Status, &'static str) {
        match self {
            Self::Unknown => (status::caller_unauthenticated(), "caller_unauthenticated"),
            Self::Excess(Excess::InFlight) => (
                status::overloaded("this caller has as many calls in flight as it may", None),
                "overloaded",
            ),
            Self::Excess(Excess::Rate { wait }) => (
                status::overloaded("this caller calls more often than it may", Some(wait)),
                "overloaded",
            ),
            Self::Full => (
                status::overloaded("too many requests in flight", None),
                "overloaded",
            ),
            Self::Jobs => (
                status::overloaded("too many prefetch jobs at once", None),
                "overloaded",
            ),
            Self::Health => (
                status::overloaded(
                    "too many calls of health at once: eight watches and four checks for each of \
                     grpc.max_connections, and nobody has more of them than this connection",
                    Some(WATCH_AGAIN),
                ),
                "overloaded",
            ),
            Self::GaveWay => (
                status::overloaded(
                    "this call of health gave its place to a connection that has fewer",
                    Some(WATCH_AGAIN),
                ),
                "overloaded",
            ),
        }
    }
}
