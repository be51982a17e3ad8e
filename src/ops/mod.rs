//! The operations port: the status page, also as `/status.json` and `/status.txt`, `/metrics`,
//! `/livez`, `/readyz`. It shows no personal data.
//!
//! The page is rendered here and works without its script, which only refreshes it. Everything it
//! needs is compiled in. Its content is computed at most once a second, however many people look,
//! and does not slow look-ups down.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::clock::Stopwatch;
use crate::metrics::Metrics;
use crate::resolver::Resolver;

mod accept;
mod connections;
mod figures;
mod history;
mod page;
mod plot;
mod status;
mod view;

pub(crate) use connections::CONNECTIONS;
pub(crate) use view::{LiveView, QuotaView, RedisView, SeparateQuota, WaitingView};

use history::History;
use status::ProcessView;
use view::{JobView, StatusView};

/// How long rendered content is reused.
const KEPT: Duration = Duration::from_secs(1);

/// Headers of every page: no content sniffing, no caching, no framing, and nothing loaded from
/// elsewhere.
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
pub(crate) struct OpsServer {
    metrics: Arc<Metrics>,
    resolver: Resolver,
    ready: Arc<AtomicBool>,
    live: Arc<dyn Fn() -> LiveView + Send + Sync>,
    history: History,
    uptime: Stopwatch,
    rendered: Arc<Mutex<Option<RenderedStatus>>>,
}

/// The last rendered status.
#[derive(Clone)]
struct RenderedStatus {
    age: Stopwatch,
    html: Bytes,
    json: Bytes,
    text: Bytes,
}

impl fmt::Debug for OpsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpsServer")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

impl OpsServer {
    /// Pages over the daemon's metrics. `ready` becomes false when it begins to stop. `live`
    /// returns what metrics do not show.
    #[must_use]
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        resolver: Resolver,
        ready: Arc<AtomicBool>,
        live: Arc<dyn Fn() -> LiveView + Send + Sync>,
    ) -> Self {
        let history = History::new(Arc::clone(&metrics));
        Self {
            metrics,
            resolver,
            ready,
            live,
            history,
            uptime: Stopwatch::start(),
            rendered: Arc::default(),
        }
    }

    /// Records the last minutes for the plots, as long as it runs.
    pub(crate) fn record(&self) -> impl Future<Output = ()> + Send + use<> {
        self.history.clone().record()
    }

    /// Serves until `shutdown` completes.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) {
        connections::serve(listener, self.routes(), shutdown).await;
    }

    fn routes(self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/status.json", get(status))
            .route("/status.txt", get(text))
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
            .with_state(self)
    }

    /// The current status, or one that is less than [`KEPT`] old.
    fn rendered(&self) -> RenderedStatus {
        let mut rendered = self.rendered.lock();
        if let Some(kept) = rendered.as_ref()
            && kept.age.elapsed() < KEPT
        {
            return kept.clone();
        }
        let status = self.status();
        let fresh = RenderedStatus {
            age: Stopwatch::start(),
            html: Bytes::from(page::html(&status)),
            // Fails only for maps whose keys are not strings.
            json: Bytes::from(serde_json::to_vec(&status).unwrap_or_default()),
            text: Bytes::from(page::text(&status)),
        };
        *rendered = Some(fresh.clone());
        fresh
    }

    fn status(&self) -> StatusView {
        let jobs = self.resolver.jobs().into_iter().map(|job| JobView {
            platform: job.platform,
            done: job.done,
            total: job.total,
            running_seconds: job.since.as_secs(),
        });
        let process = ProcessView {
            ready: self.ready.load(Ordering::Relaxed),
            uptime: self.uptime.elapsed(),
            memory: self.resolver.memory_size(),
            jobs: jobs.collect(),
        };
        StatusView::new(&self.history.window(), (self.live)(), process)
    }
}

fn typed(kind: &'static str, body: impl IntoResponse) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], body)
}

async fn page(State(ops): State<OpsServer>) -> impl IntoResponse {
    typed("text/html; charset=utf-8", ops.rendered().html)
}

async fn status(State(ops): State<OpsServer>) -> impl IntoResponse {
    typed("application/json", ops.rendered().json)
}

async fn text(State(ops): State<OpsServer>) -> impl IntoResponse {
    typed("text/plain; charset=utf-8", ops.rendered().text)
}

async fn with_headers(mut response: Response) -> Response {
    response.headers_mut().extend(HEADERS);
    response
}

async fn metrics(State(ops): State<OpsServer>, headers: HeaderMap) -> Response {
    let (entries, bytes) = ops.resolver.memory_size();
    ops.metrics
        .cache_entries
        .set(i64::try_from(entries).unwrap_or(i64::MAX));
    ops.metrics
        .cache_bytes
        .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    let (kind, page) = if accept::wants_open_metrics(&headers) {
        (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ops.metrics.render(),
        )
    } else {
        (
            "text/plain; version=0.0.4; charset=utf-8",
            ops.metrics.render_plain(),
        )
    };
    ([(header::VARY, "Accept")], typed(kind, page)).into_response()
}

/// Ready means "send calls here": from the bound port until the stop begins. A CRM that is down
/// changes nothing, because stored answers are still served and no other replica could do better.
async fn readyz(State(ops): State<OpsServer>) -> impl IntoResponse {
    if ops.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}
