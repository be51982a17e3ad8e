//! When a read is sent again.
//!
//! A read is sent once more if the second attempt may succeed: the connection broke before a reply,
//! or a balancer had no server for a moment. Every call is a GET or a POST that its profile
//! declares to be a read, so sending it twice changes nothing in the CRM.

use std::time::Duration;

use crate::clock::{self, Instant};
use crate::domain::LookupError;
use crate::domain::error::Unavailable;

/// How long a balancer gets to find another server.
const MOMENT: Duration = Duration::from_millis(250);

/// If a CRM asks for a longer wait, the same look-up does not call it again.
const LONGEST: Duration = Duration::from_secs(5);

/// How a read is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeat {
    /// The delay after the failure. (The quota may have room only later.)
    pub(crate) after: Duration,
    /// Whether to use a new connection: other kept ones may be broken too.
    pub(crate) afresh: bool,
}

impl Repeat {
    /// How a read that failed like this is sent again, or `None` if it is not, or not before
    /// `deadline`.
    pub(crate) fn of(failure: &LookupError, deadline: Option<Instant>) -> Option<Self> {
        let repeat = match failure {
            LookupError::CrmUnavailable(Unavailable::NoReply) => Self {
                after: Duration::ZERO,
                afresh: true,
            },
            LookupError::CrmUnavailable(Unavailable::Status {
                code: 502..=504,
                retry_after,
            }) => Self {
                after: retry_after.unwrap_or_default().max(MOMENT),
                afresh: false,
            },
            _ => return None,
        };
        let in_time = deadline.is_none_or(|deadline| clock::now() + repeat.after < deadline);
        (in_time && repeat.after <= LONGEST).then_some(repeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::BadReply;

    fn status(code: u16, seconds: Option<u64>) -> LookupError {
        let retry_after = seconds.map(Duration::from_secs);
        LookupError::CrmUnavailable(Unavailable::Status { code, retry_after })
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_answered_in_a_moment_is_sent_again_if_there_is_time() {
        let after = |failure: &LookupError, limit: u64| {
            Repeat::of(failure, clock::after(Duration::from_millis(limit)))
                .map(|repeat| repeat.after.as_millis())
        };
        let broken = LookupError::CrmUnavailable(Unavailable::NoReply);
        for (failure, limit, expected) in [
            (&broken, 1, Some(0)),
            (&broken, 0, None),
            (&status(502, None), 300, Some(250)),
            (&status(503, None), 250, None),
            (&status(504, Some(0)), 300, Some(250)),
            (&status(503, Some(2)), 3_000, Some(2_000)),
            (&status(503, Some(2)), 2_000, None),
            (&status(503, Some(6)), 60_000, None),
        ] {
            assert_eq!(
                after(failure, limit),
                expected,
                "{failure} within {limit} ms"
            );
        }
        assert!(Repeat::of(&broken, None).is_some_and(|repeat| repeat.afresh));
    }

    #[test]
    fn nothing_else_is_sent_again() {
        for failure in [
            status(500, None),
            status(501, None),
            status(408, None),
            LookupError::CrmUnavailable(Unavailable::Timeout),
            LookupError::CrmUnavailable(Unavailable::Broken),
            LookupError::CrmUnavailable(Unavailable::Connect),
            LookupError::CrmRateLimited { retry_after: None },
            LookupError::CrmUnauthenticated,
            LookupError::CrmForbidden,
            LookupError::CrmBadReply(BadReply::NotJson),
        ] {
            assert_eq!(Repeat::of(&failure, None), None, "{failure}");
        }
    }
}
