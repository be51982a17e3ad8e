//! One connection, plain or encrypted: its place among all connections, and three time limits.
//!
//! The servers for HTTP/2 and HTTP/1.1 enforce the limits of their protocols. This module finds out
//! which of the two a connection needs, and handles the rest. A client that keeps sending frames
//! that carry nothing is read only as fast as such frames are allowed. A client that connects and
//! sends nothing, one that reads nothing, and one that stays for ever are closed. So is one whose
//! place another connection has taken.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::io::poll_read_buf;
use tonic::transport::server::Connected;

use super::crowd::ConnectionPlace;
use crate::clients::Peer;
use crate::clock;
use crate::frames::{Allowance, Frames};

/// The time in which a client must send its first bytes. After that the server for HTTP/2 sends
/// keepalives, and that for HTTP/1.1 limits the time for a request's head.
pub(super) const FIRST_WORDS: Duration = Duration::from_secs(10);

/// HTTP/2's preface and the head of the first frame.
const GREETING: usize = 24 + 9;

/// How long written bytes may remain unread.
pub(super) const STALLED: Duration = Duration::from_secs(30);

/// Bytes read before other connections have their turn: a few small requests. Each request becomes
/// a task. If hundreds were read from one connection at once, all of them would run before the next
/// request of any other connection.
const AT_A_TIME: usize = 1 << 10;

/// Bytes that are collected before they are written.
const WRITE_TOGETHER: usize = 16 << 10;

/// Bytes that one read of the system may bring.
const READ_AHEAD: usize = 8 << 10;

/// The same as [`AT_A_TIME`] within one large frame: its bytes cost little to process.
const OF_ONE_FRAME: usize = 16 << 10;

/// The beginning of HTTP/2's preface. No method of HTTP/1.1 is called `PRI`, so no more bytes are
/// needed to tell them apart.
const PREFACE: &[u8; 4] = b"PRI ";

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

type Alarm = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the header.
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    /// Bytes that arrived and have not had their turn.
    ahead: BytesMut,
    /// Bytes of replies that are not flushed yet.
    unsent: BytesMut,
    heard: usize,
    longest: Duration,
    /// For the first bytes, then for the end of the connection.
    alarm: Alarm,
    /// Set while the peer reads nothing.
    stalled: Option<Alarm>,
    /// `None` for HTTP/1.1, which has no frames.
    frames: Option<Frames>,
    allowance: Allowance,
    /// Set while nothing is read, because too many frames carried nothing.
    held_back: Option<Alarm>,
    /// Bytes read since other connections last had their turn.
    read: usize,
    /// Whether the server has ended it properly.
    is_shut: bool,
    place: ConnectionPlace,
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Connection {
    pub(super) fn plain(stream: TcpStream, place: ConnectionPlace, longest: Duration) -> Self {
        let peer = Peer::new(Arc::clone(place.origin()));
        Self::new(Either::Left(stream), peer, place, longest)
    }

    pub(super) fn encrypted(
        stream: TlsStream<TcpStream>,
        peer: Peer,
        place: ConnectionPlace,
        longest: Duration,
    ) -> Self {
        Self::new(Either::Right(Box::new(stream)), peer, place, longest)
    }

    fn new(stream: Stream, peer: Peer, place: ConnectionPlace, longest: Duration) -> Self {
        let alarm = Box::pin(clock::sleep(FIRST_WORDS));
        Self {
            stream,
            peer,
            ahead: BytesMut::new(),
            unsent: BytesMut::new(),
            heard: 0,
            longest,
            alarm,
            stalled: None,
            frames: Some(Frames::of_a_client()),
            allowance: Allowance::new(clock::now()),
            held_back: None,
            read: 0,
            is_shut: false,
            place,
        }
    }

    /// Reads the first bytes, which are read again afterwards.
    ///
    /// # Errors
    /// If the connection breaks or ends before that.
    pub(super) async fn first_words(&mut self) -> io::Result<Spoken> {
        while PREFACE.starts_with(&self.ahead) && self.ahead.len() < PREFACE.len() {
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if self.ahead.starts_with(PREFACE) {
            return Ok(Spoken::Http2);
        }
        self.frames = None;
        self.heard = GREETING;
        self.alarm = Box::pin(clock::sleep(self.longest));
        Ok(Spoken::Http1)
    }

    /// The next bytes, at most `most`. One read of the system brings those of several requests.
    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            self.ahead.reserve(READ_AHEAD);
            let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.ahead);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                // A silent connection keeps no buffer.
                self.ahead = BytesMut::new();
                return read.map_ok(drop);
            }
        }
        let next = self.ahead.len().min(most).min(buf.remaining());
        buf.put_slice(&self.ahead[..next]);
        self.ahead.advance(next);
        Poll::Ready(Ok(()))
    }

    /// Ready once the next bytes may be read.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(held_back) = &mut self.held_back {
            ready!(held_back.as_mut().poll(cx));
            self.held_back = None;
        }
        if self.read >= AT_A_TIME {
            self.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Processes bytes that were read.
    fn hear(&mut self, bytes: &[u8]) {
        self.read += bytes.len();
        if bytes.is_empty() {
            return;
        }
        self.place.origin().touch();
        let Some(frames) = &mut self.frames else {
            return;
        };
        let (now, allowance, mut until) = (clock::now(), &mut self.allowance, None);
        frames.read(bytes, |frame| until = allowance.take(frame, now).err());
        self.held_back = until.map(|until| Box::pin(clock::sleep_until(until)) as Alarm);
    }

    /// Ready once nothing is left to send.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.unsent);
            match ready!(self.taken(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.unsent.advance(written),
            }
        }
        // A silent connection keeps no buffer.
        self.unsent = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Checks the result of a write.
    fn taken<T>(
        &mut self,
        cx: &mut Context<'_>,
        tried: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.stalled = None;
            return tried;
        }
        if let Poll::Ready(ended) = self.poll_ended(cx) {
            return Poll::Ready(Err(ended));
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(clock::sleep(STALLED)));
        ready!(stalled.as_mut().poll(cx));
        self.abort();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready once another connection has this place.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.place.poll_ended(cx));
        self.abort();
        Poll::Ready(io::ErrorKind::ConnectionAborted.into())
    }

    /// Makes the system drop everything of this connection when it is closed, without waiting for
    /// its peer to read the rest.
    fn abort(&self) {
        let tcp = match &self.stream {
            Either::Left(tcp) => tcp,
            Either::Right(tls) => tls.get_ref().0,
        };
        // Fails if the connection has broken, and then there is nothing to drop.
        let _ = tcp.set_zero_linger();
    }
}

impl Drop for Connection {
    /// Drops from the system's buffers what the peer has not read. Otherwise it would stay as long
    /// as the peer likes, although the place is given back.
    fn drop(&mut self) {
        if !self.is_shut {
            self.abort();
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.alarm.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Poll::Ready(ended) = this.poll_ended(cx) {
            return Poll::Ready(Err(ended));
        }
        ready!(this.poll_turn(cx));
        let before = buf.filled().len();
        let rest = this.frames.as_ref().map_or(OF_ONE_FRAME, Frames::rest);
        let read = this.poll_bytes(cx, buf, rest.clamp(AT_A_TIME, OF_ONE_FRAME));
        let new = buf.filled().get(before..).unwrap_or_default();
        let heard = new.len();
        this.hear(new);
        if read.is_pending() {
            this.read = 0;
        }
        if this.heard < GREETING {
            this.heard += heard;
            if this.heard >= GREETING {
                this.alarm = Box::pin(clock::sleep(this.longest));
                // Polled once, so that it wakes this task.
                let _ = this.alarm.as_mut().poll(cx);
            }
        }
        read
    }
}

/// Written when it is flushed, or when there is much. Vectored writes are off, so that h2 collects
/// replies of up to 1 KiB and flushes them together. Otherwise each reply would cost a system call,
/// which costs more than the rest of a memory hit.
impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unsent.len() + bytes.len() > WRITE_TOGETHER {
            ready!(this.poll_sent(cx))?;
        }
        if bytes.len() > WRITE_TOGETHER {
            let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
            return this.taken(cx, written);
        }
        this.unsent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_sent(cx))?;
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.taken(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_sent(cx))?;
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.is_shut = matches!(shut, Poll::Ready(Ok(())));
        this.taken(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::super::crowd::Crowd;
    use super::*;

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        let (server, from) = server.unwrap();
        let place = Crowd::new(1).enter(from.ip()).unwrap();
        let server = Connection::plain(server, place, Duration::from_secs(60));
        (server, client.unwrap())
    }

    #[tokio::test]
    async fn what_a_peer_has_not_read_is_gone_with_its_connection_unless_that_ended_in_order() {
        for in_order in [true, false] {
            let (mut server, mut client) = pair().await;
            server.write_all(b"answer").await.unwrap();
            server.flush().await.unwrap();
            if in_order {
                server.shutdown().await.unwrap();
            }
            drop(server);
            let mut answer = Vec::new();
            let read = client.read_to_end(&mut answer).await;
            assert_eq!(read.is_ok(), in_order, "{read:?}");
            assert!(!in_order || answer == b"answer");
        }
    }
}
