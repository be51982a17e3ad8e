//! TLS on the gRPC port.
//!
//! Owns the certificates: reads them, checks them, and reads them again when the files change. Promises that new
//! handshakes use the new ones, that connections which are there stay, and that files which cannot be used change
//! nothing. Knows nothing of who may call; it only tells the name in a certificate that it has verified.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock;

mod files;
mod name;

use files::Pems;

/// How often the files are looked at. They are small, and what a new certificate waits is not felt.
const LOOK: Duration = Duration::from_secs(2);

/// Where the certificates are, in PEM format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The server's certificate, the ones between it and its authority behind it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates callers must have. Without it, callers need none.
    pub client_ca: Option<PathBuf>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grpc.tls.{setting}: {message}")]
pub struct Error {
    /// The setting that names the file: cert, key or client_ca.
    pub setting: &'static str,
    /// What is wrong. Holds the path, never the content.
    pub message: String,
}

/// The certificates in use. Clones share them.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// Looks at the files and exchanges the certificates in use.
pub struct Watch {
    config: Config,
    tls: Tls,
    in_use: Pems,
    /// What was wrong at the last look, and at how many before.
    doubt: Option<(Error, u32)>,
}

/// Reads the files, and tells whether they can be used.
///
/// # Errors
/// Where one cannot be read, or they do not fit together.
pub fn load(config: &Config) -> Result<(Tls, Watch), Error> {
    let in_use = Pems::read(config)?;
    let tls = Tls(Arc::new(RwLock::new(in_use.server_config(config)?)));
    let watch = Watch { config: config.clone(), tls: tls.clone(), in_use, doubt: None };
    Ok((tls, watch))
}

impl Tls {
    /// Shakes hands. Ends whenever the other side lets it; the caller limits the time.
    ///
    /// # Errors
    /// Where the other side does not speak TLS, or shows no certificate that is wanted.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.read());
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// The name in the certificate that the other side has shown: its first DNS name, else its common name.
#[must_use]
pub fn peer_name(stream: &TlsStream<TcpStream>) -> Option<String> {
    name::of(stream.get_ref().1.peer_certificates()?.first()?)
}

impl Watch {
    /// Looks now and then, for ever.
    pub async fn run(mut self) {
        loop {
            clock::pause(LOOK).await;
            self.look();
        }
    }

    fn look(&mut self) {
        match self.changed() {
            Ok(None) => self.doubt = None,
            Ok(Some((pems, config))) => {
                *self.tls.0.write() = config;
                (self.in_use, self.doubt) = (pems, None);
                tracing::info!("grpc.tls: the certificates were exchanged; new connections use the new ones");
            }
            Err(error) => {
                let times = self.doubt.take().filter(|(before, _)| *before == error).map_or(1, |(_, times)| times + 1);
                // Files that are being exchanged do not fit for a moment, so the second look counts, and once.
                if times == 2 {
                    tracing::warn!(%error, "new certificates cannot be used; the ones before stay in use");
                }
                self.doubt = Some((error, times));
            }
        }
    }

    fn changed(&self) -> Result<Option<(Pems, Arc<ServerConfig>)>, Error> {
        let pems = Pems::read(&self.config)?;
        if pems == self.in_use {
            return Ok(None);
        }
        let config = pems.server_config(&self.config)?;
        Ok(Some((pems, config)))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("config", &self.config).finish_non_exhaustive()
    }
}
