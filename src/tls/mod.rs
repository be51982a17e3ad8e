//! TLS on the gRPC port.
//!
//! Owns the certificates: reads them, checks them, and reads them again when the files change.
//! Promises that new handshakes use the new ones, that connections which are there stay, and that
//! files which cannot be used change nothing: a file with a certificate that has expired, or is not
//! valid yet, cannot come into use. One that expires in use stays there, and is told of. Knows nothing of who may call; it only reports the name in a certificate that it
//! has verified.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock::Clock;
use crate::domain::Timestamp;

mod files;
mod name;
mod validity;
mod watch;

pub(crate) use watch::Watch;

use files::Pems;
use validity::{Ending, Invalid};

/// Where the certificates are, in PEM format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    /// The server's certificate, the ones between it and its authority behind it.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// The authorities whose certificates clients must have. Without it, clients need none.
    pub(crate) client_ca: Option<PathBuf>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grpc.tls.{setting}: {message}")]
pub(crate) struct Error {
    /// The setting that names the file: cert, key or client_ca.
    pub(crate) setting: &'static str,
    /// What is wrong. Holds the path, never the content.
    pub(crate) message: String,
}

/// The certificates in use. Clones share them.
#[derive(Clone)]
pub(crate) struct Tls(Arc<Shared>);

struct Shared {
    in_use: RwLock<InUse>,
    clock: Arc<dyn Clock>,
}

struct InUse {
    config: TlsConfig,
    pems: Pems,
    server: Arc<ServerConfig>,
    endings: Vec<Ending>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

impl InUse {
    fn read(config: &TlsConfig, wall: Timestamp) -> Result<Self, Error> {
        Self::of(Pems::read(config)?, config, wall, None)
    }

    fn of(
        pems: Pems,
        config: &TlsConfig,
        wall: Timestamp,
        in_use: Option<&Pems>,
    ) -> Result<Self, Error> {
        let (server, endings) = pems.server_config(config, wall, in_use)?;
        Ok(Self {
            config: config.clone(),
            pems,
            server,
            endings,
        })
    }
}

/// Reads the files, and reports whether they can be used at this time of day.
///
/// # Errors
/// If one cannot be read, they do not fit together, or one of the certificates in them has expired
/// or is not valid yet.
pub(crate) fn check(config: &TlsConfig, wall: Timestamp) -> Result<(), Error> {
    InUse::read(config, wall).map(|_| ())
}

impl Tls {
    /// Takes the certificates of these files into use.
    ///
    /// # Errors
    /// As [`check`].
    pub(crate) fn load(config: &TlsConfig, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let in_use = RwLock::new(InUse::read(config, clock.wall())?);
        Ok(Self(Arc::new(Shared { in_use, clock })))
    }

    /// Reads files, and reports whether they can come into use in the place of those that are.
    ///
    /// # Errors
    /// As [`check`], but a file that holds what is in use may have expired.
    pub(crate) fn check(&self, config: &TlsConfig) -> Result<(), Error> {
        self.read(config).map(|_| ())
    }

    /// Takes other files into use. Returns whether anything is different. After an error nothing
    /// is.
    ///
    /// # Errors
    /// As [`Tls::check`].
    pub(crate) fn exchange(&self, config: &TlsConfig) -> Result<bool, Error> {
        let new = self.read(config)?;
        let mut in_use = self.0.in_use.write();
        let changed = in_use.pems != new.pems;
        *in_use = new;
        Ok(changed)
    }

    fn read(&self, config: &TlsConfig) -> Result<InUse, Error> {
        let pems = Pems::read(config)?;
        let in_use = self.0.in_use.read();
        InUse::of(pems, config, self.0.clock.wall(), Some(&in_use.pems))
    }

    /// Reads the files that are in use again. Returns whether anything is different. After an error
    /// nothing is.
    fn look_again(&self) -> Result<bool, Error> {
        let config = self.0.in_use.read().config.clone();
        let pems = Pems::read(&config)?;
        let new = {
            let in_use = self.0.in_use.read();
            if pems == in_use.pems {
                return Ok(false);
            }
            InUse::of(pems, &config, self.0.clock.wall(), Some(&in_use.pems))?
        };
        let mut in_use = self.0.in_use.write();
        // Other files came into use meanwhile: theirs is the last word.
        let still_wanted = in_use.config == config;
        if still_wanted {
            *in_use = new;
        }
        Ok(still_wanted)
    }

    /// The files in use that hold a certificate which has expired.
    pub(crate) fn expired(&self) -> Vec<Error> {
        let wall = self.0.clock.wall();
        let expired = |ending: &Ending| match ending.validity.check(wall) {
            Err(invalid @ Invalid::Expired(_)) => Some(Error {
                setting: ending.setting,
                message: format!(
                    "a certificate of this file {invalid} and is still in use: replace the file"
                ),
            }),
            _ => None,
        };
        self.endings().iter().filter_map(expired).collect()
    }

    fn endings(&self) -> Vec<Ending> {
        self.0.in_use.read().endings.clone()
    }

    /// Shakes hands. Ends whenever the other side lets it; the caller limits the time.
    ///
    /// # Errors
    /// Where the other side does not speak TLS, or shows no certificate that is wanted.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.in_use.read().server);
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// Whether the other side has shown a certificate.
#[must_use]
pub(crate) fn is_verified(stream: &TlsStream<TcpStream>) -> bool {
    stream
        .get_ref()
        .1
        .peer_certificates()
        .is_some_and(|chain| !chain.is_empty())
}

/// The name in the certificate that the other side has shown: its first DNS name, else its common
/// name.
#[must_use]
pub(crate) fn peer_name(stream: &TlsStream<TcpStream>) -> Option<String> {
    name::of(stream.get_ref().1.peer_certificates()?.first()?)
}
