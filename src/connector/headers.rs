//! What CRMs say in their reply headers: about time, the quota, and the encoding of the body.

use std::time::{Duration, UNIX_EPOCH};

use encoding_rs::Encoding;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};

use crate::budget::RateHint;
use crate::domain::Timestamp;

/// Longest wait that is believed. A CRM that asks for more is asked again after a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds or an HTTP date. A date that has passed is zero; a value that is
/// neither is `None`.
#[must_use]
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let at = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(Duration::from_millis(now.0)).min(LONGEST))
}

/// Reads `x-ratelimit-reset`: seconds from now (Pipedrive) or a Unix time in seconds (Clio). They are told apart by
/// size, since no CRM asks for thirty years.
#[must_use]
pub fn reset_after(value: &str, now: Timestamp) -> Option<Duration> {
    const EARLIEST_UNIX_TIME: u64 = 1_000_000_000;
    let number: u64 = value.trim().parse().ok()?;
    let wait = if number < EARLIEST_UNIX_TIME {
        Duration::from_secs(number)
    } else {
        Duration::from_secs(number).saturating_sub(Duration::from_millis(now.0))
    };
    Some(wait.min(LONGEST))
}

/// What the headers of a reply say about the quota.
#[must_use]
pub fn rate_hint(status: u16, headers: &HeaderMap, now: Timestamp) -> RateHint {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let number = |name: &str| text(name)?.trim().parse().ok();
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
    // Some CRMs refuse by 403 what is too much; then they say when to come back. (That nothing is left is said with the
    // last call too, whatever its reply.)
    let is_limit = status == 429 || (status == 403 && retry_after.is_some());
    RateHint {
        refused: is_limit,
        retry_after,
        remaining: number("x-ratelimit-remaining"),
        limit: number("x-ratelimit-limit"),
        reset_after: text("x-ratelimit-reset").and_then(|value| reset_after(value, now)),
    }
}

/// The encoding that `Content-Type` declares for the body.
#[must_use]
pub fn encoding(headers: &HeaderMap) -> Option<&'static Encoding> {
    let parameters = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').skip(1);
    let named = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| Encoding::for_label(value.trim().trim_matches(['"', '\'']).as_bytes()))
    };
    parameters.into_iter().find_map(named).flatten()
}

#[cfg(test)]
mod tests {
    use encoding_rs::{UTF_8, WINDOWS_1252};
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const NOW: Timestamp = Timestamp(784_111_777_000);

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        for (value, seconds) in [
            ("0", Some(0)),
            (" 30 ", Some(30)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:47 1994", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("99999999", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, NOW), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn resets_are_read_as_seconds_and_as_a_unix_time() {
        // 2026-01-01T00:00:00Z
        let now = Timestamp(1_767_225_600_000);
        for (value, seconds) in [
            ("0", Some(0)),
            ("2", Some(2)),
            ("1767225630", Some(30)),
            ("1767225500", Some(0)),
            ("99999999999", Some(86_400)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(reset_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn a_403_is_a_limit_if_it_says_so() {
        let hint = |status, name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            rate_hint(status, &headers, NOW).refused
        };
        assert!(hint(429, "x-other", "1") && hint(403, "retry-after", "2"));
        assert!(
            !hint(403, "x-ratelimit-remaining", "0") && !hint(403, "x-other", "1") && !hint(200, "retry-after", "2")
        );
    }

    #[test]
    fn the_declared_encoding_is_read() {
        for (value, expected) in [
            ("application/json", None),
            ("application/json; charset=utf-8", Some(UTF_8)),
            ("application/json;charset=ISO-8859-1", Some(WINDOWS_1252)),
            ("application/json; charset=\"latin1\"", Some(WINDOWS_1252)),
            ("application/json; a=b; Charset = windows-1252 ", Some(WINDOWS_1252)),
            ("application/json; charset=klingon", None),
            ("application/json; charset", None),
            ("charset=latin1", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(encoding(&headers), expected, "{value}");
        }
        assert_eq!(encoding(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(value in "\\PC{0,40}") {
            let _ = (retry_after(&value, NOW), reset_after(&value, NOW));
        }
    }
}
