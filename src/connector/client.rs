//! The HTTP client: hyper's, over connections on which a reply's heads are bounded ([`Heads`]).
//!
//! Owns connections, TLS, and what is asked for with every call. Unpacks gzip as it is read.
//! Follows no redirects, keeps no cookies, knows no proxies.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_service::Service;
use url::Url;

use super::dns::{NotPublic, Resolver};
use super::heads::{Heads, TooMuch};
use crate::clock;

/// Header lines of one reply over HTTP/1; more break the call.
const HEADER_LINES: usize = 100;

/// Bytes of the headers of one reply over HTTP/2, names included; more break the call.
const HEADER_BYTES: u32 = 16 * 1024;

/// How often a connection over HTTP/2 is asked whether it still works, and how long it may take to
/// say so. Many calls share it, so a dead one must not be found out by each of them in turn.
const ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));

/// How long a connection may take to be there, TLS included.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a connection is kept that nobody uses, how often TCP asks whether it still works, and
/// how often in vain.
const IDLE: Duration = Duration::from_secs(90);
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVES: u32 = 3;

/// Idle connections that a client keeps to each host: as many as there were calls at once.
pub(super) const KEPT: usize = usize::MAX;

/// Bytes read in one go before others have their turn.
const AT_A_TIME: usize = 64 << 10;

type Inner = Decompression<legacy::Client<Connector, Empty<Bytes>>>;

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("no public address")]
    NotPublic,
    #[error("no connection")]
    Connect,
    #[error("the connection broke")]
    Broken,
    #[error("too much before the reply")]
    TooMuch,
    #[error("the body is not encoded as it says")]
    Encoding,
}

/// The client. Clones share its connections.
#[derive(Clone)]
pub(super) struct HttpClient {
    inner: Inner,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(…)")
    }
}

impl HttpClient {
    /// One that keeps so many idle connections to each host.
    pub(super) fn new(
        resolver: Resolver,
        tls: &Arc<rustls::ClientConfig>,
        https_only: bool,
        kept: usize,
    ) -> Self {
        let mut http = HttpConnector::new_with_resolver(resolver);
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        http.set_keepalive_interval(Some(KEEPALIVE));
        http.set_keepalive_retries(Some(KEEPALIVES));
        http.set_connect_timeout(Some(CONNECT));
        let mut https = HttpsConnector::from((http, Arc::clone(tls)));
        if https_only {
            https.enforce_https();
        }
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(kept)
            .http1_max_headers(HEADER_LINES)
            .http2_max_header_list_size(HEADER_BYTES)
            .http2_keep_alive_interval(ALIVE.0)
            .http2_keep_alive_timeout(ALIVE.1)
            .build(Connector { https });
        Self {
            inner: Decompression::new(client),
        }
    }

    /// A GET of this URL.
    pub(super) fn get(&self, url: Url) -> RequestBuilder {
        let accept = (ACCEPT, HeaderValue::from_static("application/json"));
        let agent = (
            USER_AGENT,
            HeaderValue::from_static(concat!("contactd/", env!("CARGO_PKG_VERSION"))),
        );
        RequestBuilder {
            client: self.clone(),
            url,
            headers: HeaderMap::from_iter([accept, agent]),
        }
    }
}

/// A call that is not made yet.
#[derive(Debug, Clone)]
pub(super) struct RequestBuilder {
    client: HttpClient,
    url: Url,
    headers: HeaderMap,
}

impl RequestBuilder {
    /// With this header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Makes the call, and waits for the head of the reply.
    pub(super) async fn send(mut self) -> Result<Response, Failure> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.url.as_str().parse().map_err(|_| Failure::Connect)?;
        *request.headers_mut() = self.headers;
        let response = self
            .client
            .inner
            .call(request)
            .await
            .map_err(|error| failure(&error))?;
        Ok(Response {
            url: self.url,
            inner: response,
        })
    }
}

/// A reply whose head is there.
pub(super) struct Response {
    url: Url,
    inner: http::Response<DecompressionBody<Incoming>>,
}

impl Response {
    pub(super) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// What was called.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// How long the body is, if it is said; not of one that is unpacked.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.headers()
            .get(CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }

    /// The next part of the body, unpacked.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.inner.body_mut().frame().await {
            let frame = frame.map_err(|error| {
                // Else it is the fault of what unpacks.
                let is_the_connections = is_caused_by::<hyper::Error>(&*error);
                if is_the_connections {
                    Failure::Broken
                } else {
                    Failure::Encoding
                }
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

fn failure(error: &legacy::Error) -> Failure {
    if is_caused_by::<NotPublic>(error) {
        Failure::NotPublic
    } else if is_caused_by::<TooMuch>(error) {
        Failure::TooMuch
    } else if error.is_connect() {
        Failure::Connect
    } else {
        Failure::Broken
    }
}

/// Whether an error is one of this type, or one of its causes is.
fn is_caused_by<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    // An I/O error does not name the error that it was made of as its source.
    let made_of = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    error.is::<E>()
        || made_of.is_some_and(<dyn Error + Send + Sync>::is::<E>)
        || error.source().is_some_and(is_caused_by::<E>)
}

type Stream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// Makes connections.
#[derive(Clone)]
struct Connector {
    https: HttpsConnector<HttpConnector<Resolver>>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<TokioIo<Watched>, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.https.call(to);
        Box::pin(async move {
            let connected = clock::timeout(CONNECT, connecting).await;
            let stream = connected
                .unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::TimedOut).into()))?;
            let heads = Heads::new(stream.connected().is_negotiated_h2());
            Ok(TokioIo::new(Watched {
                stream: TokioIo::new(stream),
                heads,
                read: 0,
            }))
        })
    }
}

/// A connection whose heads are counted.
struct Watched {
    stream: Stream,
    heads: Heads,
    /// Bytes since others last had their turn.
    read: usize,
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        self.stream.inner().connected()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read > AT_A_TIME {
            this.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending() {
            this.read = 0;
        }
        ready!(read)?;
        let new = buf.filled().get(before..).unwrap_or_default();
        this.read += new.len();
        Poll::Ready(this.heads.read(new).map_err(io::Error::from))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.heads.request();
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.heads.request();
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
