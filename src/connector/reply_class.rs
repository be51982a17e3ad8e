//! What a reply means: one table maps status, headers and body to a class.
//!
//! The table holds the rules for all CRMs. A profile adds those of its own CRM, which come first.
//! If a reply shows any sign of a limit, it is not taken for a missing permission: a missing
//! permission ends a whole batch, and a limit only delays it. Only machine-readable codes are read,
//! never a CRM's prose.
//!
//! Sources: RFC 9110 (408, 503, `Retry-After`), RFC 6585 (429), RFC 8470 (425), RFC 4918 (423), and
//! the error pages of the CRMs named beside the codes.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use serde_json::Value;

use super::headers::LONGEST;
use super::path::{NoNames, Path};
use crate::budget::RateHint;
use crate::domain::LookupError;
use crate::domain::error::{BadReply, Unavailable};
use crate::domain::json::text;

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyClass {
    /// An answer, in the connector's form of success.
    Found,
    /// The CRM has no such records. A body, if there is one, is not an answer.
    Nobody,
    /// Too many calls.
    RateLimited,
    /// The credential is not accepted.
    Unauthenticated,
    /// The user lacks the permission.
    Forbidden,
    /// The CRM has temporary trouble.
    Unavailable,
    /// None of these, and no answer.
    Bad,
    /// This call has no answer, but other calls do: what they find is partial.
    Partial,
}

/// A rule of the table.
#[derive(Debug, Clone)]
pub(crate) struct ReplyRule {
    /// The statuses that it applies to.
    pub(crate) statuses: Cow<'static, [RangeInclusive<u16>]>,
    /// The other condition.
    pub(crate) sign: ReplySign,
    /// What such a reply means.
    pub(crate) class: ReplyClass,
}

/// A sign in a reply besides its status.
#[derive(Debug, Clone)]
pub(crate) enum ReplySign {
    /// Anything.
    Any,
    /// The headers say when to retry, or that no call is left.
    Wait,
    /// One of these codes is in one of the usual positions.
    Word(Cow<'static, [Cow<'static, str>]>),
    /// The body is not JSON.
    NoJson,
    /// All of these, which a connector file states.
    All(Vec<ReplyCondition>),
}

impl ReplySign {
    /// The paths that it reads in the body.
    pub(super) fn paths(&self) -> Vec<&Path> {
        let Self::All(conditions) = self else {
            return Vec::new();
        };
        conditions.iter().filter_map(ReplyCondition::path).collect()
    }
}

/// A condition of a rule in a connector file.
#[derive(Debug, Clone)]
pub(crate) enum ReplyCondition {
    /// The header has this value, in any case of letters.
    Header(HeaderName, String),
    /// One value at this path is one of these scalars.
    Is(Path, Vec<Value>),
    /// No value at this path is one of these scalars.
    IsNot(Path, Vec<Value>),
    /// There is a value at this path that is not null.
    Present(Path),
    /// There is none.
    Absent(Path),
}

impl ReplyCondition {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Header(..) => None,
            Self::Is(path, _) | Self::IsNot(path, _) | Self::Present(path) | Self::Absent(path) => {
                Some(path)
            }
        }
    }
}

/// The rules for all CRMs. Only 200 is an answer: 202 promises one for later, 203 is another
/// server's, 206 is a part of one.
static COMMON: [ReplyRule; 8] = [
    // 420 and 509 are older codes with the meaning of 429.
    common(
        &[420..=420, 429..=429, 509..=509],
        ReplySign::Any,
        ReplyClass::RateLimited,
    ),
    common(
        &[200..=200, 400..=400, 403..=403, 503..=503],
        ReplySign::Word(Cow::Borrowed(&LIMITS)),
        ReplyClass::RateLimited,
    ),
    common(&[403..=403], ReplySign::Wait, ReplyClass::RateLimited),
    common(&[401..=401], ReplySign::Any, ReplyClass::Unauthenticated),
    common(&[403..=403], ReplySign::Any, ReplyClass::Forbidden),
    common(
        &[408..=408, 423..=423, 425..=425, 500..=599],
        ReplySign::Any,
        ReplyClass::Unavailable,
    ),
    common(&[200..=200], ReplySign::Any, ReplyClass::Found),
    common(&[0..=u16::MAX], ReplySign::Any, ReplyClass::Bad),
];

const fn common(
    statuses: &'static [RangeInclusive<u16>],
    sign: ReplySign,
    class: ReplyClass,
) -> ReplyRule {
    ReplyRule {
        statuses: Cow::Borrowed(statuses),
        sign,
        class,
    }
}

impl ReplyRule {
    fn is_about(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| range.contains(&status))
    }
}

/// Codes that mean a limit, in a reply of any CRM with status 200, 400, 403 or 503.
static LIMITS: [Cow<'static, str>; 20] = [
    Cow::Borrowed("REQUEST_LIMIT_EXCEEDED"), // Salesforce, by 403
    Cow::Borrowed("SSS_REQUEST_LIMIT_EXCEEDED"), // NetSuite, by 400
    Cow::Borrowed("CONCURRENCY_LIMIT_EXCEEDED"), // NetSuite
    Cow::Borrowed("RATE_LIMIT"),             // HubSpot (errorType)
    Cow::Borrowed("RATE_LIMITS"),            // HubSpot (category)
    Cow::Borrowed("TOO_MANY_REQUESTS"),      // Zoho
    Cow::Borrowed("TooManyRequests"),        // Microsoft Graph
    Cow::Borrowed("ApplicationThrottled"),   // Microsoft Graph
    Cow::Borrowed("0x80072321"),             // Dataverse: time
    Cow::Borrowed("0x80072322"),             // Dataverse: count
    Cow::Borrowed("0x80072326"),             // Dataverse: concurrency
    Cow::Borrowed("rateLimitExceeded"),      // Google, by 403
    Cow::Borrowed("userRateLimitExceeded"),  // Google, by 403
    Cow::Borrowed("dailyLimitExceeded"),     // Google, by 403
    Cow::Borrowed("quotaExceeded"),          // Google, by 403
    Cow::Borrowed("RESOURCE_EXHAUSTED"),     // Google
    Cow::Borrowed("rate_limit_exceeded"),    // Attio, Intercom
    Cow::Borrowed("rate_limit_error"),       // Attio (type)
    Cow::Borrowed("QUERY_LIMIT_EXCEEDED"),   // Bitrix24, by 503
    Cow::Borrowed("OPERATION_TIME_LIMIT"),   // Bitrix24
];

/// Members that only failures have, unless they are empty. One may contain an HTTP status.
pub(super) const ERRORS: [&str; 3] = ["error", "errors", "errorCode"];

/// Where a failure is described: Salesforce sends a list, Google and Close nest it.
pub(super) const PLACES: [&str; 5] = ["", "/0", "/error", "/errors/0", "/error/errors/0"];

/// Members of such a place that contain a code.
pub(super) const CODES: [&str; 8] = [
    "errorCode",
    "code",
    "errorType",
    "category",
    "type",
    "status",
    "reason",
    "error",
];

/// Members of such a place that contain the seconds to wait.
const WAITS: [&str; 3] = ["rate_reset", "retry_after", "retryAfter"];

/// The facts of one reply that the table uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplyFacts<'a> {
    pub(super) status: u16,
    /// What the headers report about the quota.
    pub(super) headers: &'a RateHint,
    /// The headers.
    pub(super) fields: &'a HeaderMap,
    /// The body, if it was read and is JSON.
    pub(super) body: Option<&'a Value>,
}

/// The meaning of a reply, and its consequences.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplyMeaning {
    pub(super) class: ReplyClass,
    /// The status of the reply, or the one in the body of a reply with status 200.
    status: u16,
    /// What the reply reports to the budget.
    pub(super) hint: RateHint,
}

/// Returns whether a reply with this status may be an answer. Its body is then read in full.
pub(super) fn may_be_found(own: &[ReplyRule], status: u16) -> bool {
    rules(own).any(|rule| rule.class == ReplyClass::Found && rule.is_about(status))
}

/// Returns whether the table needs the body of a reply with this status.
pub(super) fn needs_body(own: &[ReplyRule], status: u16) -> bool {
    let may_say_wait = matches!(status, 420 | 429 | 509);
    may_say_wait || rules(own).any(|rule| rule.sign.reads_body() && rule.is_about(status))
}

/// Classifies a reply by the rules of its CRM, then by those for all.
pub(super) fn read(own: &[ReplyRule], reply: ReplyFacts<'_>) -> ReplyMeaning {
    let in_body = reply.body.filter(|_| reply.status == 200);
    let reply = ReplyFacts {
        status: in_body.and_then(said_status).unwrap_or(reply.status),
        ..reply
    };
    let found = rules(own).find(|rule| rule.is_about(reply.status) && rule.sign.is_in(&reply));
    let class = found.map_or(ReplyClass::Bad, |rule| rule.class);
    let hint = RateHint {
        refused: class == ReplyClass::RateLimited,
        retry_after: retry_after(class, &reply),
        ..*reply.headers
    };
    ReplyMeaning {
        class,
        status: reply.status,
        hint,
    }
}

/// How long the CRM asks to wait. Only limits and faults have such a time.
fn retry_after(class: ReplyClass, reply: &ReplyFacts<'_>) -> Option<Duration> {
    let named = reply.headers.retry_after;
    match class {
        ReplyClass::RateLimited => named
            .or_else(|| wait_in(reply.body))
            .or_else(|| reset(reply.headers)),
        ReplyClass::Unavailable => named,
        _ => None,
    }
}

fn rules(own: &[ReplyRule]) -> impl Iterator<Item = &ReplyRule> {
    own.iter().chain(&COMMON)
}

impl ReplyMeaning {
    /// The error of the reply, or `None` if it brings an answer.
    pub(super) fn failure(&self) -> Option<LookupError> {
        let retry_after = self.hint.retry_after;
        match self.class {
            ReplyClass::Found | ReplyClass::Nobody | ReplyClass::Partial => None,
            ReplyClass::RateLimited => Some(LookupError::CrmRateLimited { retry_after }),
            ReplyClass::Unavailable => Some(LookupError::CrmUnavailable(Unavailable::Status {
                code: self.status,
                retry_after,
            })),
            ReplyClass::Unauthenticated => Some(LookupError::CrmUnauthenticated),
            ReplyClass::Forbidden => Some(LookupError::CrmForbidden),
            ReplyClass::Bad => Some(LookupError::CrmBadReply(BadReply::Status(self.status))),
        }
    }
}

impl ReplySign {
    fn is_in(&self, reply: &ReplyFacts<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Wait => reply.headers.retry_after.is_some() || reply.headers.remaining == Some(0),
            Self::Word(words) => reply
                .body
                .is_some_and(|body| has_word(words, body, reply.status == 200)),
            Self::NoJson => reply.body.is_none(),
            Self::All(conditions) => conditions.iter().all(|condition| condition.is_met(reply)),
        }
    }

    fn reads_body(&self) -> bool {
        match self {
            Self::Word(_) => true,
            Self::All(conditions) => conditions.iter().any(|it| it.path().is_some()),
            Self::Any | Self::Wait | Self::NoJson => false,
        }
    }
}

impl ReplyCondition {
    fn is_met(&self, reply: &ReplyFacts<'_>) -> bool {
        let at = |path: &Path| {
            reply
                .body
                .map_or_else(Vec::new, |body| path.all(body, &NoNames))
        };
        let is_one_of = |path: &Path, values: &[Value]| {
            at(path).into_iter().any(|found| values.contains(found))
        };
        match self {
            Self::Header(name, value) => reply
                .fields
                .get_all(name)
                .iter()
                .any(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes())),
            Self::Is(path, values) => is_one_of(path, values),
            // Without a body nothing is known about its values.
            Self::IsNot(path, values) => reply.body.is_some() && !is_one_of(path, values),
            Self::Present(path) => !at(path).is_empty(),
            Self::Absent(path) => reply.body.is_some() && at(path).is_empty(),
        }
    }
}

fn has_word(words: &[Cow<'static, str>], body: &Value, is_success: bool) -> bool {
    let is_word = |code: String| words.iter().any(|word| word.eq_ignore_ascii_case(&code));
    codes(body, is_success).any(is_word)
}

/// The codes of a body's failure. Other members of a success are data.
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

/// The HTTP status among the errors of a success.
fn said_status(body: &Value) -> Option<u16> {
    codes(body, true)
        .filter_map(|code| code.parse().ok())
        .find(|status| matches!(status, 400..=599))
}

fn wait_in(body: Option<&Value>) -> Option<Duration> {
    let mut places = PLACES.iter().filter_map(|place| body?.pointer(place));
    places.find_map(wait_at)
}

fn wait_at(place: &Value) -> Option<Duration> {
    let seconds = WAITS.iter().filter_map(|name| place.get(name)?.as_f64());
    let mut waits = seconds.filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok());
    waits.next().map(|wait| wait.min(LONGEST))
}

/// When calls are available again. `None` if some are left now: then another limit was meant.
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

    fn class(status: u16, headers: &RateHint, body: Option<&Value>) -> ReplyClass {
        read(
            &[],
            ReplyFacts {
                status,
                headers,
                fields: &HeaderMap::new(),
                body,
            },
        )
        .class
    }

    #[test]
    fn statuses_alone() {
        for (statuses, expected) in [
            (&[200][..], ReplyClass::Found),
            (&[420, 429, 509], ReplyClass::RateLimited),
            (
                &[408, 423, 425, 500, 502, 503, 504, 524, 599],
                ReplyClass::Unavailable,
            ),
            (&[401], ReplyClass::Unauthenticated),
            (&[403], ReplyClass::Forbidden),
            (
                &[
                    201, 202, 204, 206, 304, 400, 402, 404, 405, 410, 418, 451, 600, 999,
                ],
                ReplyClass::Bad,
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
            [ReplyClass::RateLimited; 2]
        );
        assert_eq!(class(403, &some_left, None), ReplyClass::Forbidden);
        assert_eq!(class(401, &named, None), ReplyClass::Unauthenticated);
        assert_eq!(class(200, &named, None), ReplyClass::Found);
    }

    #[test]
    fn the_words_of_crms_are_read_where_they_put_them() {
        for (status, body, expected) in [
            (
                403,
                json!([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": ""}]),
                ReplyClass::RateLimited,
            ),
            (
                403,
                json!([{"errorCode": "API_DISABLED_FOR_ORG", "message": ""}]),
                ReplyClass::Forbidden,
            ),
            (
                400,
                json!({"error": {"code": "SSS_REQUEST_LIMIT_EXCEEDED", "message": ""}}),
                ReplyClass::RateLimited,
            ),
            (
                400,
                json!({"code": "INVALID_QUERY", "status": "error"}),
                ReplyClass::Bad,
            ),
            (
                403,
                json!({"error": {"errors": [{"reason": "userRateLimitExceeded"}], "code": 403}}),
                ReplyClass::RateLimited,
            ),
            (
                403,
                json!({"error": {"errors": [{"reason": "insufficientPermissions"}]}}),
                ReplyClass::Forbidden,
            ),
            (
                503,
                json!({"error": "QUERY_LIMIT_EXCEEDED"}),
                ReplyClass::RateLimited,
            ),
            (
                503,
                json!({"error": {"code": "applicationThrottled"}}),
                ReplyClass::RateLimited,
            ),
            (
                503,
                json!({"error": {"code": "serviceUnavailable"}}),
                ReplyClass::Unavailable,
            ),
            (
                404,
                json!({"errorCode": "REQUEST_LIMIT_EXCEEDED"}),
                ReplyClass::Bad,
            ),
            (403, json!("REQUEST_LIMIT_EXCEEDED"), ReplyClass::Forbidden),
        ] {
            assert_eq!(
                class(status, &NOTHING, Some(&body)),
                expected,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn a_success_is_a_limit_by_its_errors_and_never_by_its_data() {
        for (status, body, expected) in [
            (
                200,
                json!({"error": {"code": "TOO_MANY_REQUESTS"}}),
                ReplyClass::RateLimited,
            ),
            (
                200,
                json!({"errors": [{"code": "rate_limit_exceeded"}]}),
                ReplyClass::RateLimited,
            ),
            // Data of a contact that happens to look like one.
            (
                200,
                json!({"data": [], "type": "RATE_LIMIT", "status": "429"}),
                ReplyClass::Found,
            ),
            (
                200,
                json!([{"status": "TOO_MANY_REQUESTS", "code": 429}]),
                ReplyClass::Found,
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
            (429, ReplyClass::RateLimited),
            (401, ReplyClass::Unauthenticated),
            (403, ReplyClass::Forbidden),
            (503, ReplyClass::Unavailable),
            (404, ReplyClass::Bad),
            (-1, ReplyClass::Found),
            (0, ReplyClass::Found),
            (200, ReplyClass::Found),
            (70_000, ReplyClass::Found),
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
            ReplyClass::RateLimited
        );
    }

    #[test]
    fn the_time_to_wait_is_what_the_crm_says_in_whatever_place() {
        let wait = |status, headers: &RateHint, body: Value| {
            read(
                &[],
                ReplyFacts {
                    status,
                    headers,
                    fields: &HeaderMap::new(),
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
    fn rules_of_a_profile_come_first() {
        let slow_down = vec![Cow::Owned("SLOW_DOWN".to_owned())];
        let own = [
            (477, ReplySign::Any, ReplyClass::Unavailable),
            (403, ReplySign::NoJson, ReplyClass::RateLimited),
            (
                404,
                ReplySign::Word(slow_down.into()),
                ReplyClass::RateLimited,
            ),
            (204, ReplySign::Any, ReplyClass::Nobody),
            (201, ReplySign::Any, ReplyClass::Found),
        ]
        .map(|(status, sign, class)| ReplyRule {
            statuses: vec![status..=status].into(),
            sign,
            class,
        });
        let read = |status, body: Option<&Value>| {
            read(
                &own,
                ReplyFacts {
                    status,
                    headers: &NOTHING,
                    fields: &HeaderMap::new(),
                    body,
                },
            )
            .class
        };
        assert_eq!(
            [read(477, None), read(403, None), read(404, None)],
            [
                ReplyClass::Unavailable,
                ReplyClass::RateLimited,
                ReplyClass::Bad
            ]
        );
        assert_eq!(read(403, Some(&json!({}))), ReplyClass::Forbidden);
        assert_eq!(
            read(404, Some(&json!({"code": "slow_down"}))),
            ReplyClass::RateLimited
        );
        assert_eq!(read(204, None), ReplyClass::Nobody);
        assert!(may_be_found(&own, 201) && may_be_found(&[], 200) && !may_be_found(&[], 201));
        assert!(
            needs_body(&own, 404)
                && needs_body(&own, 429)
                && !needs_body(&[], 404)
                && !needs_body(&own, 500)
        );
    }
}
