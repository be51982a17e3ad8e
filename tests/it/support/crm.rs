//! A scripted CRM: a real HTTP server that answers as it is told and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use contactd::clock;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request that the CRM saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) raw_query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) cookie: Option<String>,
    pub(crate) traceparent: Option<String>,
    /// The JSON of the body.
    pub(crate) body: Value,
    /// The body as text.
    pub(crate) text: String,
    pub(crate) method: String,
    /// All headers, with names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    /// Whether this is the question whose credential it is, of any CRM.
    pub(crate) fn asks_who(&self) -> bool {
        ["/api/v1/me", "/v1/users/me", "/api/v4/users/who_am_i.json"]
            .iter()
            .any(|path| self.path.ends_with(path))
    }

    /// The value of a header; that of a later line of the same name is not looked at.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(key, _)| key == name);
        header.map(|(_, value)| value.as_str())
    }

    /// The value of a parameter.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// One reply of the CRM.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Kind,
    delay: Duration,
}

#[derive(Debug, Clone)]
enum Kind {
    Whole(Vec<u8>),
    /// The connection breaks after these bytes.
    Cut(Vec<u8>),
    /// A space every 50 ms, for ever.
    Drip,
    /// So many bytes of white space.
    Huge(usize),
}

impl Reply {
    pub(crate) fn json(value: Value) -> Self {
        Self::of(200, "application/json", value.to_string())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::of(
            status,
            "application/json",
            "{\"error\":\"scripted\"}".to_owned(),
        )
    }

    pub(crate) fn html() -> Self {
        Self::of(
            200,
            "text/html",
            "<html><body>Please sign in</body></html>".to_owned(),
        )
    }

    /// A body that is not made from a JSON value.
    pub(crate) fn text(kind: &str, body: String) -> Self {
        Self::of(200, kind, body)
    }

    /// A body that is no text.
    pub(crate) fn bytes(kind: &str, body: Vec<u8>) -> Self {
        Self {
            body: Kind::Whole(body),
            ..Self::of(200, kind, String::new())
        }
    }

    /// The same with another status.
    pub(crate) fn but(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn of(status: u16, kind: &str, body: String) -> Self {
        let headers = vec![("content-type", kind.to_owned())];
        Self {
            status,
            headers,
            body: Kind::Whole(body.into_bytes()),
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn cut() -> Self {
        Self {
            body: Kind::Cut(b"{\"contacts\": [".to_vec()),
            ..Self::status(200)
        }
    }

    pub(crate) fn drip() -> Self {
        Self {
            body: Kind::Drip,
            ..Self::status(200)
        }
    }

    pub(crate) fn huge(bytes: usize) -> Self {
        Self {
            body: Kind::Huge(bytes),
            ..Self::status(200)
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn body(&self) -> Body {
        match &self.body {
            Kind::Whole(bytes) => Body::from(bytes.clone()),
            Kind::Cut(bytes) => {
                let begun = stream::iter([Ok(Bytes::from(bytes.clone()))]);
                let broken = stream::once(async {
                    // Else the head of the reply is lost as well.
                    clock::sleep(Duration::from_millis(50)).await;
                    Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
                });
                Body::from_stream(begun.chain(broken))
            }
            Kind::Drip => Body::from_stream(stream::unfold((), |()| async {
                clock::sleep(Duration::from_millis(50)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
            })),
            Kind::Huge(bytes) => {
                let chunk = Bytes::from(vec![b' '; 1 << 16]);
                let chunks =
                    (0..bytes / chunk.len()).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
                Body::from_stream(stream::iter(chunks))
            }
        }
    }
}

type Script = Box<dyn Fn(&Seen) -> Reply + Send>;

/// The CRM.
pub(crate) struct FakeCrm {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for FakeCrm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeCrm {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Reply + Send + 'static) -> Self {
        Self::behind(|| Duration::ZERO, script).await
    }

    /// Behind a connection on which each request takes this long.
    pub(crate) async fn behind(
        line: impl Fn() -> Duration + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Reply + Send + 'static,
    ) -> Self {
        let line = Arc::new(line);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let (log, replies) = (Arc::clone(&seen), Arc::clone(&script));
        let routes = Router::new().fallback(move |request: Request| {
            let (log, replies, delay) = (Arc::clone(&log), Arc::clone(&replies), line());
            async move {
                clock::sleep(delay).await;
                let seen = look_at(request).await;
                log.lock().push(seen.clone());
                let reply = replies.lock()(&seen);
                clock::sleep(reply.delay).await;
                answer(&reply)
            }
        });
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            addr,
            seen,
            script,
            task,
        }
    }

    /// A CRM of kind "example" that finds `contacts` whatever the number.
    pub(crate) async fn with(contacts: Vec<Value>) -> Self {
        Self::start(move |seen| example(seen, &contacts)).await
    }

    /// Answers differently from now on.
    pub(crate) fn becomes(&self, script: impl Fn(&Seen) -> Reply + Send + 'static) {
        *self.script.lock() = Box::new(script);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Everything asked so far about contacts.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .iter()
            .filter(|seen| !seen.asks_who())
            .cloned()
            .collect()
    }

    /// Forgets what it was asked.
    pub(crate) fn forget(&self) {
        self.seen.lock().clear();
    }

    /// How often it was asked whose a credential is.
    pub(crate) fn asked_who(&self) -> usize {
        self.seen
            .lock()
            .iter()
            .filter(|seen| seen.asks_who())
            .count()
    }

    /// How often a search was asked for.
    pub(crate) fn searches(&self) -> usize {
        self.seen
            .lock()
            .iter()
            .filter(|seen| seen.path == "/api/v1/contacts")
            .count()
    }
}

/// What a CRM of any kind says to the question whose credential it is: each is a user of its own.
pub(crate) fn themselves(seen: &Seen) -> Reply {
    user_named(seen.authorization.as_deref().unwrap_or_default())
}

/// A CRM of any kind says that the credential is this user's.
pub(crate) fn user_named(id: &str) -> Reply {
    let user = json!({"id": id, "company_id": 1, "account": {"id": 1}});
    Reply::json(json!({"id": id, "account_id": "a", "success": true, "data": user}))
}

/// The API of the Example CRM over fixed contacts without deals. Each credential is a user of its
/// own.
pub(crate) fn example(seen: &Seen, contacts: &[Value]) -> Reply {
    if seen.asks_who() {
        themselves(seen)
    } else if seen.path.ends_with("/deals") {
        Reply::json(json!({"deals": [], "next_page": null}))
    } else {
        Reply::json(json!({"contacts": contacts, "next_page": null}))
    }
}

/// A contact of the Example CRM with one phone.
pub(crate) fn contact(id: u32, name: &str, phone: &str) -> Value {
    json!({"id": id, "kind": "person", "name": name, "phones": [{"label": "work", "number": phone}]})
}

/// A person as Pipedrive's search lists it.
pub(crate) fn person(id: u32, name: &str, phones: &[&str]) -> Value {
    json!({"result_score": 0.5, "item": {"id": id, "type": "person", "name": name, "phones": phones,
        "emails": ["p@example.com"], "primary_email": "p@example.com", "organization": {"id": 1, "name": "Acme"}}})
}

fn header(request: &Request, name: &str) -> Option<String> {
    let value = request.headers().get(name)?;
    Some(value.to_str().unwrap().to_owned())
}

async fn look_at(request: Request) -> Seen {
    let raw_query = request.uri().query().unwrap_or_default().to_owned();
    let query = url::form_urlencoded::parse(raw_query.as_bytes())
        .into_owned()
        .collect();
    let [authorization, cookie, traceparent] =
        ["authorization", "cookie", "traceparent"].map(|name| header(&request, name));
    let path = request.uri().path().to_owned();
    let method = request.method().to_string();
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_string(), value)
    };
    let headers = request.headers().iter().map(line).collect();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    Seen {
        path,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        text: String::from_utf8_lossy(&body).into_owned(),
        method,
        headers,
        query,
        raw_query,
        authorization,
        cookie,
        traceparent,
    }
}

fn answer(reply: &Reply) -> Response {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    response.body(reply.body()).unwrap()
}
