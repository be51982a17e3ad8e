//! The operations port: the status page, `/status.json`, `/metrics`, `/livez`, `/readyz`. It holds
//! nothing personal.
//!
//! The page is rendered here and needs no script; the one it brings renews it. Everything it needs
//! is in this program. What it shows is put together at most once a second, however many look, and
//! costs a look-up nothing.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::clock::Stopwatch;
use crate::metrics::Metrics;
use crate::resolver::Resolver;

mod door;
mod figures;
mod history;
mod page;
mod plot;
mod status;

pub(crate) use door::CONNECTIONS;
pub(crate) use status::{Apart, Quota, Redis, Snapshot, Waiting};

use history::History;
use status::{Job, Process, Status};

/// How long what was put together is shown again.
const KEPT: Duration = Duration::from_secs(1);

/// For every page: read as what it says it is, kept by nobody, framed by nobody, and nothing loaded
/// from elsewhere.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
];

/// What the operations port shows.
#[derive(Clone)]
pub(crate) struct Ops {
    metrics: Arc<Metrics>,
    resolver: Resolver,
    ready: Arc<AtomicBool>,
    now: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    history: History,
    uptime: Stopwatch,
    shown: Arc<Mutex<Option<Shown>>>,
}

/// The status as it was put together.
struct Shown {
    age: Stopwatch,
    html: Bytes,
    json: Bytes,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

impl Ops {
    /// Pages over the daemon's metrics; `ready` turns false when it begins to stop, `now` tells
    /// what metrics do not.
    #[must_use]
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        resolver: Resolver,
        ready: Arc<AtomicBool>,
        now: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    ) -> Self {
        let history = History::new(Arc::clone(&metrics));
        Self {
            metrics,
            resolver,
            ready,
            now,
            history,
            uptime: Stopwatch::start(),
            shown: Arc::default(),
        }
    }

    /// Remembers the last minutes for the plots, for as long as it runs.
    pub(crate) fn record(&self) -> impl Future<Output = ()> + Send + use<> {
        self.history.clone().record()
    }

    /// Serves until `shutdown` ends.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) {
        let routes = Router::new()
            .route(
                "/",
                get(async |State(ops): State<Ops>| {
                    typed("text/html; charset=utf-8", ops.shown().0)
                }),
            )
            .route(
                "/status.json",
                get(async |State(ops): State<Ops>| typed("application/json", ops.shown().1)),
            )
            .route(
                "/status.css",
                get(async || typed("text/css; charset=utf-8", include_str!("status.css"))),
            )
            .route(
                "/status.js",
                get(async || typed("text/javascript; charset=utf-8", include_str!("status.js"))),
            )
            .route(
                "/status.svg",
                get(async || typed("image/svg+xml", include_str!("status.svg"))),
            )
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .layer(map_response(with_headers))
            .with_state(self);
        door::serve(listener, routes, shutdown).await;
    }

    /// The status as HTML and as JSON.
    fn shown(&self) -> (Bytes, Bytes) {
        let mut shown = self.shown.lock();
        let kept = shown.as_ref().filter(|kept| kept.age.elapsed() < KEPT);
        if let Some(kept) = kept {
            return (kept.html.clone(), kept.json.clone());
        }
        let status = self.status();
        // Fails for maps with keys that are no text only.
        let json = Bytes::from(serde_json::to_vec(&status).unwrap_or_default());
        let html = Bytes::from(page::html(&status));
        *shown = Some(Shown {
            age: Stopwatch::start(),
            html: html.clone(),
            json: json.clone(),
        });
        (html, json)
    }

    fn status(&self) -> Status {
        let jobs = self.resolver.jobs().into_iter().map(|job| Job {
            platform: job.platform,
            done: job.done,
            total: job.total,
            running_seconds: job.since.as_secs(),
        });
        let process = Process {
            ready: self.ready.load(Ordering::Relaxed),
            uptime: self.uptime.elapsed(),
            memory: self.resolver.memory_size(),
            jobs: jobs.collect(),
        };
        Status::new(&self.history.window(), (self.now)(), process)
    }
}

fn typed(kind: &'static str, body: impl IntoResponse) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], body)
}

async fn with_headers(mut response: Response) -> Response {
    response.headers_mut().extend(HEADERS);
    response
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    let (entries, bytes) = ops.resolver.memory_size();
    ops.metrics
        .cache_entries
        .set(i64::try_from(entries).unwrap_or(i64::MAX));
    ops.metrics
        .cache_bytes
        .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    typed(
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ops.metrics.render(),
    )
}

/// Ready means "send calls here": from the bound port until the stop begins. A CRM that is down
/// changes nothing, for stored answers are still served and no other replica could do better.
async fn readyz(State(ops): State<Ops>) -> impl IntoResponse {
    if ops.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}
