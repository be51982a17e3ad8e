//! The connections of the operations port: few at once, and none for long.
//!
//! Every new connection is accepted. If there are too many, the oldest is closed: a probe takes a
//! millisecond, while a client that fills the port holds on. An incomplete request has a time
//! limit. So has a connection that waits for its next request, or does not read an answer.

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

/// The time limit for the head of a request, and for the pause between two requests.
const HEAD: Duration = Duration::from_secs(10);

/// The longest life of a connection: several scrapes.
const LONGEST: Duration = Duration::from_secs(120);

/// Most bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;

/// How long to wait if the system cannot accept a connection, mostly because it has no file
/// descriptors left.
const REST: Duration = Duration::from_millis(100);

/// Serves until `shutdown` completes. Running requests are then cut off.
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

/// The open connections, closed on drop.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<Option<()>>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    /// Serves one more. If there are too many, closes the oldest.
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
    // If a client breaks off, that is not a failure of the daemon.
    let _ = served.await;
}
