//! A request to a CRM, before it has an address and a credential.
//!
//! Defines what a connector can send. A request only reads: it is a GET, or a POST to a path that
//! the connector's profile declares to be a read ([`ReadByPost`]). Texts are encoded when the
//! session builds the URL.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// How a CRM is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET.
    Get,
    /// A POST that creates and changes nothing: its body is a query.
    ReadByPost,
}

/// A path whose POST only reads, according to the CRM's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadByPost(Vec<String>);

impl ReadByPost {
    /// Returns whether it is for this path.
    pub(super) fn is(&self, path: &[String]) -> bool {
        self.0 == path
    }
}

/// A request for `base/path?query`.
#[derive(Clone)]
pub(crate) struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Option<Value>,
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
            method: Method::Get,
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query: query.iter().map(owned).collect(),
            headers: HeaderMap::new(),
            body: None,
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

    pub(super) fn method(&self) -> Method {
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

    pub(super) fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    /// The path if the method is POST.
    pub(super) fn read_by_post_path(&self) -> Option<&[String]> {
        (self.method == Method::ReadByPost).then_some(&self.path)
    }
}

#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "no built-in CRM needs a POST or a header of its own"
    )
)]
impl ReadByPost {
    /// Declares that a POST to these path segments only reads.
    pub(crate) fn declare(path: &[&str]) -> Self {
        Self(path.iter().map(|segment| (*segment).to_owned()).collect())
    }
}

#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "no built-in CRM needs a POST or a header of its own"
    )
)]
impl Request {
    /// A POST of `body` that only reads.
    pub(crate) fn read_by_post(read: &ReadByPost, body: Value) -> Self {
        Self {
            method: Method::ReadByPost,
            path: read.0.clone(),
            body: Some(body),
            ..Self::get(&[], &[])
        }
    }

    /// The same request with this header. The credential's headers and those of the body are added
    /// later and replace it.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}
