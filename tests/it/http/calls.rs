//! Calls over HTTP, and what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use contactd::clock;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::daemon::NUMBER;

pub(crate) const FIND: &str = "/contactd.v1.ContactService/FindContact";
pub(crate) const PREFETCH: &str = "/contactd.v1.ContactService/PrefetchContacts";
pub(crate) const INVALIDATE: &str = "/contactd.v1.ContactService/InvalidateContacts";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

pub(crate) const BOTH: [Version; 2] = [Version::Http1, Version::Http2];

/// A client of this version over TCP, which reuses its connections.
pub(crate) fn client(version: Version) -> reqwest::Client {
    builder(version).build().unwrap()
}

/// The same, to be changed.
pub(crate) fn builder(version: Version) -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy();
    match version {
        Version::Http1 => client.http1_only(),
        Version::Http2 => client.http2_prior_knowledge(),
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[expect(clippy::disallowed_methods, reason = "this is no CRM")]
    pub(crate) async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The names of the real contacts.
    pub(crate) fn names(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", self.text());
        let json = self.json();
        let contacts = json["matchedContactInfo"].as_array().unwrap();
        let real = contacts
            .iter()
            .filter(|contact| contact["isNewContact"] == false);
        real.map(|contact| contact["name"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn failure(&self) -> Failure {
        Failure::of(self.status, &self.json())
    }
}

/// A failure as a Connect client reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) reason: String,
    /// The violated fields.
    pub(crate) fields: Vec<String>,
}

impl Failure {
    pub(crate) fn of(status: u16, error: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let details = error["details"].as_array().cloned().unwrap_or_default();
        let detail = |name: &str| {
            let found = details.iter().find(|detail| detail["type"] == name);
            found.map_or(Value::Null, |detail| detail["debug"].clone())
        };
        let violations = detail("google.rpc.BadRequest")["fieldViolations"].clone();
        Self {
            status,
            code: text(&error["code"]),
            message: text(&error["message"]),
            reason: text(&detail("google.rpc.ErrorInfo")["reason"]),
            fields: violations.as_array().map_or_else(Vec::new, |all| {
                all.iter().map(|one| text(&one["field"])).collect()
            }),
        }
    }

    /// Status, code and reason.
    pub(crate) fn kind(&self) -> (u16, &str, &str) {
        (self.status, &self.code, &self.reason)
    }
}

/// A daemon's port, with a client for it.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) client: reqwest::Client,
    pub(crate) url: String,
}

impl Port {
    pub(crate) fn new(addr: SocketAddr, version: Version) -> Self {
        Self {
            client: client(version),
            url: format!("http://{addr}"),
        }
    }

    pub(crate) fn post(
        &self,
        path: &str,
        media: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.url));
        request.header("content-type", media).body(body)
    }

    /// A call with a JSON message.
    pub(crate) async fn json(&self, path: &str, message: &Value) -> Answer {
        Answer::to(self.post(path, "application/json", message.to_string())).await
    }

    pub(crate) fn get(&self, path_and_query: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path_and_query}", self.url))
    }
}

/// A look-up of the usual number, as JSON.
pub(crate) fn question() -> Value {
    question_of("user-1")
}

/// The same for this user, with a credential of their own.
pub(crate) fn question_of(user: &str) -> Value {
    json!({
        "user": { "id": user, "platform": "example" },
        "authHeader": format!("Bearer {user}"),
        "phoneNumber": NUMBER,
    })
}

/// A message in an envelope.
pub(crate) fn envelope(flags: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flags][..], &length, message].concat()
}

/// The envelopes of a stream, each with its flags.
pub(crate) fn opened(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while let [flags, l0, l1, l2, l3, rest @ ..] = body {
        let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize;
        let (message, rest) = rest.split_at(length);
        messages.push((*flags, message.to_vec()));
        body = rest;
    }
    assert!(body.is_empty(), "an envelope is cut");
    messages
}

/// A connection on which a test writes what no client would.
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    pub(crate) async fn to(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    pub(crate) async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.unwrap();
    }

    /// What comes until `end` has come, or the connection ends.
    pub(crate) async fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        let hear = async {
            let mut bytes = [0; 4096];
            while !String::from_utf8_lossy(&heard).ends_with(end) || end.is_empty() {
                match self.0.read(&mut bytes).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => heard.extend_from_slice(&bytes[..read]),
                }
            }
        };
        let in_time = clock::timeout(Duration::from_secs(20), hear).await;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(in_time.is_some(), "only this came: {heard}");
        heard
    }
}

/// A call with a JSON message as bytes of HTTP/1.1.
pub(crate) fn written(path: &str, message: &Value) -> String {
    let body = message.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
