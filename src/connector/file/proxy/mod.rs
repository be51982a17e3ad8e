//! A request as App Connect's `proxyConfig` states it.
//!
//! Its rules differ from those of our own language: a missing value is empty instead of preventing
//! the request, every request has a JSON body, and parameters are encoded as axios does it. The
//! differences stay in here; the rest of the module sees a request like any other.

use http::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::fill::SlotScope;
use crate::connector::request::{ReadMethod, Request, RequestBody};

pub(super) mod parameters;
pub(super) mod template;
pub(super) mod variables;

use parameters::pairs;
use template::{ProxyNode, ProxyTemplate, script_text};

/// A request with templates.
#[derive(Debug, Clone)]
pub(super) struct ProxyRequest {
    pub(super) method: ReadMethod,
    pub(super) url: ProxyUrl,
    pub(super) query: ProxyNode,
    pub(super) headers: Vec<(HeaderName, ProxyNode)>,
    pub(super) body: ProxyNode,
    /// Whether the body is sent as a form.
    pub(super) is_form: bool,
    pub(super) reads: ProxyReads,
}

/// The part of a URL after the base.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxyUrl {
    /// The path's segments.
    pub(super) path: Vec<ProxyTemplate>,
    /// Whether the path ends with a slash.
    pub(super) ends_in_slash: bool,
    /// Parameters in the URL itself: names and values.
    pub(super) query: Vec<(ProxyTemplate, ProxyTemplate)>,
}

/// What templates read besides the number.
#[derive(Debug, Clone, Default)]
pub(super) struct ProxyReads {
    /// The fields of `platformAdditionalInfo`.
    pub(super) info: Vec<String>,
    /// Whether they read the host that the user names.
    pub(super) host: bool,
    /// The caller's credential outside of its own headers, in the order in which the session shows
    /// it.
    pub(super) credential: Vec<CredentialVariable>,
    /// The configuration's `secretKey`.
    pub(super) secret: Option<SecretString>,
}

/// A part of the caller's credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialVariable {
    Key,
    Header,
}

impl CredentialVariable {
    fn name(self) -> &'static str {
        match self {
            Self::Key => "apiKey",
            Self::Header => "authHeader",
        }
    }
}

impl ProxyReads {
    fn variables(&self, scope: &SlotScope<'_>) -> Value {
        let parts = self.credential.iter().zip(scope.credential);
        let parts = parts.map(|(part, value)| (part.name(), value));
        let secret = self.secret.iter().map(|secret| ("secretKey", secret));
        let exposed =
            |(name, value): (&str, &SecretString)| (name.to_owned(), value.expose_secret().into());
        let credentials = parts.chain(secret).map(exposed);
        variables::tree(scope, &self.info, credentials.collect())
    }
}

impl ProxyRequest {
    /// The request for these values.
    pub(super) fn render(&self, scope: &SlotScope<'_>) -> Request {
        let variables = self.reads.variables(scope);
        let path = self.url.path.iter();
        let path = path.map(|segment| without_controls(&segment.text(&variables)));
        let (path, parameters) = (path.collect(), self.parameters(&variables));
        let body = Some(self.body_of(&variables));
        let request = Request::of(self.method, path, parameters, body).for_app_connect();
        let request = if self.url.ends_in_slash {
            request.with_final_slash()
        } else {
            request
        };
        self.headers.iter().fold(request, |request, (name, node)| {
            match header_value(node, &variables) {
                Some(value) => request.with_header(name.clone(), value),
                None => request,
            }
        })
    }

    /// The parameters of the URL, and then those of `query`.
    fn parameters(&self, variables: &Value) -> Vec<(String, String)> {
        let query = self.query.value(variables).unwrap_or_default();
        let mut parameters = self.url.parameters(variables);
        parameters.extend(pairs(&query));
        parameters
    }

    fn body_of(&self, variables: &Value) -> RequestBody {
        let body = self.body.value(variables).unwrap_or_else(|| json!({}));
        if self.is_form {
            RequestBody::Form(pairs(&body))
        } else {
            RequestBody::Json(body)
        }
    }
}

/// The value of a header, if axios sends it.
fn header_value(node: &ProxyNode, variables: &Value) -> Option<HeaderValue> {
    let value = node.value(variables).filter(is_sent)?;
    let text = without_controls(&script_text(&value));
    HeaderValue::from_bytes(text.trim().as_bytes()).ok()
}

/// Paths and headers end at such characters, or lose them.
fn without_controls(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Whether axios sends a header with this value.
fn is_sent(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

impl ProxyUrl {
    fn parameters(&self, variables: &Value) -> Vec<(String, String)> {
        let pairs = self.query.iter();
        let texts = pairs.map(|(name, value)| (name.text(variables), value.text(variables)));
        texts.collect()
    }

    /// The form of its paths: `None` is a segment with a slot.
    pub(super) fn form(&self) -> Vec<Option<String>> {
        let segment = |segment: &ProxyTemplate| segment.literal().map(str::to_owned);
        self.path.iter().map(segment).collect()
    }
}
