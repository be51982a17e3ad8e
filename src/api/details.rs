//! What accompanies a failure: `google.rpc`'s details as values, and the words for a person.

use std::time::Duration;

use super::error::{ApiError, Violation};
use super::words;
use crate::pb::v1 as pb;

/// The `domain` of all reasons.
const DOMAIN: &str = "contactd";

/// Points a person to the operator of the telephony service.
const OPERATOR: &str = "Its operator finds the reason in the status details.";

/// How to continue a batch that ended early.
const AGAIN: &str = "What was looked up is kept. Start the warm-up again for the rest.";

/// The details of a failure. Each front writes them in its own format.
#[derive(Debug)]
pub(crate) struct ErrorDetails<'a> {
    /// `ErrorInfo.reason`.
    pub(crate) reason: &'static str,
    /// `ErrorInfo.domain`.
    pub(crate) domain: &'static str,
    /// `RetryInfo.retry_delay`.
    pub(crate) retry_delay: Option<Duration>,
    /// `BadRequest.field_violations`.
    pub(crate) violation: Option<&'a Violation>,
    /// What a person may be shown.
    pub(crate) person: pb::ReturnMessage,
}

impl ApiError {
    #[must_use]
    pub(crate) fn details(&self) -> ErrorDetails<'_> {
        ErrorDetails {
            reason: self.reason(),
            domain: DOMAIN,
            retry_delay: self.retry_after(),
            violation: match self {
                Self::InvalidRequest(violation) => Some(violation),
                _ => None,
            },
            person: self.person(),
        }
    }

    fn person(&self) -> pb::ReturnMessage {
        match self {
            Self::InvalidRequest(_) => words::danger(
                "The number could not be looked up",
                &format!("The request of your telephony service cannot be used. {OPERATOR}"),
            ),
            Self::ClientUnauthenticated => words::danger(
                "The look-up service does not know your telephony service",
                &format!("Your telephony service is not let in. {OPERATOR}"),
            ),
            Self::ClientForbidden(_) => {
                words::danger("Your telephony service may not look this up", OPERATOR)
            }
            Self::Overloaded(_) => words::busy(),
            Self::LookupFailed { error, platform } => words::lookup_failed(error, platform),
            Self::RequestTooSlow => {
                words::warning("The look-up request did not arrive", "Try again.")
            }
            Self::ReadTooSlowly => words::warning("The warm-up was given up", AGAIN),
            Self::Stopping => words::warning("The look-up service is restarting", AGAIN),
            Self::NotInvalidatedEverywhere => words::danger(
                "Stored answers could not be deleted everywhere",
                "They are deleted in one place, but not yet in others. Try again in a moment.",
            ),
        }
    }
}
