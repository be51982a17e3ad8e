//! The query of a URL.

use http::Uri;

use crate::api::Violation;

/// The parameters of a query, decoded, in their order; and the first one that is not UTF-8.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    fault: Option<Violation>,
}

impl Query {
    /// The query of this URL. A `+` is a space, as forms write it.
    pub(super) fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self {
            pairs: pairs(query),
            fault: not_text(query),
        }
    }

    /// The same, but the parameter with this name is a telephone number: a `+` at its beginning, or
    /// behind `tel:`, stays what it is.
    pub(super) fn with_number(uri: &Uri, parameter: &str) -> Self {
        let query = uri.query().unwrap_or_default();
        let kept = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, number)) if name == parameter => format!("{name}={}", plus_kept(number)),
            _ => pair.to_owned(),
        });
        // The number's parameter need not be UTF-8: a display name may be in any encoding, and does
        // not change the number.
        let others = query
            .split('&')
            .filter(|pair| pair.split('=').next() != Some(parameter));
        let fault = not_text(&others.collect::<Vec<_>>().join("&"));
        Self {
            pairs: pairs(&kept.collect::<Vec<_>>().join("&")),
            fault,
        }
    }

    /// # Errors
    /// If a parameter is not UTF-8.
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Takes a parameter that may be given once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, Violation> {
        let mut values = self.take_all(name);
        let first = values.pop();
        if values.is_empty() {
            Ok(first)
        } else {
            Err(Violation::new(name, "is given twice"))
        }
    }

    /// Takes a parameter that may be given several times.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        let taken = self.pairs.extract_if(.., |(given, _)| given == name);
        taken.map(|(_, value)| value).collect()
    }

    /// Whether all parameters were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// The number with the `+` at its beginning encoded, also in an address after a display name. A
/// query would turn it into a space, but no spelling of a number begins with one.
fn plus_kept(number: &str) -> String {
    let begins = |before: &str| {
        let before = before.to_ascii_lowercase();
        before.is_empty()
            || [":", "%3a", "<", "%3c"]
                .iter()
                .any(|end| before.ends_with(end))
    };
    let mut kept = String::with_capacity(number.len());
    for (n, part) in number.split('+').enumerate() {
        if n > 0 {
            kept.push_str(if begins(&kept) { "%2B" } else { "+" });
        }
        kept.push_str(part);
    }
    kept
}

/// The fault of a query with bytes that are not UTF-8: their replacement could make two different
/// texts equal. It does not show the parameter's name, which may be anything.
fn not_text(query: &str) -> Option<Violation> {
    const REPLACEMENT: char = '\u{fffd}';
    let sent = query.to_ascii_lowercase().matches("%ef%bf%bd").count()
        + query.matches(REPLACEMENT).count();
    let decoded = pairs(query).into_iter();
    let decoded = decoded.map(|(name, value)| [name, value].concat());
    let found: usize = decoded.map(|text| text.matches(REPLACEMENT).count()).sum();
    let fault = || Violation::new("the query", "has a parameter with bytes that are not UTF-8");
    (found != sent).then(fault)
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.into_owned().collect()
}

/// Each parameter of any query can be taken exactly once.
#[cfg(any(test, fuzzing))]
pub(crate) fn query_is_sound(bytes: &[u8]) {
    let Ok(uri) = [&b"/v1/name?"[..], bytes].concat().as_slice().try_into() else {
        return;
    };
    let uri: Uri = uri;
    for mut query in [Query::of(&uri), Query::with_number(&uri, "number")] {
        let given = query.pairs.len();
        assert!(given <= bytes.len() + 1);
        let names: Vec<String> = query.pairs.iter().map(|(name, _)| name.clone()).collect();
        let taken = names.iter().map(|name| query.take_all(name).len());
        assert_eq!(taken.sum::<usize>(), given);
        assert!(query.is_empty());
    }
    let _ = super::envelope::opened(&bytes::Bytes::copy_from_slice(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_before_a_number_is_kept_however_it_was_written() {
        for (written, number) in [
            ("+16505551234", "+16505551234"),
            ("%2B16505551234", "+16505551234"),
            ("%2B1+650+555+1234", "+1 650 555 1234"),
            ("+1+650+555+1234", "+1 650 555 1234"),
            ("tel:+16505551234", "tel:+16505551234"),
            ("sip%3A+16505551234%40x", "sip:+16505551234@x"),
            ("(650)+555-1234", "(650) 555-1234"),
            (
                "%22Al%22+%3Csip:+16505551234%3E",
                "\"Al\" <sip:+16505551234>",
            ),
            ("Al+%3C+16505551234%3E", "Al <+16505551234>"),
            ("650%20555%201234", "650 555 1234"),
            ("", ""),
        ] {
            let uri = format!("/v1/name?user=a+b&number={written}&format=1&format=2&number2=+");
            let mut query = Query::with_number(&uri.parse().unwrap(), "number");
            assert_eq!(query.take("number").unwrap().unwrap(), number);
            assert_eq!(query.take("user").unwrap().unwrap(), "a b");
            assert_eq!(query.take("absent").unwrap(), None);
            assert!(query.take_all("format") == ["1", "2"] && !query.is_empty());
            assert_eq!(query.take("number2").unwrap().unwrap(), " ");
            assert!(query.is_empty());
        }
        for (query, is_text) in [
            ("user=J%C3%B6rg&number=1", true),
            ("user=%EF%BF%BD", true),
            ("user=J%F6rg", false),
            ("user=J%E4rg%ef%bf%bd", false),
            ("%FFuser=1", false),
        ] {
            let uri = format!("/v1/name?{query}").parse().unwrap();
            assert_eq!(Query::of(&uri).check().is_ok(), is_text, "{query}");
        }
        let latin = "/v1/name?number=%22J%F6rg%22+%3Csip:1@x%3E&user=a"
            .parse()
            .unwrap();
        assert!(Query::with_number(&latin, "number").check().is_ok());
        let uri = "/v1/name?number=1&number=2".parse().unwrap();
        assert!(Query::of(&uri).take("number").is_err());
    }
}
