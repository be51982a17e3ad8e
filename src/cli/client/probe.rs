//! What a port answers to TLS, for an error message: asked only after a connection broke.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore};

use super::address::ServerAddress;

/// How long the message may wait for the answer.
const LIMIT: Duration = Duration::from_secs(2);

/// The first byte of what a TLS server sends: a handshake message, or an alert.
const TLS: [u8; 2] = [0x16, 0x15];

/// The files of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientFiles<'a> {
    pub(super) ca: Option<&'a Path>,
    pub(super) cert: Option<&'a Path>,
    pub(super) key: Option<&'a Path>,
}

/// Sends the first message of a TLS handshake, and returns whether TLS comes back. `None` if
/// nothing comes back.
pub(super) fn speaks_tls(server: &ServerAddress) -> Option<bool> {
    let nobody = ClientFiles {
        ca: None,
        cert: None,
        key: None,
    };
    let mut hello = Vec::new();
    let mut tls = client(server, nobody, RootCertStore::empty())?;
    tls.write_tls(&mut hello).ok()?;
    let mut stream = connect(server)?;
    stream.write_all(&hello).ok()?;
    let mut first = [0];
    match stream.read(&mut first) {
        // A server of plain HTTP/2 may hang up without a word.
        Ok(0) => Some(false),
        Ok(_) => Some(TLS.contains(&first[0])),
        Err(_) => None,
    }
}

/// The alert with which the server ends a connection after the handshake, if it does. The
/// connection that broke may have lost it.
pub(super) fn alert(server: &ServerAddress, files: ClientFiles<'_>) -> Option<AlertDescription> {
    let mut tls = client(server, files, roots(files.ca)?)?;
    let mut stream = connect(server)?;
    let error = rustls::Stream::new(&mut tls, &mut stream)
        .read(&mut [0])
        .err()?;
    match tls_error(&error)? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// What TLS says, which `io::Error` wraps and does not report as its source.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn connect(server: &ServerAddress) -> Option<TcpStream> {
    let mut addresses = (server.host(), server.port()).to_socket_addrs().ok()?;
    let stream = addresses.find_map(|address| TcpStream::connect_timeout(&address, LIMIT).ok())?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    Some(stream)
}

fn client(
    server: &ServerAddress,
    files: ClientFiles<'_>,
    roots: RootCertStore,
) -> Option<ClientConnection> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots);
    let config = match (files.cert, files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key).ok()?;
            config.with_client_auth_cert(chain, key).ok()?
        }
        _ => config.with_no_client_auth(),
    };
    let name = ServerName::try_from(server.host().to_owned()).ok()?;
    ClientConnection::new(Arc::new(config), name).ok()
}

fn roots(ca_file: Option<&Path>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(match ca_file {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    });
    Some(roots)
}

fn certificates(path: &Path) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .ok()?
        .collect::<Result<_, _>>()
        .ok()
}
