//! How a connection is opened: its TLS handshake and its first bytes, each with a time limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::TcpStream;

#[cfg(target_os = "linux")]
use super::connection::STALLED;
use super::connection::{Connection, FIRST_WORDS, Spoken};
use super::crowd::ConnectionPlace;
use crate::clients::{Peer, PeerNetwork};
use crate::clock::{self, EachPerMinute};
use crate::tls::{self, Tls};

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Opens connections.
pub(super) struct Opener {
    tls: Option<Tls>,
    /// When a connection is closed, even if calls are in progress.
    longest: Duration,
    /// Logged at most once a minute for each reason.
    failures: EachPerMinute<(&'static str, PeerNetwork)>,
}

impl Opener {
    pub(super) fn new(tls: Option<Tls>, longest: Duration) -> Self {
        Self {
            tls,
            longest,
            failures: EachPerMinute::default(),
        }
    }

    /// A connection after its handshake, and what its first bytes show. `None` if it is too slow,
    /// or ends before that.
    pub(super) async fn open(
        &self,
        stream: TcpStream,
        place: ConnectionPlace,
    ) -> Option<(Connection, Spoken)> {
        // It belongs to the reactor of this thread from now on.
        let stream = stream.into_std().and_then(TcpStream::from_std).ok()?;
        let network = place.origin().network_kind();
        let Some(shaken) = clock::timeout(HANDSHAKE, self.shake(stream, place)).await else {
            self.failed("the client took too long", network);
            return None;
        };
        let mut connection = shaken?;
        let spoken = clock::timeout(FIRST_WORDS, connection.first_words());
        let spoken = spoken.await?.ok()?;
        Some((connection, spoken))
    }

    async fn shake(&self, stream: TcpStream, place: ConnectionPlace) -> Option<Connection> {
        // Otherwise a reply waits for the acknowledgement of the previous one.
        stream.set_nodelay(true).ok()?;
        limit_unread(&stream);
        let Some(tls) = &self.tls else {
            return Some(Connection::plain(stream, place, self.longest));
        };
        let network = place.origin().network_kind();
        let shaken = tls.accept(stream).await;
        let stream = shaken
            .inspect_err(|error| self.report(error, network))
            .ok()?;
        let peer = Peer::new(Arc::clone(place.origin()))
            .showing(tls::is_verified(&stream), tls::peer_name(&stream));
        Some(Connection::encrypted(stream, peer, place, self.longest))
    }

    fn report(&self, error: &io::Error, network: PeerNetwork) {
        if let Some(reason) = tls::failure(error) {
            self.failed(reason, network);
        }
    }

    fn failed(&self, reason: &'static str, network: PeerNetwork) {
        self.failures.log((reason, network), |suppressed| {
            tracing::info!(
                reason,
                network = network.label(),
                suppressed,
                "a TLS handshake failed"
            );
        });
    }
}

/// Tells the system to end a connection if its peer has acknowledged nothing for `STALLED`, even
/// after the daemon has closed the connection. Otherwise its buffers (up to some MiB) would stay as
/// long as the peer likes. If the option cannot be set, the connection still works.
#[cfg(target_os = "linux")]
fn limit_unread(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(STALLED));
}

#[cfg(not(target_os = "linux"))]
fn limit_unread(_: &TcpStream) {}
