//! How connections are accepted: counted, and each opened on the thread with the fewest. Its first
//! bytes decide which server takes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{Chain, Pending, pending};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::{Connection, Spoken};
use super::crowd::{ConnectionPlace, Crowd};
use super::http1::Http1;
use super::opening::Opener;
use super::supervisor::Supervisor;
use super::workers::{Spread, Worker};
use crate::clock::{self, OncePerMinute};
use crate::tls::Tls;

/// How long to wait if the system cannot accept a connection, mostly because it has no file
/// descriptors left.
const REST: Duration = Duration::from_millis(100);

type Accepted = std::io::Result<Connection>;

/// The stream of one worker's connections. It never ends, even if the accept loop does. Otherwise
/// the server could end first, and its end would be reported as the fault.
pub(super) type Incoming = Chain<ReceiverStream<Accepted>, Pending<Accepted>>;

/// What accepting connections needs.
pub(super) struct Gatekeeper {
    pub(super) tls: Option<Tls>,
    /// Most connections at once. Further ones are closed immediately, or take the place of a
    /// connection whose address has more connections than the new one's ([`Crowd`]).
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
        let (queues, incoming): (Vec<_>, _) = workers.iter().cloned().map(WorkerQueue::new).unzip();
        let (supervisor, drain) = (self.supervisor.clone(), self.http1.drain.clone());
        supervisor.spawn_until(&drain, "the accept loop", async move {
            tokio::select! {
                () = all_closed(&queues) => {}
                () = self.accept(&listener, &queues) => {}
            }
        });
        incoming
    }

    async fn accept(&self, listener: &TcpListener, queues: &[WorkerQueue]) {
        let crowd = Crowd::new(self.most);
        let opener = Arc::new(Opener::new(self.tls.clone(), self.longest));
        let workers = queues.iter().map(|queue| queue.worker.clone());
        let mut spread = Spread::over(workers.collect());
        let (mut failed, mut refused) = (OncePerMinute::default(), OncePerMinute::default());
        loop {
            let (stream, from) = accepted(listener, &mut failed).await;
            let Some(place) = crowd.enter(from.ip()) else {
                refused.log(|| {
                    tracing::warn!("connections are refused: grpc.max_connections is reached");
                });
                continue;
            };
            if let Some(index) = spread.next(place.origin()) {
                self.hand_over(stream, place, &opener, &queues[index]);
            }
        }
    }

    /// Opens a connection on a worker.
    fn hand_over(
        &self,
        stream: TcpStream,
        place: ConnectionPlace,
        opener: &Arc<Opener>,
        queue: &WorkerQueue,
    ) {
        let (opener, http1) = (Arc::clone(opener), self.http1.clone());
        let ready = queue.ready.clone();
        let work = async move {
            let end = place.end();
            let opened = end.run_until_cancelled(opener.open(stream, place));
            match opened.await.flatten() {
                // Fails if the daemon stops.
                Some((connection, Spoken::Http2)) => drop(ready.send(Ok(connection)).await),
                Some((connection, Spoken::Http1)) => http1.serve(connection).await,
                None => {}
            }
        };
        self.supervisor.tasks.spawn_on(work, &queue.worker.handle);
    }
}

/// The next connection, however often accepting one fails before it.
async fn accepted(listener: &TcpListener, failed: &mut OncePerMinute) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                let warn =
                    || tracing::warn!(%error, "connections cannot be accepted on grpc.listen");
                failed.log(warn);
                clock::sleep(REST).await;
            }
        }
    }
}

/// The queue of connections to the server of one worker.
struct WorkerQueue {
    worker: Worker,
    ready: mpsc::Sender<Accepted>,
}

impl WorkerQueue {
    fn new(worker: Worker) -> (Self, Incoming) {
        let (ready, incoming) = mpsc::channel(1);
        let incoming = ReceiverStream::new(incoming).chain(pending());
        (Self { worker, ready }, incoming)
    }
}

/// Returns once no server takes more connections.
async fn all_closed(queues: &[WorkerQueue]) {
    for queue in queues {
        queue.ready.closed().await;
    }
}
