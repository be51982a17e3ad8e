//! Return messages: what a person may be shown, in contactd's own words.

use std::fmt::Display;

use crate::domain::LookupError;
use crate::pb::v1 as pb;

/// How long a message is shown, in milliseconds.
const SHORT: u32 = 3_000;
const LONG: u32 = 5_000;

pub(super) fn success(message: impl Display) -> pb::ReturnMessage {
    message_of(message, "success", SHORT, None)
}

/// A message for something that did not work and is nobody's fault.
pub(super) fn warning<'a>(
    message: impl Display,
    hint: impl Into<Option<&'a str>>,
) -> pb::ReturnMessage {
    message_of(message, "warning", LONG, hint.into())
}

/// A message for a failure: what happened, and what the person can do.
pub(super) fn danger(message: impl Display, hint: &str) -> pb::ReturnMessage {
    message_of(message, "danger", LONG, Some(hint))
}

fn message_of(
    message: impl Display,
    kind: &str,
    ttl: u32,
    hint: Option<&str>,
) -> pb::ReturnMessage {
    pb::ReturnMessage {
        message: message.to_string(),
        message_type: kind.to_owned(),
        ttl,
        details: hint.map(detail).into_iter().collect(),
    }
}

fn detail(text: &str) -> pb::Detail {
    let item = pb::DetailItem {
        id: "1".to_owned(),
        r#type: "text".to_owned(),
        text: text.to_owned(),
    };
    pb::Detail {
        title: "Details".to_owned(),
        items: vec![item],
    }
}

/// The daemon, or the client's share of it, is full.
pub(super) fn busy() -> pb::ReturnMessage {
    warning("The look-up service is busy", "Try again in a moment.")
}

/// A look-up on `platform` failed.
pub(super) fn lookup_failed(error: &LookupError, platform: &str) -> pb::ReturnMessage {
    match error {
        LookupError::CrmUnauthenticated
        | LookupError::CrmForbidden
        | LookupError::CrmUnavailable(_)
        | LookupError::CrmBadReply(_) => crm_failed(error, platform),
        LookupError::CrmRateLimited { .. } => warning(
            format!("{platform} limits how often it may be asked"),
            "The limit is reached for now. Try again in a minute.",
        ),
        LookupError::BudgetExhausted { .. } => warning(
            format!("Too many look-ups in {platform} at the moment"),
            "The number could not be looked up in time. Try again in a moment.",
        ),
        LookupError::DeadlineExceeded => warning(
            format!("{platform} takes longer than usual"),
            "The look-up may go on; ask again in a moment.",
        ),
        LookupError::NotCached => warning("No answer is stored for this number", None),
        LookupError::Overloaded => busy(),
        LookupError::Internal => danger(
            "The look-up failed",
            "Tell the operator of your telephony service.",
        ),
    }
}

fn crm_failed(error: &LookupError, platform: &str) -> pb::ReturnMessage {
    let (message, hint) = match error {
        LookupError::CrmUnauthenticated => (
            format!("{platform} did not accept your sign-in"),
            format!(
                "Disconnect from {platform} and connect again. If you do not sign in yourself, tell the operator of \
                 your telephony service."
            ),
        ),
        LookupError::CrmForbidden => (
            format!("{platform} does not let you search contacts"),
            format!(
                "Ask the administrator of your {platform} account for permission to read contacts."
            ),
        ),
        LookupError::CrmBadReply(_) => (
            format!("{platform} sent an answer that could not be read"),
            "If this persists, tell the operator of your telephony service.".to_owned(),
        ),
        _ => (
            format!("{platform} could not be reached"),
            format!(
                "{platform} did not answer in time or reported a fault. Try again in a moment."
            ),
        ),
    };
    danger(message, &hint)
}
