//! TLS on the gRPC port.
//!
//! Reads the certificates, checks them, and reads them again when the files change. New handshakes
//! use the new ones, and existing connections stay. Unusable files change nothing: a certificate
//! that has expired, or is not valid yet, cannot come into use. One that expires in use stays in
//! use, and that is logged. Knows nothing of who may call; it only reports the name in a verified
//! certificate.

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

mod failure;
mod files;
mod name;
mod validity;
mod watch;

pub(crate) use watch::Watch;

use files::Pems;
use validity::{Expiry, Invalid};

/// The paths of the certificates, in PEM format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    /// The server's certificate, followed by its intermediate certificates.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// The authorities for client certificates. If absent, clients need none.
    pub(crate) client_ca: Option<PathBuf>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grpc.tls.{setting}: {message}")]
pub(crate) struct Error {
    /// The setting that names the file: cert, key or client_ca.
    pub(crate) setting: &'static str,
    /// What is wrong. Contains the path, never the content.
    pub(crate) message: String,
}

/// The certificates in use. Clones share them.
#[derive(Clone)]
pub(crate) struct Tls(Arc<TlsState>);

struct TlsState {
    in_use: RwLock<InUse>,
    clock: Arc<dyn Clock>,
}

struct InUse {
    config: TlsConfig,
    pems: Pems,
    server: Arc<ServerConfig>,
    endings: Vec<Expiry>,
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

/// Reads the files, and checks that they can be used at this time of day.
///
/// # Errors
/// If a file cannot be read, the files do not match, or one of the certificates has expired or is
/// not valid yet.
pub(crate) fn check(config: &TlsConfig, wall: Timestamp) -> Result<(), Error> {
    InUse::read(config, wall).map(|_| ())
}

impl Tls {
    /// Starts to use the certificates of these files.
    ///
    /// # Errors
    /// As [`check`].
    pub(crate) fn load(config: &TlsConfig, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let in_use = RwLock::new(InUse::read(config, clock.wall())?);
        Ok(Self(Arc::new(TlsState { in_use, clock })))
    }

    /// Reads files, and checks that they can replace those in use.
    ///
    /// # Errors
    /// As [`check`], but a file whose content is in use may have expired.
    pub(crate) fn check(&self, config: &TlsConfig) -> Result<(), Error> {
        self.read(config).map(|_| ())
    }

    /// Switches to other files. Returns whether anything changed. An error changes nothing.
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

    /// Reads the files in use again. Returns whether anything changed. An error changes nothing.
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
        // Other files came into use meanwhile and take precedence.
        let still_wanted = in_use.config == config;
        if still_wanted {
            *in_use = new;
        }
        Ok(still_wanted)
    }

    /// The files in use that contain an expired certificate.
    pub(crate) fn expired(&self) -> Vec<Error> {
        let wall = self.0.clock.wall();
        let endings = self.endings().into_iter();
        endings.filter_map(|ending| expired(ending, wall)).collect()
    }

    fn endings(&self) -> Vec<Expiry> {
        self.0.in_use.read().endings.clone()
    }

    /// Performs a TLS handshake. It ends only when the peer lets it; the caller limits the time.
    ///
    /// # Errors
    /// If the peer does not speak TLS, or sends no acceptable certificate.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.in_use.read().server);
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// Why a handshake failed, without anything that the peer sent. `None` if the peer only closed the
/// connection.
#[must_use]
pub(crate) fn failure(error: &std::io::Error) -> Option<&'static str> {
    failure::reason(error)
}

/// Returns whether the peer sent a certificate.
#[must_use]
pub(crate) fn is_verified(stream: &TlsStream<TcpStream>) -> bool {
    stream
        .get_ref()
        .1
        .peer_certificates()
        .is_some_and(|chain| !chain.is_empty())
}

/// The name in the peer's certificate: its first DNS name, or else its common name.
#[must_use]
pub(crate) fn peer_name(stream: &TlsStream<TcpStream>) -> Option<String> {
    name::of(stream.get_ref().1.peer_certificates()?.first()?)
}

/// The fault of a certificate that has expired.
fn expired(ending: Expiry, wall: Timestamp) -> Option<Error> {
    let Err(invalid @ Invalid::Expired(_)) = ending.validity.check(wall) else {
        return None;
    };
    Some(Error {
        setting: ending.setting,
        message: format!(
            "a certificate of this file {invalid} and is still in use: replace the file"
        ),
    })
}
