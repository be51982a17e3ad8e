//! One connection: plain or encrypted, with its place among all, and three limits of time.
//!
//! HTTP/2's own limits are the server's. Here is what it has no say in: a client that connects and says nothing, one
//! that takes nothing of what is written, and one that stays for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::callers::Peer;
use crate::clock;

/// Within this time a client has said its first words. Afterwards the server asks for signs of life itself.
const FIRST_WORDS: Duration = Duration::from_secs(10);

/// HTTP/2's greeting and the head of the first frame.
const GREETING: usize = 24 + 9;

/// How long nothing of what is written may be taken.
const STALLED: Duration = Duration::from_secs(30);

type Alarm = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the header.
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    heard: usize,
    longest: Duration,
    /// For the first words, then for the end.
    alarm: Alarm,
    /// Set while nothing is taken.
    stalled: Option<Alarm>,
    _place: OwnedSemaphorePermit,
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Connection {
    pub(super) fn plain(stream: TcpStream, place: OwnedSemaphorePermit, longest: Duration) -> Self {
        Self::new(Either::Left(stream), Peer::default(), place, longest)
    }

    pub(super) fn encrypted(
        stream: TlsStream<TcpStream>,
        peer: Peer,
        place: OwnedSemaphorePermit,
        longest: Duration,
    ) -> Self {
        Self::new(Either::Right(Box::new(stream)), peer, place, longest)
    }

    fn new(stream: Stream, peer: Peer, place: OwnedSemaphorePermit, longest: Duration) -> Self {
        let alarm = Box::pin(clock::pause(FIRST_WORDS));
        Self { stream, peer, heard: 0, longest, alarm, stalled: None, _place: place }
    }

    /// Watches over what was tried to be written.
    fn taken<T>(&mut self, cx: &mut Context<'_>, tried: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.stalled = None;
            return tried;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(clock::pause(STALLED)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.alarm.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.heard < GREETING {
            this.heard += buf.filled().len() - before;
            if this.heard >= GREETING {
                this.alarm = Box::pin(clock::pause(this.longest));
                // Once, so that it wakes this task.
                let _ = this.alarm.as_mut().poll(cx);
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.taken(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.taken(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.taken(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.taken(cx, shut)
    }
}
