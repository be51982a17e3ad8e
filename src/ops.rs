//! The operations port: `/metrics`, `/livez`, `/readyz`. It holds nothing personal.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::resolver::Resolver;

/// What the operations port shows.
#[derive(Debug, Clone)]
pub struct Ops {
    metrics: Arc<Metrics>,
    resolver: Resolver,
    ready: Arc<AtomicBool>,
}

impl Ops {
    /// Pages over the daemon's metrics; `ready` turns false when it begins to stop.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, resolver: Resolver, ready: Arc<AtomicBool>) -> Self {
        Self { metrics, resolver, ready }
    }

    /// Serves until `shutdown` ends.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .with_state(self);
        axum::serve(listener, routes).with_graceful_shutdown(shutdown).await
    }
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    let (entries, bytes) = ops.resolver.memory_size();
    ops.metrics.cache_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    ops.metrics.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], ops.metrics.render())
}

/// Ready means "send calls here": from the bound port until the stop begins. A CRM that is down changes nothing, for
/// stored answers are still served and no other replica could do better.
async fn readyz(State(ops): State<Ops>) -> impl IntoResponse {
    if ops.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}
