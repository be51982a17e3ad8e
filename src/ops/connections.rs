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
    let (mut connections, mut failed) = (Connections::default(), OncePerMinute::default());
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connections.add(connection(stream, routes.clone())),
            Err(error) => {
                failed
                    .log(|| tracing::warn!(%error, "connections cannot be accepted on ops.listen"));
                clock::sleep(REST).await;
            }
        }
    }
}

/// The connections at this moment. They end when this is dropped.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<Option<()>>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    /// Serves one more. If that is too many, the oldest ends.
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.oldest_first.retain(|handle| !handle.is_finished());
        if self.oldest_first.len() >= CONNECTIONS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        let handle = self.tasks.spawn(clock::timeout(LONGEST, connection));
        self.oldest_first.push_back(handle);
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
