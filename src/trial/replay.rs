//! A server that answers from recordings.
//!
//! Equal requests get the recordings of that request in turn, and then the last one again.
//! Addresses of the CRM in replies become the server's own, so that links lead to it.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use url::Url;

use super::nearest::unmatched;
use super::recorder::texts;
use super::recording::{RecordedBody, RecordedRequest, Recording};

/// The largest request that is read.
const MAX_REQUEST: usize = 1 << 20;

/// A running server. It stops when this is dropped.
pub(crate) struct Replay {
    origin: Url,
    shared: Arc<ReplayState>,
    _stop: DropGuard,
}

struct ReplayState {
    recordings: Vec<Recording>,
    log: Mutex<ReplayLog>,
}

#[derive(Default)]
struct ReplayLog {
    /// The CRM's address.
    crm: Option<Url>,
    /// The server's own.
    own: String,
    /// How often each recording has answered.
    answered: Vec<usize>,
    /// Requests without a recording.
    unmatched: Vec<String>,
}

impl Replay {
    /// Starts a server over these recordings.
    ///
    /// # Errors
    /// If no port can be opened.
    pub(crate) async fn start(recordings: Vec<Recording>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let own = format!("http://{}", listener.local_addr()?);
        let origin = Url::parse(&own).map_err(io::Error::other)?;
        let shared = Arc::new(ReplayState::new(recordings, own));
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(serve(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self {
            origin,
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// The server's address, without a path.
    pub(crate) fn origin(&self) -> &Url {
        &self.origin
    }

    /// Sets the address of the CRM, for which the server stands in.
    pub(crate) fn stand_for(&self, crm: Url) {
        self.shared.log.lock().crm = Some(crm);
    }

    /// The requests without a recording since the last call, each beside the nearest recording.
    pub(crate) fn take_unmatched(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.log.lock().unmatched)
    }

    /// The recordings that nobody asked for.
    pub(crate) fn unused(&self) -> Vec<&str> {
        let log = self.shared.log.lock();
        let recordings = self.shared.recordings.iter().zip(&log.answered);
        let unused = recordings.filter(|(_, answered)| **answered == 0);
        unused
            .map(|(recording, _)| recording.name.as_str())
            .collect()
    }
}

async fn serve(listener: TcpListener, shared: Arc<ReplayState>, stop: CancellationToken) {
    let answer = move |request: Request<Body>| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(&recorded(request).await) }
    };
    let server = axum::serve(listener, axum::Router::new().fallback(answer));
    let server = server.with_graceful_shutdown(async move { stop.cancelled().await });
    // A failure shows as calls that are not answered.
    let _ = server.await;
}

/// A request as recordings have it.
async fn recorded(request: Request<Body>) -> RecordedRequest {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST).await.unwrap_or_default();
    let query = head.uri.query().unwrap_or_default().as_bytes();
    RecordedRequest {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query).into_owned().collect(),
        body: RecordedBody::of_bytes(&body, media_type(&head.headers)),
        headers: texts(&head.headers),
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let media_type = headers.get("content-type");
    let media_type = media_type.and_then(|value| value.to_str().ok());
    media_type.unwrap_or_default()
}

impl ReplayState {
    fn new(recordings: Vec<Recording>, own: String) -> Self {
        let log = ReplayLog {
            own,
            answered: vec![0; recordings.len()],
            ..ReplayLog::default()
        };
        Self {
            recordings,
            log: Mutex::new(log),
        }
    }

    fn answer(&self, request: &RecordedRequest) -> Response<Body> {
        let mut log = self.log.lock();
        let base = log.crm.as_ref().map_or("/", Url::path).to_owned();
        let met = self.met_by(request, &base);
        let fresh = met.iter().find(|n| log.answered[**n] == 0);
        let Some(&chosen) = fresh.or(met.last()) else {
            let words = unmatched(request, &base, &self.recordings);
            log.unmatched.push(words);
            return plain(StatusCode::INTERNAL_SERVER_ERROR);
        };
        log.answered[chosen] += 1;
        log.reply(&self.recordings[chosen])
    }

    /// The numbers of the recordings of a request.
    fn met_by(&self, request: &RecordedRequest, base: &str) -> Vec<usize> {
        let is_met = |n: &usize| self.recordings[*n].request.is_met_by(request, base);
        (0..self.recordings.len()).filter(is_met).collect()
    }
}

impl ReplayLog {
    fn reply(&self, recording: &Recording) -> Response<Body> {
        /// Headers that the server writes itself.
        const OWN: [&str; 3] = ["content-length", "transfer-encoding", "connection"];
        let reply = &recording.reply;
        let mut response = Response::builder().status(reply.status);
        for (name, value) in &reply.headers {
            if !OWN.contains(&name.as_str()) {
                response = response.header(name.as_str(), self.at_home(value));
            }
        }
        let response = response.body(Body::from(self.at_home(&reply.body)));
        response.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR))
    }

    /// A text in which the CRM's address is the server's.
    fn at_home(&self, text: &str) -> String {
        let Some(crm) = &self.crm else {
            return text.to_owned();
        };
        let crm = crm.origin().ascii_serialization();
        let text = text.replace(&crm, &self.own);
        text.replace(&escaped(&crm), &escaped(&self.own))
    }
}

/// An address as some CRMs write it into JSON.
fn escaped(address: &str) -> String {
    address.replace('/', "\\/")
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
