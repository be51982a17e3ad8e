//! Connections that speak HTTP/1.1, served beside those of gRPC.
//!
//! One request at a time, so the limits of HTTP/2 for many streams have no counterpart. The head of
//! a request is limited in size and time. Its body, its places and its answer are limited like
//! those of every other request, and the connection as every other connection.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected as _;

use super::connection::Connection;
use crate::clock;
use crate::http::HttpFront;

/// The time for the head of a request, including the pause before it. A silent HTTP/2 client has
/// the same time before it is asked whether it is still there.
const HEAD: Duration = Duration::from_secs(30);

/// Most bytes of a request's head, as for HTTP/2.
const HEAD_BYTES: usize = 16 << 10;

/// Serves connections until the daemon drains. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Http1 {
    pub(super) front: HttpFront,
    /// The age at which a connection takes no more requests.
    pub(super) age: Duration,
    /// When cancelled, each connection ends with its running request.
    pub(super) drain: CancellationToken,
    /// The open connections.
    pub(super) open: TaskTracker,
}

impl Http1 {
    /// Serves one connection to its end.
    pub(super) async fn serve(self, connection: Connection) {
        let _open = self.open.token();
        let (peer, front) = (connection.connect_info(), self.front);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.respond(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(connection), service);
        let mut served = pin!(served);
        tokio::select! {
            // If a client breaks off, that is not a failure of the daemon.
            _ = &mut served => return,
            () = clock::sleep(self.age) => {}
            () = self.drain.cancelled() => {}
        }
        served.as_mut().graceful_shutdown();
        let _ = served.await;
    }
}
