//! A CRM below HTTP: it sends what it is given byte by byte, over plain TCP, or as HTTP/2 over TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contactd::clock::sleep;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::pki::Authority;

/// What it says to a request.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// These bytes; then it hangs up.
    Once(Vec<u8>),
    /// The first bytes, then the others again and again, with a pause before each.
    ForEver {
        first: Vec<u8>,
        again: Vec<u8>,
        every: Duration,
    },
}

impl Said {
    pub(crate) fn once(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Once(bytes.into())
    }

    pub(crate) fn for_ever(first: impl Into<Vec<u8>>, again: impl Into<Vec<u8>>) -> Self {
        Self::ForEver {
            first: first.into(),
            again: again.into(),
            every: Duration::ZERO,
        }
    }

    pub(crate) fn dripping(first: impl Into<Vec<u8>>, again: impl Into<Vec<u8>>) -> Self {
        Self::ForEver {
            first: first.into(),
            again: again.into(),
            every: Duration::from_millis(50),
        }
    }
}

/// The CRM.
pub(crate) struct RawCrm {
    pub(crate) addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for RawCrm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawCrm {
    /// Over TCP; whatever the request is.
    pub(crate) async fn over_tcp(said: Said) -> Self {
        Self::start(said, None).await
    }

    /// As HTTP/2 over TLS for the name localhost; whatever the first request of a connection is.
    /// `said` are frames of stream 1. Its authority's certificate is written into `dir` as `c.pem`.
    pub(crate) async fn over_http2(said: Said, dir: &Path) -> Self {
        Self::start(said, Some(acceptor(dir))).await
    }

    async fn start(said: Said, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&accepted);
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let (said, tls) = (said.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => speak(stream, Speech::Http1, said).await,
                        Some(tls) => {
                            let stream = tls.accept(stream).await?;
                            assert_eq!(
                                stream.get_ref().1.alpn_protocol(),
                                Some(&b"h2"[..]),
                                "HTTP/2 was negotiated"
                            );
                            speak(stream, Speech::Http2, said).await
                        }
                    }
                });
            }
        });
        Self {
            addr,
            accepted,
            task,
        }
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

enum Speech {
    Http1,
    Http2,
}

async fn speak(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    speech: Speech,
    said: Said,
) -> std::io::Result<()> {
    match speech {
        Speech::Http1 => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
        }
        Speech::Http2 => {
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
            stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
            stream.flush().await?;
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await?;
            let mut head = [0; 9];
            while head[3] != HEADERS {
                stream.read_exact(&mut head).await?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                stream.read_exact(&mut vec![0; length as usize]).await?;
            }
        }
    }
    let (mut from, mut to) = tokio::io::split(stream);
    let read = async {
        tokio::io::copy(&mut from, &mut tokio::io::sink())
            .await
            .map(|_| ())
    };
    let write = async {
        match said {
            Said::Once(bytes) => {
                to.write_all(&bytes).await?;
                to.flush().await?;
                // What was said should arrive before the connection ends.
                sleep(Duration::from_millis(300)).await;
            }
            Said::ForEver {
                first,
                again,
                every,
            } => {
                to.write_all(&first).await?;
                loop {
                    sleep(every).await;
                    to.write_all(&again).await?;
                    to.flush().await?;
                }
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame of HTTP/2 (RFC 9113, 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Header fields as HPACK without tables (RFC 7541, 6.2.2); `:status` is one of them.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(text.len(), &mut bytes);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(length: usize, bytes: &mut Vec<u8>) {
    if length < 127 {
        bytes.push(u8::try_from(length).unwrap());
        return;
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// A body as DATA frames of stream 1, the last of which ends it.
pub(crate) fn data(body: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = body
        .chunks(16_384)
        .flat_map(|part| frame(DATA, 0, 1, part))
        .collect();
    bytes.extend(frame(DATA, END_STREAM, 1, &[]));
    bytes
}

/// A certificate for localhost; that of its authority is written into `dir` as `c.pem`.
fn acceptor(dir: &Path) -> TlsAcceptor {
    let authority = Authority::new();
    let pair = authority.issue(&["localhost"], "localhost");
    std::fs::write(dir.join("c.pem"), authority.pem()).unwrap();
    let certificate = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
