//! The HTTP client: hyper's, over connections that limit the heads of a reply ([`Heads`]).
//!
//! Handles connections, TLS, and the headers of every call. Decompresses gzip while reading.
//! Follows no redirects, keeps no cookies, uses no proxies. Sends nothing but GET, and POST that
//! only reads ([`ReadMethod`]) or fetches a token.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, HeaderValue, USER_AGENT};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
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

use super::causes::{causes, is_caused_by};
use super::dns::{CrmResolver, NoAddress, NotPublic};
use super::heads::{Heads, TooMuch};
use super::request::ReadMethod;
use crate::clock;

/// Header lines of one reply over HTTP/1. With more, the call fails.
const HEADER_LINES: usize = 100;

/// Bytes of the headers of one reply over HTTP/2, including names. With more, the call fails.
const HEADER_BYTES: u32 = 16 * 1024;

/// How often a connection over HTTP/2 is pinged, and how long the pong may take. Many calls share a
/// connection, so one ping detects a dead connection for all of them.
const ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));

/// How long connecting may take, including TLS.
const CONNECT: Duration = Duration::from_secs(3);

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);

/// How often TCP sends keepalives on a silent connection, and how long data may stay unacknowledged
/// before the connection is closed. Each call over a dead connection waits for its whole time
/// limit, so dead ones should be closed soon.
const KEEPALIVE: Duration = Duration::from_secs(5);
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// If the system has no time limit for unacknowledged data, this many unanswered keepalives close a
/// connection.
const KEEPALIVES: u32 = 2;

/// Idle connections that a client keeps to each host: as many as there were concurrent calls.
pub(super) const KEPT: usize = usize::MAX;

/// Bytes read without a pause before other tasks run.
const AT_A_TIME: usize = 64 << 10;

type HyperClient = Decompression<legacy::Client<BoundedConnector, Full<Bytes>>>;

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TransportError {
    #[error("no public address")]
    NotPublic,
    #[error("the connection was refused")]
    Refused,
    #[error("the host name does not resolve to an address")]
    NoAddress,
    #[error("the TLS handshake failed")]
    Tls,
    #[error("no connection")]
    Connect,
    #[error("the connection broke")]
    Broken,
    #[error("too much before the reply")]
    TooMuch,
    #[error("the body does not match its Content-Encoding")]
    Encoding,
}

/// The client. Clones share its connections.
#[derive(Clone)]
pub(super) struct HttpClient {
    inner: HyperClient,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient(…)")
    }
}

impl HttpClient {
    /// A client that keeps that many idle connections to each host.
    pub(super) fn new(
        resolver: CrmResolver,
        tls: &Arc<rustls::ClientConfig>,
        https_only: bool,
        kept: usize,
    ) -> Self {
        let mut https = HttpsConnector::from((http(resolver), Arc::clone(tls)));
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
            .build(BoundedConnector { https });
        Self {
            inner: Decompression::new(client),
        }
    }

    /// Sends a request and waits for the head of the reply.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let url = request.url.clone();
        // A clone, because calling takes the client exclusively.
        let mut inner = self.inner.clone();
        match inner.call(request.into_http()?).await {
            Ok(response) => Ok(HttpResponse {
                url,
                inner: response,
            }),
            Err(error) => Err(transport_error(&error)),
        }
    }
}

/// A request with its address.
#[derive(Clone)]
pub(super) struct HttpRequest {
    pub(super) method: ReadMethod,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Usually empty for a GET.
    pub(super) body: Bytes,
    /// The path to show to people. `None` if nobody watches, or if the URL came from the CRM.
    pub(super) shown: Option<String>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl HttpRequest {
    /// A GET of this URL.
    pub(super) fn get(url: Url) -> Self {
        Self {
            method: ReadMethod::Get,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            shown: None,
        }
    }

    fn into_http(mut self) -> Result<http::Request<Full<Bytes>>, TransportError> {
        let accept = HeaderValue::from_static("application/json");
        let agent = HeaderValue::from_static(concat!("contactd/", env!("CARGO_PKG_VERSION")));
        self.headers.entry(ACCEPT).or_insert(accept);
        self.headers.insert(USER_AGENT, agent);
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = match self.method {
            ReadMethod::Get => http::Method::GET,
            ReadMethod::ReadByPost => http::Method::POST,
        };
        let uri = self.url.as_str().parse();
        *request.uri_mut() = uri.map_err(|_| TransportError::Connect)?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// A reply whose head has arrived.
pub(super) struct HttpResponse {
    url: Url,
    inner: http::Response<DecompressionBody<Incoming>>,
}

impl HttpResponse {
    pub(super) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// The URL that was called.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The length of the body, if the reply states it. `None` for a compressed body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.headers()
            .get(CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }

    /// The next part of the body, decompressed.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        while let Some(frame) = self.inner.body_mut().frame().await {
            let frame = frame.map_err(|error| body_error(&*error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Makes TCP connections that notice if their peer disappears.
fn http(resolver: CrmResolver) -> HttpConnector<CrmResolver> {
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    http.set_keepalive_interval(Some(KEEPALIVE));
    http.set_keepalive_retries(Some(KEEPALIVES));
    #[cfg(target_os = "linux")]
    http.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    http.set_connect_timeout(Some(CONNECT));
    http
}

/// The cause of a failed body: the connection, or the CRM's compression.
fn body_error(error: &(dyn Error + 'static)) -> TransportError {
    if is_caused_by::<hyper::Error>(error) {
        TransportError::Broken
    } else {
        TransportError::Encoding
    }
}

fn transport_error(error: &legacy::Error) -> TransportError {
    if is_caused_by::<NotPublic>(error) {
        TransportError::NotPublic
    } else if is_caused_by::<TooMuch>(error) {
        TransportError::TooMuch
    } else if error.is_connect() {
        not_connected(error)
    } else {
        TransportError::Broken
    }
}

/// Why no connection came about.
fn not_connected(error: &legacy::Error) -> TransportError {
    let is_io = |kind| {
        causes(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == kind)
    };
    if is_caused_by::<NoAddress>(error) {
        TransportError::NoAddress
    } else if is_io(io::ErrorKind::ConnectionRefused) {
        TransportError::Refused
    } else if is_caused_by::<rustls::Error>(error) || is_io(io::ErrorKind::UnexpectedEof) {
        // While connecting, only the handshake reads. So it is the handshake that has found the end
        // of the connection.
        TransportError::Tls
    } else {
        TransportError::Connect
    }
}

type CrmStream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// Makes connections.
#[derive(Clone)]
struct BoundedConnector {
    https: HttpsConnector<HttpConnector<CrmResolver>>,
}

impl Service<Uri> for BoundedConnector {
    type Response = TokioIo<BoundedStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<TokioIo<BoundedStream>, Self::Error>>;

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
            Ok(TokioIo::new(BoundedStream {
                stream: TokioIo::new(stream),
                heads,
                read: 0,
            }))
        })
    }
}

/// A connection that counts heads.
struct BoundedStream {
    stream: CrmStream,
    heads: Heads,
    /// Bytes since other tasks last ran.
    read: usize,
}

impl Connection for BoundedStream {
    fn connected(&self) -> Connected {
        self.stream.inner().connected()
    }
}

impl AsyncRead for BoundedStream {
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

impl AsyncWrite for BoundedStream {
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use rustix::net::sockopt;

    use super::*;
    use crate::connector::dns::Dns;

    #[tokio::test]
    async fn a_crm_that_vanishes_is_noticed_on_kept_connections_within_a_quarter_of_a_minute() {
        let resolver = CrmResolver {
            dns: Dns::system(),
            only_public: false,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connected = http(resolver)
            .call(format!("http://{addr}/").parse().unwrap())
            .await
            .unwrap();
        let socket = connected.inner();
        assert!(sockopt::socket_keepalive(socket).unwrap());
        // Keepalives probe a connection that waits for a reply or for its next call. If a request
        // is not acknowledged, only the timeout ends the connection.
        let probed = sockopt::tcp_keepidle(socket).unwrap()
            + sockopt::tcp_keepintvl(socket).unwrap() * sockopt::tcp_keepcnt(socket).unwrap();
        assert!(probed <= Duration::from_secs(15), "{probed:?}");
        assert_eq!(sockopt::tcp_user_timeout(socket).unwrap(), 15_000);
    }
}
