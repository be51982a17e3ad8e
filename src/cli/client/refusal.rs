//! What the daemon answered instead of a contact, in words for the person at the terminal: what is
//! wrong, the reason's name, and the option that helps.

use std::time::Duration;

use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};

use crate::cli::Failure;
use crate::pb::{rpc, v1 as pb};

/// The fields of requests, with the options that fill them. A longer name comes before the name
/// that it begins with.
const OPTIONS: [(&str, &str); 9] = [
    ("numbers.phone_numbers", "the list of numbers"),
    ("phone_numbers", "the list of numbers"),
    ("phone_number", "the number"),
    ("user.platform", "--platform"),
    ("user.region", "--region"),
    ("user.hostname", "--hostname"),
    ("user.account_id", "--account-id"),
    ("user.id", "--user-id"),
    ("overriding_formats", "--format"),
];

/// The reasons. Each may have a message that replaces the daemon's, if that is written for
/// programmers, and advice on what to do. The advice is empty if there is none.
const REASONS: [(&str, Option<&str>, &str); 14] = [
    (
        "CALLER_UNAUTHENTICATED",
        Some("the client is not known to the daemon"),
        "Give a token of its grpc.tokens (--token-file or CONTACTD_TOKEN), or a certificate that is listed there \
         (--cert-file and --key-file).",
    ),
    (
        "CALLER_FORBIDDEN",
        None,
        "The daemon's grpc.tokens says what this client may ask for.",
    ),
    (
        "CRM_UNAUTHENTICATED",
        None,
        "Put a valid Authorization header for the CRM, such as \"Bearer TOKEN\", into the file of --auth-header-file \
         or into CONTACTD_AUTH_HEADER.",
    ),
    (
        "CRM_FORBIDDEN",
        Some("the CRM accepts the credential, but does not let it read contacts"),
        "Ask the administrator of the CRM account for that permission.",
    ),
    ("CRM_RATE_LIMITED", None, ""),
    (
        "BUDGET_EXHAUSTED",
        None,
        "Wait longer with --timeout. The status page and `contactd status` show how much of the quota is spent.",
    ),
    (
        "CRM_UNAVAILABLE",
        None,
        "Check the address that the daemon calls: connectors.NAME.base_url of its settings, or else --hostname.",
    ),
    (
        "CRM_BAD_REPLY",
        None,
        "Check in the daemon's settings that connectors.NAME.kind fits the CRM at base_url or --hostname.",
    ),
    ("OVERLOADED", None, ""),
    (
        "DEADLINE_EXCEEDED",
        None,
        "The look-up may go on: ask again in a moment, or wait longer with --timeout.",
    ),
    ("INTERNAL", None, "The daemon's log says more."),
    ("STOPPING", None, ""),
    ("REDIS_UNAVAILABLE", None, ""),
    (
        "NOT_CACHED",
        None,
        "Leave --only-if-cached out to ask the CRM.",
    ),
];

/// The details of a status.
#[derive(Default)]
struct StatusDetails {
    reason: String,
    field: Option<String>,
    retry_after: Option<Duration>,
    /// The words for the user of a telephony service.
    person: Option<pb::ReturnMessage>,
}

/// The failure that a status of the daemon means.
pub(in crate::cli) fn explain(status: &Status) -> Failure {
    let details = StatusDetails::of(status);
    let mut lines = match REASONS
        .iter()
        .find(|(reason, ..)| *reason == details.reason)
    {
        Some((reason, what, advice)) => {
            let what = what.unwrap_or(status.message());
            vec![format!("{what} ({reason})"), (*advice).to_owned()]
        }
        None => details.without_advice(status),
    };
    let retry = details.retry_after.map(humantime::format_duration);
    lines.extend(retry.map(|delay| format!("Try again after {delay}.")));
    lines.retain(|line| !line.is_empty());
    let text = with_options(&lines.join("\n  "));
    if status.code() == Code::InvalidArgument {
        Failure::Misused(text)
    } else {
        Failure::Failed(anyhow::anyhow!(text))
    }
}

impl StatusDetails {
    fn of(status: &Status) -> Self {
        let mut read = Self::default();
        let rpc = rpc::Status::decode(status.details()).unwrap_or_default();
        for detail in &rpc.details {
            read.take(detail);
        }
        read
    }

    /// A detail that cannot be read is left out.
    fn take(&mut self, detail: &Any) {
        let bytes = detail.value.as_slice();
        match detail.type_url.rsplit('/').next().unwrap_or_default() {
            "google.rpc.ErrorInfo" => {
                self.reason = rpc::ErrorInfo::decode(bytes).unwrap_or_default().reason;
            }
            "google.rpc.BadRequest" => {
                let violations = rpc::BadRequest::decode(bytes).unwrap_or_default();
                let first = violations.field_violations.into_iter().next();
                self.field = first.map(|violation| violation.field);
            }
            "google.rpc.RetryInfo" => {
                let delay = rpc::RetryInfo::decode(bytes)
                    .unwrap_or_default()
                    .retry_delay;
                self.retry_after = delay.and_then(|delay| Duration::try_from(delay).ok());
            }
            "contactd.v1.ReturnMessage" => self.person = pb::ReturnMessage::decode(bytes).ok(),
            _ => {}
        }
    }

    /// The lines about a faulty request, or about a reason that this program does not know.
    fn without_advice(&self, status: &Status) -> Vec<String> {
        let message = status.message();
        if self.field.as_deref() == Some("auth_header") {
            let what = message.trim_start_matches("auth_header ");
            let given = "the credential in --auth-header-file or CONTACTD_AUTH_HEADER";
            return vec![format!("{given} {what} ({})", self.reason)];
        }
        if self.reason.is_empty() {
            return vec![format!("{:?}: {message}", status.code())];
        }
        let what = format!("{message} ({})", self.reason);
        let person = self.person.as_ref().filter(|_| self.field.is_none());
        std::iter::once(what)
            .chain(person.map(|person| person.message.clone()))
            .collect()
    }
}

/// The text with the options of this program in place of the fields of requests.
pub(in crate::cli) fn with_options(text: &str) -> String {
    // An explanation names the fields of the question in its request.
    let text = with_positions(&text.replace("question.", ""));
    let fields = OPTIONS.iter();
    fields.fold(text, |text, (field, option)| text.replace(field, option))
}

/// The text with "number 1" in place of `phone_numbers[0]`.
fn with_positions(text: &str) -> String {
    const ELEMENT: &str = "phone_numbers[";
    let text = text.replace("numbers.phone_numbers[", ELEMENT);
    let mut parts = text.split(ELEMENT);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| {
        let element = part.split_once(']');
        let element = element.and_then(|(n, rest)| Some((n.parse::<u32>().ok()?, rest)));
        match element {
            Some((n, rest)) => format!("{shown}number {}{rest}", n.saturating_add(1)),
            None => shown + ELEMENT + part,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_options() {
        for (text, shown) in [
            (
                "has no leading '+' and no user.region says how to read it",
                "has no leading '+' and no --region says how to read it",
            ),
            ("user.hostname is required", "--hostname is required"),
            ("phone_numbers has more", "the list of numbers has more"),
            ("numbers.phone_numbers[3] is empty", "number 4 is empty"),
            ("phone_number is empty", "the number is empty"),
            ("user.id is required", "--user-id is required"),
        ] {
            assert_eq!(with_options(text), shown);
        }
    }
}
