//! The files of certificates: read, checked, made into what rustls wants.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use secrecy::{ExposeSecret as _, SecretSlice};

use super::validity::Validity;
use super::{Config, Error};
use crate::domain::Timestamp;

/// The only protocol that is spoken behind the handshake (ALPN).
const HTTP2: &[u8] = b"h2";

/// What the files hold.
pub(super) struct Pems {
    cert: Vec<u8>,
    key: SecretSlice<u8>,
    client_ca: Option<Vec<u8>>,
}

impl PartialEq for Pems {
    fn eq(&self, other: &Self) -> bool {
        let key = self.key.expose_secret() == other.key.expose_secret();
        key && self.cert == other.cert && self.client_ca == other.client_ca
    }
}

impl Pems {
    pub(super) fn read(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            cert: read("cert", &config.cert)?,
            key: read("key", &config.key)?.into(),
            client_ca: config
                .client_ca
                .as_deref()
                .map(|path| read("client_ca", path))
                .transpose()?,
        })
    }

    /// Checks that the files fit together and that the server's certificate is valid at this time
    /// of day.
    pub(super) fn server_config(
        &self,
        config: &Config,
        wall: Timestamp,
    ) -> Result<(Arc<ServerConfig>, Validity), Error> {
        let of = |setting: &'static str, path: &Path, words: &str| {
            let message = format!("{} {words}", path.display());
            Error { setting, message }
        };
        let chain = certificates(&self.cert).map_err(|words| of("cert", &config.cert, words))?;
        // Only the server's own. One further up may have an expired twin beside it that nobody's
        // path leads through.
        let validity = chain.first().and_then(Validity::of);
        let validity =
            validity.ok_or_else(|| of("cert", &config.cert, "holds a certificate that is none"))?;
        validity
            .check(wall)
            .map_err(|invalid| of("cert", &config.cert, &invalid.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret())
            .map_err(|_| of("key", &config.key, "holds no private key in PEM format"))?;

        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| of("cert", &config.cert, &error.to_string()))?;
        let builder = match (&self.client_ca, &config.client_ca) {
            (Some(pem), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for certificate in
                    certificates(pem).map_err(|words| of("client_ca", path, words))?
                {
                    roots
                        .add(certificate)
                        .map_err(|_| of("client_ca", path, "holds a certificate that is none"))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| of("client_ca", path, &error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => of(
                    "key",
                    &config.key,
                    "is not the key of the certificate in grpc.tls.cert",
                ),
                rustls::Error::InvalidCertificate(_) => {
                    of("cert", &config.cert, "holds a certificate that is none")
                }
                other => of("key", &config.key, &format!("cannot be used: {other}")),
            })?;
        server.alpn_protocols.push(HTTP2.to_vec());
        Ok((Arc::new(server), validity))
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error {
        setting,
        message: format!("{} cannot be read: {error}", path.display()),
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("holds no certificate in PEM format"),
    }
}
