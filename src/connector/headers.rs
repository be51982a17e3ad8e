//! What the headers of a CRM's reply report: times, quota, and the encoding of the body.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use encoding_rs::Encoding;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, LINK, RETRY_AFTER};

use crate::budget::RateHint;
use crate::domain::Timestamp;

/// The longest wait that is accepted. A longer one counts as this.
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);

/// Prefixes of the quota headers: of most CRMs, of the IETF's draft and Zendesk, Zendesk's older
/// ones, HubSpot's.
const FAMILIES: [&str; 4] = [
    "x-ratelimit-",
    "ratelimit-",
    "x-rate-limit-",
    "x-hubspot-ratelimit-",
];

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds, an HTTP date, or other forms that CRMs send
/// (see [`wait`]). A past date is zero. `None` if the value has no known form.
#[must_use]
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    wait(value, now).or_else(|| wait_until(value, now))
}

/// The time until an HTTP date.
fn wait_until(date: &str, now: Timestamp) -> Option<Duration> {
    let at = httpdate::parse_http_date(date.trim()).ok()?;
    let at = at.duration_since(UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(Duration::from_millis(now.0)).min(LONGEST))
}

/// Reads a number that denotes a moment: seconds from now (Pipedrive), milliseconds from now, a
/// Unix time in seconds (Clio), or a Unix time in milliseconds (HubSpot, Keap), microseconds or
/// nanoseconds. The size of the number shows which it is, because no CRM asks for more than a day
/// or for a time before 2001. A past time is zero.
#[must_use]
pub(crate) fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    const MILLIS: f64 = 1e3;
    let value = value.trim();
    let is_decimal = value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = value.parse().ok().filter(|_| is_decimal)?;
    let now = Duration::from_millis(now.0).as_secs_f64();
    let seconds = match number {
        ..=86_400.0 => number,
        ..1e9 => number / MILLIS,
        ..1e11 => number - now,
        ..1e14 => number / MILLIS - now,
        ..1e17 => number / MILLIS / MILLIS - now,
        _ => number / MILLIS / MILLIS / MILLIS - now,
    };
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).map_or(LONGEST, |wait| wait.min(LONGEST)))
}

/// The names of the headers in which a CRM reports its quota, if they are not the usual ones. They
/// are checked first.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateSignals {
    /// Remaining calls.
    pub(crate) remaining: Option<HeaderName>,
    /// Calls allowed in a window.
    pub(crate) limit: Option<HeaderName>,
    /// When calls are available again, as [`wait`] reads it.
    pub(crate) reset: Option<HeaderName>,
}

/// The quota as the reply's headers report it. This does not decide whether the reply is a refusal,
/// or whether its `Retry-After` is about the quota.
#[must_use]
pub(crate) fn rate_hint(headers: &HeaderMap, own: &RateSignals, now: Timestamp) -> RateHint {
    let text = |own: &Option<HeaderName>, usual| {
        let named = own.as_ref().map(HeaderName::as_str);
        let named = named.and_then(|name| text_of(headers, name));
        named.or_else(|| usual_text(headers, usual))
    };
    let again = text_of(headers, RETRY_AFTER.as_str());
    let limit = text(&own.limit, ["limit", "limit"]).and_then(number);
    let max = || usual_text(headers, ["max", ""]).and_then(number);
    let reset = text(&own.reset, ["reset", "t"]).and_then(|text| wait(text, now));
    RateHint {
        refused: false,
        retry_after: again.and_then(|text| retry_after(text, now)),
        remaining: text(&own.remaining, ["remaining", "r"]).and_then(number),
        limit: limit.or_else(max),
        reset_after: reset.or_else(|| interval(headers)),
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn interval(headers: &HeaderMap) -> Option<Duration> {
    let millis = usual_text(headers, ["interval-milliseconds", ""]).and_then(number)?;
    Some(Duration::from_millis(millis))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The value of a header of any family, or else of a parameter of `RateLimit`, the single header in
/// the IETF's draft. The parameter is called as in an older draft (Close), or by one letter.
fn usual_text<'a>(headers: &'a HeaderMap, [name, letter]: [&str; 2]) -> Option<&'a str> {
    let of_family = |family: &&str| text_of(headers, &format!("{family}{name}"));
    let own_header = FAMILIES.iter().find_map(of_family);
    own_header.or_else(|| parameter(text_of(headers, "ratelimit")?, [name, letter]))
}

/// The value of the first parameter with one of these names.
fn parameter<'a>(header: &'a str, names: [&str; 2]) -> Option<&'a str> {
    let parameters = header.split([',', ';']);
    let mut pairs = parameters.filter_map(|parameter| parameter.split_once('='));
    pairs.find_map(|(key, value)| names.contains(&key.trim()).then(|| value.trim()))
}

/// The target of the link with `rel="next"` (RFC 8288).
#[must_use]
pub(crate) fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter();
    let links = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(",<").flat_map(|part| part.split(", <")));
    links.into_iter().find_map(target_if_next)
}

fn target_if_next(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().trim_start_matches('<').split_once('>')?;
    let mut parameters = parameters.split(';');
    parameters.any(is_next).then(|| target.to_owned())
}

fn is_next(parameter: &str) -> bool {
    let parameter = parameter.trim().to_ascii_lowercase();
    matches!(parameter.as_str(), "rel=\"next\"" | "rel=next")
}

/// The encoding that `Content-Type` declares for the body.
#[must_use]
pub(crate) fn encoding(headers: &HeaderMap) -> Option<&'static Encoding> {
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
    fn the_next_page_is_the_link_with_that_relation() {
        for (value, expected) in [
            (
                "<https://a.example/x?page=2>; rel=\"next\"",
                Some("https://a.example/x?page=2"),
            ),
            (
                "</1>; rel=\"prev\", </3>; rel=next; title=\"a\"",
                Some("/3"),
            ),
            ("</1>; rel=\"prev\"", None),
            ("nonsense", None),
        ] {
            let headers = HeaderMap::from_iter([(LINK, value.parse().unwrap())]);
            assert_eq!(next_link(&headers).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        for (value, seconds) in [
            ("0", Some(0.0)),
            (" 30 ", Some(30.0)),
            ("1.5", Some(1.5)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10.0)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10.0)),
            ("Sun Nov  6 08:49:47 1994", Some(10.0)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0.0)),
            ("99999999", Some(86_400.0)),
            ("99999999999999999999999", Some(86_400.0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(86_400.0)),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("1e3", None),
            ("inf", None),
            ("soon", None),
        ] {
            assert_eq!(
                retry_after(value, NOW),
                seconds.map(Duration::from_secs_f64),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_number_that_says_when_is_read_by_its_size() {
        // 2026-01-01T00:00:00Z
        let now = Timestamp(1_767_225_600_000);
        for (value, seconds) in [
            ("0", Some(0)),
            ("2", Some(2)),
            ("86400", Some(86_400)),
            ("120000", Some(120)),
            ("1767225630", Some(30)),
            ("1767225500", Some(0)),
            ("1767225630000", Some(30)),
            ("1767225500000", Some(0)),
            ("1767225630000000", Some(30)),
            ("1767225630000000000", Some(30)),
            ("99999999999", Some(86_400)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let read = wait(value, now).map(|wait| wait.as_secs());
            assert_eq!(read, seconds, "{value:?}");
        }
    }

    #[test]
    fn what_crms_say_of_the_quota_is_read_in_all_their_forms() {
        let hint = |headers: &[(&'static str, &str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let hint = rate_hint(
                &headers.collect::<HeaderMap>(),
                &RateSignals::default(),
                NOW,
            );
            (
                hint.remaining,
                hint.limit,
                hint.reset_after.map(|wait| wait.as_millis()),
            )
        };
        let all = (Some(3), Some(40), Some(2_000));
        for headers in [
            &[
                ("x-ratelimit-remaining", "3"),
                ("x-ratelimit-limit", "40"),
                ("x-ratelimit-reset", "2"),
            ][..],
            &[
                ("ratelimit-remaining", "3"),
                ("ratelimit-limit", " 40"),
                ("ratelimit-reset", "2"),
            ],
            &[
                ("x-rate-limit-remaining", "3"),
                ("x-rate-limit-limit", "40"),
                ("x-rate-limit-reset", "2"),
            ],
            &[
                ("x-hubspot-ratelimit-remaining", "3"),
                ("x-hubspot-ratelimit-max", "40"),
                ("x-hubspot-ratelimit-interval-milliseconds", "2000"),
            ],
            &[("ratelimit", "limit=40, remaining=3, reset=2")],
        ] {
            assert_eq!(hint(headers), all, "{headers:?}");
        }
        assert_eq!(
            hint(&[("ratelimit", "limit=240, remaining=0, reset=0.25")]),
            (Some(0), Some(240), Some(250))
        );
        assert_eq!(
            hint(&[("ratelimit", "\"default\";r=50;t=30")]),
            (Some(50), None, Some(30_000))
        );
        assert_eq!(
            hint(&[("x-ratelimit-remaining", "10000|250000"), ("x-other", "1")]),
            (None, None, None)
        );
    }

    #[test]
    fn headers_that_a_profile_names_come_before_the_usual_ones() {
        let own = RateSignals {
            remaining: Some(HeaderName::from_static("calls-left")),
            limit: None,
            reset: Some(HeaderName::from_static("calls-back")),
        };
        let hint = |headers: &[(&'static str, &str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let hint = rate_hint(&headers.collect::<HeaderMap>(), &own, NOW);
            (hint.remaining, hint.limit, hint.reset_after)
        };
        let second = Some(Duration::from_secs(1));
        let usual = [("x-ratelimit-remaining", "3"), ("x-ratelimit-limit", "9")];
        assert_eq!(hint(&usual), (Some(3), Some(9), None));
        let both = [&usual[..], &[("calls-left", "0"), ("calls-back", "1")]].concat();
        assert_eq!(hint(&both), (Some(0), Some(9), second));
    }

    #[test]
    fn the_declared_encoding_is_read() {
        for (value, expected) in [
            ("application/json", None),
            ("application/json; charset=utf-8", Some(UTF_8)),
            ("application/json;charset=ISO-8859-1", Some(WINDOWS_1252)),
            ("application/json; charset=\"latin1\"", Some(WINDOWS_1252)),
            (
                "application/json; a=b; Charset = windows-1252 ",
                Some(WINDOWS_1252),
            ),
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
            let _ = (retry_after(&value, NOW), wait(&value, NOW));
        }
    }
}
