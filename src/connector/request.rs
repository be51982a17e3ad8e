//! A request to a CRM, before it has an address and a credential.
//!
//! Defines what a connector can send. A request only reads: it is a GET, or a POST to a path that
//! the connector's profile declares to be a read ([`ReadByPost`]). Texts are encoded when the
//! session builds the URL.

use std::fmt;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::{Url, form_urlencoded};

/// What people see in place of a value of a path.
const VALUE: &str = "{…}";

/// What people see in place of a path that came from the CRM (a link, a redirect).
pub(super) const NAMED_BY_THE_CRM: &str = "/{…}";

/// How a CRM is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadMethod {
    /// GET.
    Get,
    /// A POST that creates and changes nothing: its body is a query.
    ReadByPost,
}

impl ReadMethod {
    /// The method on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::ReadByPost => "POST",
        }
    }
}

/// A path whose POST only reads, according to the CRM's documentation. `None` is any segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadByPost(pub(super) Vec<Option<String>>);

impl ReadByPost {
    /// Returns whether it is for this path.
    pub(super) fn is(&self, path: &[String]) -> bool {
        let mut both = self.0.iter().zip(path);
        self.0.len() == path.len()
            && both.all(|(declared, segment)| declared.as_ref().is_none_or(|it| it == segment))
    }
}

/// The body of a POST, or of a GET of App Connect.
#[derive(Clone)]
pub(crate) enum RequestBody {
    Json(Value),
    /// `application/x-www-form-urlencoded`
    Form(Vec<(String, String)>),
}

impl RequestBody {
    pub(super) fn media_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Form(_) => "application/x-www-form-urlencoded",
        }
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Json(body) => body.to_string().into(),
            Self::Form(fields) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(fields).finish().into()
            }
        }
    }
}

/// Parameters as axios encodes them: like `encodeURIComponent` of JavaScript, with a plus sign for
/// a space, and `:`, `$` and `,` as they are.
pub(super) fn axios_query(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(axios_pair).collect();
    pairs.join("&")
}

fn axios_pair((name, value): &(String, String)) -> String {
    format!("{}={}", axios_text(name), axios_text(value))
}

fn is_kept_by_axios(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'():$,".contains(&byte)
}

fn axios_text(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_kept_by_axios(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(form_urlencoded::byte_serialize(&[byte]));
        }
    }
    encoded
}

/// A request for `base/path?query`.
#[derive(Clone)]
pub(crate) struct Request {
    method: ReadMethod,
    path: Vec<String>,
    /// Which of its segments are words of the connector, and not values: a bit for each of the
    /// first 32.
    fixed: u32,
    /// Whether the path ends with a slash: to some CRMs that is another path.
    ends_with_slash: bool,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Option<RequestBody>,
    /// Whether parameters are encoded as axios does it.
    as_axios: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// A GET of these path segments with these parameters.
    pub(crate) fn get(path: &[&str], query: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            method: ReadMethod::Get,
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            fixed: bits(path.iter().map(|_| true)),
            ends_with_slash: false,
            query: query.iter().map(owned).collect(),
            headers: HeaderMap::new(),
            body: None,
            as_axios: false,
        }
    }

    /// The same request with this parameter, replacing any other value of it.
    #[must_use]
    pub(super) fn with_parameter(mut self, name: &str, value: String) -> Self {
        match self.query.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.query.push((name.to_owned(), value)),
        }
        self
    }

    pub(super) fn method(&self) -> ReadMethod {
        self.method
    }

    pub(super) fn path(&self) -> &[String] {
        &self.path
    }

    pub(super) fn query(&self) -> &[(String, String)] {
        &self.query
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(super) fn body(&self) -> Option<&RequestBody> {
        self.body.as_ref()
    }

    /// The path if the method is POST.
    pub(super) fn read_by_post_path(&self) -> Option<&[String]> {
        (self.method == ReadMethod::ReadByPost).then_some(&self.path)
    }
}

impl Request {
    /// A GET, or a POST of `body` that only reads, of these path segments.
    pub(super) fn of(
        method: ReadMethod,
        path: Vec<String>,
        query: Vec<(String, String)>,
        body: Option<RequestBody>,
    ) -> Self {
        Self {
            method,
            fixed: 0,
            path,
            ends_with_slash: false,
            query,
            headers: HeaderMap::new(),
            body,
            as_axios: false,
        }
    }

    /// The same request. People are shown only these segments of its path.
    #[must_use]
    pub(super) fn showing(self, fixed: impl IntoIterator<Item = bool>) -> Self {
        Self {
            fixed: bits(fixed),
            ..self
        }
    }

    /// The same request. This segment of its path is a value, which people are not shown.
    #[must_use]
    pub(super) fn with_value_at(mut self, segment: usize) -> Self {
        self.fixed &= !bit(segment);
        self
    }

    /// The path after the base address, for people: without values.
    pub(super) fn shown_path(&self) -> String {
        let mut shown = String::new();
        for (n, segment) in self.path.iter().enumerate() {
            let is_fixed = self.fixed & bit(n) != 0;
            shown.push('/');
            shown.push_str(if is_fixed { segment } else { VALUE });
        }
        if self.ends_with_slash || shown.is_empty() {
            shown.push('/');
        }
        shown
    }

    /// The same request, with parameters as App Connect's HTTP client encodes them.
    #[must_use]
    pub(super) fn for_app_connect(self) -> Self {
        Self {
            as_axios: true,
            ..self
        }
    }

    /// The same request, with a slash at the end of its path.
    #[must_use]
    pub(super) fn with_final_slash(self) -> Self {
        Self {
            ends_with_slash: true,
            ..self
        }
    }

    /// Adds path and parameters to a base address. `None` if it cannot have a path.
    pub(super) fn add_to(&self, base: &mut Url) -> Option<()> {
        let end = self.ends_with_slash.then_some("");
        let path = self.path.iter().map(String::as_str).chain(end);
        base.path_segments_mut().ok()?.pop_if_empty().extend(path);
        match (self.query.is_empty(), self.as_axios) {
            (true, _) => {}
            (false, true) => base.set_query(Some(&axios_query(&self.query))),
            (false, false) => {
                base.query_pairs_mut().extend_pairs(&self.query);
            }
        }
        Some(())
    }

    /// The same request with this header. The credential's headers are added later and replace it.
    /// The body's `Content-Type` does not replace it.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The body, if it is JSON.
    pub(super) fn json(&self) -> Option<&Value> {
        match &self.body {
            Some(RequestBody::Json(body)) => Some(body),
            Some(RequestBody::Form(_)) | None => None,
        }
    }

    /// A member of a JSON body.
    pub(super) fn member(&self, keys: &[String]) -> Option<&Value> {
        keys.iter()
            .try_fold(self.json()?, |value, key| value.get(key))
    }

    /// The same request with this member of its JSON body.
    #[must_use]
    pub(super) fn with_member(mut self, keys: &[String], value: Value) -> Self {
        let Some(RequestBody::Json(body)) = &mut self.body else {
            return self;
        };
        let mut place = body;
        for key in keys {
            if place.is_null() {
                *place = Value::Object(serde_json::Map::new());
            }
            let Value::Object(members) = place else {
                // Something else stands there, which must stay.
                return self;
            };
            place = members.entry(key.as_str()).or_insert(Value::Null);
        }
        *place = value;
        self
    }
}

/// The bit of the segment at this position; 0 if the position is above 31.
fn bit(segment: usize) -> u32 {
    let position = u32::try_from(segment).unwrap_or(u32::MAX);
    1_u32.checked_shl(position).unwrap_or(0)
}

/// The bits of the segments that are true.
fn bits(segments: impl IntoIterator<Item = bool>) -> u32 {
    let set = segments
        .into_iter()
        .enumerate()
        .filter(|(_, is_set)| *is_set);
    set.fold(0, |bits, (n, _)| bits | bit(n))
}

#[cfg(test)]
impl ReadByPost {
    /// Declares that a POST to these path segments only reads.
    pub(crate) fn declare(path: &[&str]) -> Self {
        Self(
            path.iter()
                .map(|segment| Some((*segment).to_owned()))
                .collect(),
        )
    }
}

#[cfg(test)]
impl Request {
    /// A POST of `body` that only reads.
    pub(crate) fn read_by_post(read: &ReadByPost, body: Value) -> Self {
        let path = read.0.iter().flatten().cloned().collect();
        let body = Some(RequestBody::Json(body));
        Self::of(ReadMethod::ReadByPost, path, Vec::new(), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_the_words_of_a_path_and_none_of_its_values() {
        let of = |path: &[&str]| {
            let path = path.iter().map(|segment| (*segment).to_owned()).collect();
            Request::of(ReadMethod::Get, path, Vec::new(), None)
        };
        for (request, shown) in [
            (Request::get(&["v1", "me"], &[("q", "x")]), "/v1/me"),
            (
                Request::get(&["contacts", "17", "deals"], &[]).with_value_at(1),
                "/contacts/{…}/deals",
            ),
            (Request::get(&["me"], &[]).with_value_at(3), "/me"),
            (of(&["by", "+16505551234"]), "/{…}/{…}"),
            (
                of(&["by", "+16505551234"])
                    .showing([true, false])
                    .with_final_slash(),
                "/by/{…}/",
            ),
            (of(&["a", "b"]).showing([true]), "/a/{…}"),
            (of(&[]), "/"),
        ] {
            assert_eq!(request.shown_path(), shown);
        }
    }

    #[test]
    fn a_path_may_end_with_a_slash_and_parameters_are_encoded_in_two_ways() {
        let request = Request::get(&["a b", "c/d"], &[("q", "x:$ +'"), ("r", "")]);
        for (base, request, expected) in [
            (
                "https://h.example/",
                request.clone(),
                "/a%20b/c%2Fd?q=x%3A%24+%2B%27&r=",
            ),
            (
                "https://h.example/v1/",
                request.clone().with_final_slash(),
                "/v1/a%20b/c%2Fd/?q=x%3A%24+%2B%27&r=",
            ),
            (
                "https://h.example/v1",
                request.for_app_connect(),
                "/v1/a%20b/c%2Fd?q=x:$+%2B%27&r=",
            ),
            ("https://h.example/v1", Request::get(&[], &[]), "/v1"),
            (
                "https://h.example/v1",
                Request::get(&[], &[]).with_final_slash(),
                "/v1/",
            ),
        ] {
            let mut url = Url::parse(base).unwrap();
            request.add_to(&mut url).unwrap();
            assert_eq!(url.as_str(), format!("https://h.example{expected}"));
        }
    }
}
