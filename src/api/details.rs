//! What accompanies a failure: `google.rpc`'s details, and the words for a person.

use prost::{Message, Name};
use prost_types::Any;

use super::error::{ApiError, Violation};
use super::words;
use crate::pb::rpc::bad_request::FieldViolation;
use crate::pb::rpc::{BadRequest, ErrorInfo, RetryInfo};
use crate::pb::v1 as pb;

/// The `domain` of all reasons.
const DOMAIN: &str = "contactd";

/// Points a person to the operator of the telephony service.
const OPERATOR: &str = "Its operator finds the reason in the status details.";

/// How to continue a batch that ended early.
const AGAIN: &str = "What was looked up is kept. Start the batch again for the rest.";

impl ApiError {
    /// The details in the order of the contract: `ErrorInfo`, what else is known, and the words for
    /// a person.
    #[must_use]
    pub(crate) fn details(&self) -> Vec<Any> {
        let info = ErrorInfo {
            reason: self.reason().to_owned(),
            domain: DOMAIN.to_owned(),
            ..Default::default()
        };
        let violation = match self {
            Self::InvalidRequest(violation) => Some(bad_request(violation)),
            _ => None,
        };
        let retry = self.retry_after().map(|delay| RetryInfo {
            retry_delay: prost_types::Duration::try_from(delay).ok(),
        });
        let mut all = vec![any(&info)];
        all.extend(violation.map(|violation| any(&violation)));
        all.extend(retry.map(|retry| any(&retry)));
        all.push(any(&self.person()));
        all
    }

    fn person(&self) -> pb::ReturnMessage {
        match self {
            Self::InvalidRequest(_) => words::danger(
                "The number could not be looked up",
                &format!("The request of your telephony service cannot be used. {OPERATOR}"),
            ),
            Self::ClientUnauthenticated => words::danger(
                "The look-up service does not know your telephony service",
                &format!("It does not accept requests from your telephony service. {OPERATOR}"),
            ),
            Self::ClientForbidden(_) => words::danger(
                "Your telephony service is not allowed to look this up",
                OPERATOR,
            ),
            Self::Overloaded(_) => words::busy(),
            Self::LookupFailed { error, platform } => words::lookup_failed(error, platform),
            Self::RequestTooSlow => {
                words::warning("The look-up request did not arrive", "Try again.")
            }
            Self::ReadTooSlowly => words::warning("The batch was ended early", AGAIN),
            Self::Stopping => words::warning("The look-up service is restarting", AGAIN),
            Self::NotInvalidatedEverywhere => words::danger(
                "Stored answers could not be deleted everywhere",
                "They are deleted in one place, but not yet in others. Try again in a moment.",
            ),
        }
    }
}

fn bad_request(violation: &Violation) -> BadRequest {
    let violation = FieldViolation {
        field: violation.field.clone(),
        description: violation.description.clone(),
        ..Default::default()
    };
    BadRequest {
        field_violations: vec![violation],
    }
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}
