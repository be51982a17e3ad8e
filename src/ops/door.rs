//! The connections of the operations port: few at once, and none for long.
//!
//! Promises that whoever comes is let in. If there are too many connections, the oldest ends: a
//! probe takes a millisecond, while whoever fills the port holds on. Half a request ends in time,
//! and so does a connection that waits for its next request, or takes nothing of an answer.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::{self, OncePerMinute};

/// Most connections at once: probes, a few scrapers and browsers.
pub(crate) const CONNECTIONS: usize = 64;

/// How long the head of a request may take, and the pause between two requests.
const HEAD: Duration = Duration::from_secs(10);

/// How long a connection may live: several scrapes.
const LONGEST: Duration = Duration::from_secs(120);

/// Most bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;

/// Time before the next connection is tried if the system gives none, for want of file descriptors
/// mostly.
const REST: Duration = Duration::from_millis(100);

/// Serves until `shutdown` ends. Requests that are in hand then are cut off.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    // Those within end with it.
    let mut connections = JoinSet::new();
    let (mut oldest, mut failed) = (VecDeque::<AbortHandle>::new(), OncePerMinute::default());
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                failed
                    .log(|| tracing::warn!(%error, "connections cannot be accepted on ops.listen"));
                clock::sleep(REST).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        oldest.retain(|connection| !connection.is_finished());
        if oldest.len() >= CONNECTIONS
            && let Some(connection) = oldest.pop_front()
        {
            connection.abort();
        }
        oldest.push_back(
            connections.spawn(clock::timeout(LONGEST, connection(stream, routes.clone()))),
        );
    }
}

async fn connection(stream: TcpStream, routes: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A client that breaks off is no failure of ours.
    let _ = served.await;
}
