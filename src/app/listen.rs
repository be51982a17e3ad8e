//! How connections are accepted: counted, and each opened on the thread with the fewest. Its first
//! bytes decide which server takes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Spoken};
use super::crowd::{ConnectionPlace, Crowd};
use super::http1::Http1;
use super::opening::Opener;
use super::supervisor::Supervisor;
use super::workers::Worker;
use crate::clock::{self, OncePerMinute};
use crate::tls::Tls;

/// How long to wait if the system cannot accept a connection, mostly because it has no file
/// descriptors left.
const REST: Duration = Duration::from_millis(100);

/// Connections of one worker.
pub(super) type Incoming = ReceiverStream<std::io::Result<Connection>>;
/// What accepting connections needs.
pub(super) struct Gatekeeper {
    pub(super) tls: Option<Tls>,
    /// Most connections at once. Further ones are closed immediately, or take the place of one
    /// whose address has more than theirs ([`Crowd`]).
    pub(super) most: usize,
    /// When a connection is closed, even if calls are in progress.
    pub(super) longest: Duration,
    /// Serves the connections of HTTP/1.1.
    pub(super) http1: Http1,
    pub(super) supervisor: Supervisor,
}

impl Gatekeeper {
    /// The accepted connections of HTTP/2, for the server of each worker. The port is closed when
    /// the streams are dropped.
    pub(super) fn incoming(self, listener: TcpListener, workers: &[Worker]) -> Vec<Incoming> {
        let (lines, incoming): (Vec<_>, _) = workers.iter().cloned().map(Line::new).unzip();
        let (supervisor, end) = (self.supervisor.clone(), CancellationToken::new());
        supervisor.spawn_until(&end.clone(), "the accept loop", async move {
            tokio::select! {
                () = all_closed(&lines) => end.cancel(),
                () = self.accept(&listener, &lines) => {}
            }
        });
        incoming
    }

    async fn accept(&self, listener: &TcpListener, lines: &[Line]) {
        let crowd = Crowd::new(self.most);
        let opener = Arc::new(Opener::new(self.tls.clone(), self.longest));
        let (mut failed, mut refused) = (OncePerMinute::default(), OncePerMinute::default());
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    failed.log(
                        || tracing::warn!(%error, "connections cannot be accepted on grpc.listen"),
                    );
                    clock::sleep(REST).await;
                    continue;
                }
            };
            let Some(place) = crowd.enter(from.ip()) else {
                refused.log(|| {
                    tracing::warn!("connections are refused: grpc.max_connections is reached");
                });
                continue;
            };
            self.hand_over(stream, place, &opener, lines);
        }
    }

    /// Opens a connection on the worker with the fewest.
    fn hand_over(
        &self,
        stream: TcpStream,
        place: ConnectionPlace,
        opener: &Arc<Opener>,
        lines: &[Line],
    ) {
        let Some(line) = lines.iter().min_by_key(|line| line.worker.load()) else {
            return;
        };
        let (on, ready) = (line.worker.enter(), line.ready.clone());
        let (opener, http1) = (Arc::clone(opener), self.http1.clone());
        let work = async move {
            let end = place.end();
            let opened = end.run_until_cancelled(opener.open(stream, (place, on)));
            match opened.await.flatten() {
                // Fails if the daemon stops.
                Some((connection, Spoken::Http2)) => drop(ready.send(Ok(connection)).await),
                Some((connection, Spoken::Http1)) => http1.serve(connection).await,
                None => {}
            }
        };
        self.supervisor.tasks.spawn_on(work, &line.worker.handle);
    }
}

/// The way of connections to the server of one worker.
struct Line {
    worker: Worker,
    ready: mpsc::Sender<std::io::Result<Connection>>,
}

impl Line {
    fn new(worker: Worker) -> (Self, Incoming) {
        let (ready, incoming) = mpsc::channel(1);
        (Self { worker, ready }, ReceiverStream::new(incoming))
    }
}

/// Returns once no server takes more connections.
async fn all_closed(lines: &[Line]) {
    for line in lines {
        line.ready.closed().await;
    }
}
