//! What a reply means: one table from status, headers and body to a class.
//!
//! Owns the rows that hold for all CRMs; a connector adds those of its own CRM, which come first.
//! Promises that a limit is never taken for a missing permission if the CRM shows any sign of it,
//! because a permission ends a whole batch and a limit is waited for. Reads machine words only,
//! never a CRM's prose.
//!
//! Sources: RFC 9110 (408, 503, `Retry-After`), RFC 6585 (429), RFC 8470 (425), RFC 4918 (423), and
//! the error pages of the CRMs that are named beside the words.

use std::time::Duration;

use serde_json::Value;

use super::headers::LONGEST;
use crate::budget::RateHint;
use crate::domain::LookupError;
use crate::domain::error::{BadReply, Unavailable};
use crate::domain::json::text;

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// An answer.
    Answer,
    /// Too many calls.
    Limit,
    /// Trouble of the CRM that may pass.
    Fault,
    /// The credential is not accepted.
    Credential,
    /// The user may not have this.
    Permission,
    /// Nothing of that kind, and no answer.
    Unusable,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Which statuses it is about.
    pub(crate) statuses: fn(u16) -> bool,
    /// What else has to be there.
    pub(crate) sign: Sign,
    /// What such a reply means.
    pub(crate) class: Class,
}

/// What a reply shows beside its status.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sign {
    /// Anything.
    Any,
    /// The headers say when to come back, or that no call is left.
    Wait,
    /// One of these words stands where CRMs put their codes.
    Word(&'static [&'static str]),
    /// The body is no JSON.
    NoJson,
}

/// The rows for all CRMs. Only 200 brings an answer: 202 is one that comes later, 203 another's,
/// 206 a part of one.
const COMMON: [Row; 8] = [
    // 420 and 509 are older ways to say 429.
    row(
        |status| matches!(status, 420 | 429 | 509),
        Sign::Any,
        Class::Limit,
    ),
    row(
        |status| matches!(status, 200 | 400 | 403 | 503),
        Sign::Word(&LIMITS),
        Class::Limit,
    ),
    row(|status| status == 403, Sign::Wait, Class::Limit),
    row(|status| status == 401, Sign::Any, Class::Credential),
    row(|status| status == 403, Sign::Any, Class::Permission),
    row(
        |status| matches!(status, 408 | 423 | 425 | 500..=599),
        Sign::Any,
        Class::Fault,
    ),
    row(|status| status == 200, Sign::Any, Class::Answer),
    row(|_| true, Sign::Any, Class::Unusable),
];

const fn row(statuses: fn(u16) -> bool, sign: Sign, class: Class) -> Row {
    Row {
        statuses,
        sign,
        class,
    }
}

/// Words that mean a limit in any CRM's reply, whatever its status.
const LIMITS: [&str; 20] = [
    "REQUEST_LIMIT_EXCEEDED",     // Salesforce, by 403
    "SSS_REQUEST_LIMIT_EXCEEDED", // NetSuite, by 400
    "CONCURRENCY_LIMIT_EXCEEDED", // NetSuite
    "RATE_LIMIT",                 // HubSpot (errorType)
    "RATE_LIMITS",                // HubSpot (category)
    "TOO_MANY_REQUESTS",          // Zoho
    "TooManyRequests",            // Microsoft Graph
    "ApplicationThrottled",       // Microsoft Graph
    "0x80072321",                 // Dataverse: time
    "0x80072322",                 // Dataverse: count
    "0x80072326",                 // Dataverse: concurrency
    "rateLimitExceeded",          // Google, by 403
    "userRateLimitExceeded",      // Google, by 403
    "dailyLimitExceeded",         // Google, by 403
    "quotaExceeded",              // Google, by 403
    "RESOURCE_EXHAUSTED",         // Google
    "rate_limit_exceeded",        // Attio, Intercom
    "rate_limit_error",           // Attio (type)
    "QUERY_LIMIT_EXCEEDED",       // Bitrix24, by 503
    "OPERATION_TIME_LIMIT",       // Bitrix24
];

/// Members that only failures have, unless they are empty. One may hold an HTTP status.
pub(super) const ERRORS: [&str; 3] = ["error", "errors", "errorCode"];

/// Where a failure is described: Salesforce lists them, Google and Close nest them.
const PLACES: [&str; 5] = ["", "/0", "/error", "/errors/0", "/error/errors/0"];

/// Members of such a place that hold a code.
const CODES: [&str; 8] = [
    "errorCode",
    "code",
    "errorType",
    "category",
    "type",
    "status",
    "reason",
    "error",
];

/// Members of such a place that hold the seconds to wait.
const WAITS: [&str; 3] = ["rate_reset", "retry_after", "retryAfter"];

/// One reply, as far as the table looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply<'a> {
    pub(crate) status: u16,
    /// What the headers say of the quota.
    pub(crate) headers: &'a RateHint,
    /// The body, if it was read and is JSON.
    pub(crate) body: Option<&'a Value>,
}

/// What a reply means, and what follows from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    class: Class,
    /// The status that the reply has, or that a reply with status 200 says in its body.
    status: u16,
    /// What the budget should know.
    pub(crate) hint: RateHint,
}

/// Whether the table has to see the body of a reply with this status.
pub(super) fn needs_body(own: &[Row], status: u16) -> bool {
    let says_wait = matches!(status, 420 | 429 | 509);
    says_wait || rows(own).any(|row| matches!(row.sign, Sign::Word(_)) && (row.statuses)(status))
}

/// Reads a reply by the rows of its CRM, then by those for all.
pub(super) fn read(own: &[Row], reply: Reply<'_>) -> Reading {
    let said = reply
        .body
        .filter(|_| reply.status == 200)
        .and_then(said_status);
    let reply = Reply {
        status: said.unwrap_or(reply.status),
        ..reply
    };
    let found = rows(own).find(|row| (row.statuses)(reply.status) && row.sign.is_in(&reply));
    let class = found.map_or(Class::Unusable, |row| row.class);
    let headers = *reply.headers;
    let retry_after = match class {
        Class::Limit => headers
            .retry_after
            .or_else(|| wait_in(reply.body))
            .or_else(|| reset(&headers)),
        Class::Fault => headers.retry_after,
        _ => None,
    };
    let hint = RateHint {
        refused: class == Class::Limit,
        retry_after,
        ..headers
    };
    Reading {
        class,
        status: reply.status,
        hint,
    }
}

fn rows(own: &[Row]) -> impl Iterator<Item = &Row> {
    own.iter().chain(&COMMON)
}

impl Reading {
    /// Why the reply brings no answer.
    pub(crate) fn failure(&self) -> Option<LookupError> {
        let retry_after = self.hint.retry_after;
        match self.class {
            Class::Answer => None,
            Class::Limit => Some(LookupError::CrmRateLimited { retry_after }),
            Class::Fault => Some(LookupError::CrmUnavailable(Unavailable::Status {
                code: self.status,
                retry_after,
            })),
            Class::Credential => Some(LookupError::CrmUnauthenticated),
            Class::Permission => Some(LookupError::CrmForbidden),
            Class::Unusable => Some(LookupError::CrmBadReply(BadReply::Status(self.status))),
        }
    }
}

impl Sign {
    fn is_in(self, reply: &Reply<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Wait => reply.headers.retry_after.is_some() || reply.headers.remaining == Some(0),
            Self::Word(words) => reply.body.is_some_and(|body| {
                let is_word =
                    |code: String| words.iter().any(|word| word.eq_ignore_ascii_case(&code));
                codes(body, reply.status == 200).any(is_word)
            }),
            Self::NoJson => reply.body.is_none(),
        }
    }
}

/// The codes of a body's failure. What else a success has is data.
fn codes(body: &Value, is_success: bool) -> impl Iterator<Item = String> {
    let direct = ERRORS.iter().filter_map(move |name| body.get(name));
    let skipped = if is_success { 2 } else { 0 };
    let places = PLACES
        .iter()
        .skip(skipped)
        .filter_map(move |place| body.pointer(place));
    let nested = places.flat_map(|place| CODES.iter().filter_map(move |name| place.get(name)));
    direct.chain(nested).map(|code| text(Some(code)))
}

/// The HTTP status that a success has among its errors.
fn said_status(body: &Value) -> Option<u16> {
    codes(body, true)
        .filter_map(|code| code.parse().ok())
        .find(|status| matches!(status, 400..=599))
}

fn wait_in(body: Option<&Value>) -> Option<Duration> {
    let places = PLACES.iter().filter_map(|place| body?.pointer(place));
    let waits = places.flat_map(|place| {
        WAITS
            .iter()
            .filter_map(move |name| place.get(name)?.as_f64())
    });
    waits
        .filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map(|wait| wait.min(LONGEST))
        .next()
}

/// When calls are left again, unless some are left now: then another limit was meant.
fn reset(headers: &RateHint) -> Option<Duration> {
    headers
        .reset_after
        .filter(|_| headers.remaining.unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOTHING: RateHint = RateHint {
        refused: false,
        retry_after: None,
        remaining: None,
        limit: None,
        reset_after: None,
    };

    fn class(status: u16, headers: &RateHint, body: Option<&Value>) -> Class {
        read(
            &[],
            Reply {
                status,
                headers,
                body,
            },
        )
        .class
    }

    #[test]
    fn statuses_alone() {
        for (statuses, expected) in [
            (&[200][..], Class::Answer),
            (&[420, 429, 509], Class::Limit),
            (&[408, 423, 425, 500, 502, 503, 504, 524, 599], Class::Fault),
            (&[401], Class::Credential),
            (&[403], Class::Permission),
            (
                &[
                    201, 202, 204, 206, 304, 400, 402, 404, 405, 410, 418, 451, 600, 999,
                ],
                Class::Unusable,
            ),
        ] {
            for status in statuses {
                assert_eq!(class(*status, &NOTHING, None), expected, "{status}");
            }
        }
    }

    #[test]
    fn a_403_is_a_limit_with_a_time_or_with_no_call_left_and_else_a_permission() {
        let named = RateHint {
            retry_after: Some(2 * SECOND),
            ..NOTHING
        };
        let none_left = RateHint {
            remaining: Some(0),
            ..NOTHING
        };
        let some_left = RateHint {
            remaining: Some(1),
            reset_after: Some(SECOND),
            ..NOTHING
        };
        assert_eq!(
            [&named, &none_left].map(|headers| class(403, headers, None)),
            [Class::Limit; 2]
        );
        assert_eq!(class(403, &some_left, None), Class::Permission);
        assert_eq!(class(401, &named, None), Class::Credential);
        assert_eq!(class(200, &named, None), Class::Answer);
    }

    #[test]
    fn the_words_of_crms_are_read_where_they_put_them() {
        for (status, body, expected) in [
            (
                403,
                json!([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": ""}]),
                Class::Limit,
            ),
            (
                403,
                json!([{"errorCode": "API_DISABLED_FOR_ORG", "message": ""}]),
                Class::Permission,
            ),
            (
                400,
                json!({"error": {"code": "SSS_REQUEST_LIMIT_EXCEEDED", "message": ""}}),
                Class::Limit,
            ),
            (
                400,
                json!({"code": "INVALID_QUERY", "status": "error"}),
                Class::Unusable,
            ),
            (
                403,
                json!({"error": {"errors": [{"reason": "userRateLimitExceeded"}], "code": 403}}),
                Class::Limit,
            ),
            (
                403,
                json!({"error": {"errors": [{"reason": "insufficientPermissions"}]}}),
                Class::Permission,
            ),
            (503, json!({"error": "QUERY_LIMIT_EXCEEDED"}), Class::Limit),
            (
                503,
                json!({"error": {"code": "applicationThrottled"}}),
                Class::Limit,
            ),
            (
                503,
                json!({"error": {"code": "serviceUnavailable"}}),
                Class::Fault,
            ),
            (
                404,
                json!({"errorCode": "REQUEST_LIMIT_EXCEEDED"}),
                Class::Unusable,
            ),
            (403, json!("REQUEST_LIMIT_EXCEEDED"), Class::Permission),
            (
                200,
                json!({"error": {"code": "TOO_MANY_REQUESTS"}}),
                Class::Limit,
            ),
            (
                200,
                json!({"errors": [{"code": "rate_limit_exceeded"}]}),
                Class::Limit,
            ),
            // Data of a contact that happens to look like one.
            (
                200,
                json!({"data": [], "type": "RATE_LIMIT", "status": "429"}),
                Class::Answer,
            ),
            (
                200,
                json!([{"status": "TOO_MANY_REQUESTS", "code": 429}]),
                Class::Answer,
            ),
        ] {
            assert_eq!(
                class(status, &NOTHING, Some(&body)),
                expected,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn a_status_in_the_body_of_a_200_is_read_as_that_status() {
        for (code, expected) in [
            (429, Class::Limit),
            (401, Class::Credential),
            (403, Class::Permission),
            (503, Class::Fault),
            (404, Class::Unusable),
            (-1, Class::Answer),
            (0, Class::Answer),
            (200, Class::Answer),
            (70_000, Class::Answer),
        ] {
            for body in [
                json!({"success": false, "error": "no", "errorCode": code}),
                json!({"errorCode": code.to_string()}),
                json!({"error": code}),
                json!({"error": {"code": code}}),
                json!({"errors": [{"status": code}]}),
            ] {
                assert_eq!(class(200, &NOTHING, Some(&body)), expected, "{body}");
            }
        }
        let named = RateHint {
            retry_after: Some(SECOND),
            ..NOTHING
        };
        assert_eq!(
            class(200, &named, Some(&json!({"errorCode": 403}))),
            Class::Limit
        );
    }

    #[test]
    fn the_time_to_wait_is_what_the_crm_says_in_whatever_place() {
        let wait = |status, headers: &RateHint, body: Value| {
            read(
                &[],
                Reply {
                    status,
                    headers,
                    body: Some(&body),
                },
            )
            .hint
            .retry_after
            .map(|wait| wait.as_millis())
        };
        let named = RateHint {
            retry_after: Some(2 * SECOND),
            reset_after: Some(9 * SECOND),
            ..NOTHING
        };
        let none_left = RateHint {
            remaining: Some(0),
            reset_after: Some(3 * SECOND),
            ..NOTHING
        };
        let some_left = RateHint {
            remaining: Some(5),
            ..none_left
        };
        for (status, headers, body, expected) in [
            (
                429,
                &named,
                json!({"error": {"rate_reset": 1.5}}),
                Some(2_000),
            ),
            (
                429,
                &none_left,
                json!({"error": {"rate_reset": 1.5}}),
                Some(1_500),
            ),
            (429, &none_left, json!({"retry_after": -1}), Some(3_000)),
            (429, &none_left, json!(null), Some(3_000)),
            (403, &none_left, json!(null), Some(3_000)),
            (429, &some_left, json!(null), None),
            (429, &NOTHING, json!(null), None),
            (503, &named, json!(null), Some(2_000)),
            (503, &none_left, json!(null), None),
            (200, &named, json!({"data": []}), None),
            (404, &named, json!(null), None),
        ] {
            assert_eq!(
                wait(status, headers, body.clone()),
                expected,
                "{status} {headers:?} {body}"
            );
        }
    }

    #[test]
    fn rows_of_a_crm_come_first() {
        let own = [
            row(|status| status == 477, Sign::Any, Class::Fault),
            row(|status| status == 403, Sign::NoJson, Class::Limit),
            row(
                |status| status == 404,
                Sign::Word(&["SLOW_DOWN"]),
                Class::Limit,
            ),
        ];
        let read = |status, body: Option<&Value>| {
            read(
                &own,
                Reply {
                    status,
                    headers: &NOTHING,
                    body,
                },
            )
            .class
        };
        assert_eq!(
            [read(477, None), read(403, None), read(404, None)],
            [Class::Fault, Class::Limit, Class::Unusable]
        );
        assert_eq!(read(403, Some(&json!({}))), Class::Permission);
        assert_eq!(read(404, Some(&json!({"code": "slow_down"}))), Class::Limit);
        assert!(
            needs_body(&own, 404)
                && needs_body(&own, 429)
                && !needs_body(&[], 404)
                && !needs_body(&own, 500)
        );
    }
}
