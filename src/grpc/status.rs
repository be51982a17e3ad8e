//! Failures on the wire: one table from errors to gRPC statuses with `google.rpc` details.

use std::time::Duration;

use prost::{Message as _, Name};
use tonic::{Code, Status};
use tonic_types::pb::{
    BadRequest, ErrorInfo, RetryInfo, Status as RpcStatus, bad_request::FieldViolation,
};

use super::messages;
use crate::clients::Forbidden;
use crate::domain::LookupError;
use crate::pb::v1 as pb;

const DOMAIN: &str = "contactd";

/// What a client is asked to wait where a CRM does not say.
const RETRY: Duration = Duration::from_secs(60);

/// What a client is asked to wait where the daemon is full: its queue is short.
const RETRY_OVERLOADED: Duration = Duration::from_millis(250);

/// A field of the request that cannot be used. `description` never repeats its value.
pub(super) fn invalid(field: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    let message = format!("{field} {description}");
    let violation = FieldViolation {
        field: field.to_owned(),
        description,
        ..Default::default()
    };
    let person = messages::danger(
        "The number could not be looked up",
        "The request of your telephony service cannot be used. Its operator finds the reason in the status details.",
    );
    let details = vec![any(
        "google.rpc.BadRequest",
        &BadRequest {
            field_violations: vec![violation],
        },
    )];
    status(
        Code::InvalidArgument,
        "INVALID_REQUEST",
        message,
        &person,
        details,
    )
}

/// The daemon has too many requests in hand.
pub(super) fn overloaded(message: &str, wait: Option<Duration>) -> Status {
    let details = vec![retry_info(wait.unwrap_or(RETRY_OVERLOADED))];
    status(
        Code::ResourceExhausted,
        "OVERLOADED",
        message.to_owned(),
        &busy(),
        details,
    )
}

fn busy() -> pb::ReturnMessage {
    messages::warning(
        "The look-up service is busy",
        vec![messages::detail("Try again in a moment.")],
    )
}

/// Nobody of the list calls.
pub(super) fn caller_unauthenticated() -> Status {
    let hint = "Your telephony service is not let in. Its operator finds the reason in the status details.";
    let person = messages::danger(
        "The look-up service does not know your telephony service",
        hint,
    );
    let message = "the caller is not known: send `authorization: Bearer TOKEN` with a token of grpc.tokens, or use a \
                   certificate that is listed there";
    status(
        Code::Unauthenticated,
        "CALLER_UNAUTHENTICATED",
        message.to_owned(),
        &person,
        Vec::new(),
    )
}

/// The caller is known, but may not have this. `what` is the field that its list does not name.
pub(super) fn caller_forbidden(what: Forbidden) -> Status {
    let hint = "Its operator finds the reason in the status details.";
    let person = messages::danger("Your telephony service may not look this up", hint);
    let message = match what {
        Forbidden::Platform => "user.platform is not one that this caller may ask",
        Forbidden::Account => "user.account_id is not one that this caller may ask for",
    };
    status(
        Code::PermissionDenied,
        "CALLER_FORBIDDEN",
        message.to_owned(),
        &person,
        Vec::new(),
    )
}

/// A request did not arrive in time.
pub(super) fn request_too_slow() -> Status {
    let person = messages::warning(
        "The look-up request did not arrive",
        vec![messages::detail("Try again.")],
    );
    let message = "the request did not arrive within 10 seconds of its headers".to_owned();
    status(
        Code::DeadlineExceeded,
        "REQUEST_TOO_SLOW",
        message,
        &person,
        Vec::new(),
    )
}

/// A batch whose progress nobody took.
pub(super) fn read_too_slowly() -> Status {
    let hint = "What was looked up is kept. Start the warm-up again for the rest.";
    let person = messages::warning("The warm-up was given up", vec![messages::detail(hint)]);
    let message = "the batch was ended because its progress was not read for a minute".to_owned();
    status(
        Code::Aborted,
        "READ_TOO_SLOWLY",
        message,
        &person,
        Vec::new(),
    )
}

/// A batch that ends because the daemon stops.
pub(super) fn stopping() -> Status {
    let hint = "What was looked up is kept. Start the warm-up again for the rest.";
    let person = messages::warning(
        "The look-up service is restarting",
        vec![messages::detail(hint)],
    );
    let message = "the daemon is stopping; run the batch again for the rest".to_owned();
    status(Code::Unavailable, "STOPPING", message, &person, Vec::new())
}

/// A replica could not be told to forget.
pub(super) fn not_forgotten_everywhere() -> Status {
    let hint = "It is forgotten in one place, but others could not be told. Try again in a moment.";
    let person = messages::danger("Stored answers could not be forgotten everywhere", hint);
    let message = "forgotten by this replica, but Redis could not be told; try again".to_owned();
    status(
        Code::Unavailable,
        "REDIS_UNAVAILABLE",
        message,
        &person,
        vec![retry_info(RETRY_OVERLOADED)],
    )
}

/// The status of a failed look-up.
#[expect(clippy::too_many_lines, reason = "one table of all failures")]
pub(super) fn failed(error: &LookupError, platform: &str) -> Status {
    let (code, person) = match error {
        LookupError::CrmUnauthenticated => (
            Code::Unauthenticated,
            messages::danger(
                &format!("{platform} did not accept your sign-in"),
                &format!("Disconnect from {platform} and connect again."),
            ),
        ),
        LookupError::CrmForbidden => (
            Code::PermissionDenied,
            messages::danger(
                &format!("{platform} does not let you search contacts"),
                &format!(
                    "Ask the administrator of your {platform} account for permission to read contacts."
                ),
            ),
        ),
        LookupError::CrmRateLimited { .. } => (
            Code::ResourceExhausted,
            messages::warning(
                &format!("{platform} limits how often it may be asked"),
                vec![messages::detail(
                    "The limit is reached for now. Try again in a minute.",
                )],
            ),
        ),
        LookupError::BudgetExhausted { .. } => (
            Code::ResourceExhausted,
            messages::warning(
                &format!("Too many look-ups in {platform} at the moment"),
                vec![messages::detail(
                    "The number could not be looked up in time. Try again in a moment.",
                )],
            ),
        ),
        LookupError::CrmUnavailable(_) => (
            Code::Unavailable,
            messages::danger(
                &format!("{platform} could not be reached"),
                &format!(
                    "{platform} did not answer in time or reported a fault. Try again in a moment."
                ),
            ),
        ),
        LookupError::CrmBadReply(_) => (
            Code::Internal,
            messages::danger(
                &format!("{platform} sent an answer that could not be read"),
                "If this stays so, tell the operator of your telephony service.",
            ),
        ),
        LookupError::DeadlineExceeded => (
            Code::DeadlineExceeded,
            messages::warning(
                &format!("{platform} takes longer than usual"),
                vec![messages::detail(
                    "The look-up goes on; ask again in a moment.",
                )],
            ),
        ),
        LookupError::NotCached => (
            Code::NotFound,
            messages::warning("This number has not been looked up yet", Vec::new()),
        ),
        LookupError::Overloaded => (Code::ResourceExhausted, busy()),
        LookupError::Internal => (
            Code::Internal,
            messages::danger(
                "The look-up failed",
                "Tell the operator of your telephony service.",
            ),
        ),
    };
    let details = match error {
        LookupError::CrmRateLimited { retry_after } => {
            vec![retry_info(retry_after.unwrap_or(RETRY))]
        }
        LookupError::Overloaded => vec![retry_info(RETRY_OVERLOADED)],
        _ => error.retry_after().map(retry_info).into_iter().collect(),
    };
    status(code, error.reason(), error.to_string(), &person, details)
}

fn retry_info(delay: Duration) -> prost_types::Any {
    any(
        "google.rpc.RetryInfo",
        &RetryInfo {
            retry_delay: prost_types::Duration::try_from(delay).ok(),
        },
    )
}

fn status(
    code: Code,
    reason: &str,
    message: String,
    person: &pb::ReturnMessage,
    more: Vec<prost_types::Any>,
) -> Status {
    let info = ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
        ..Default::default()
    };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    details.extend(more);
    details.push(any(&pb::ReturnMessage::full_name(), person));
    let rpc = RpcStatus {
        code: code.into(),
        message: message.clone(),
        details,
    };
    Status::with_details(code, message, rpc.encode_to_vec().into())
}

fn any(name: &str, message: &impl prost::Message) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}
