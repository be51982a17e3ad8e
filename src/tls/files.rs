//! The certificate files: read, checked, and converted for rustls.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use secrecy::{ExposeSecret as _, SecretSlice};

use super::validity::{Expiry, Validity};
use super::{Error, TlsConfig};
use crate::domain::Timestamp;

/// The protocols offered in the handshake (ALPN), the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The content of the files.
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
    pub(super) fn read(config: &TlsConfig) -> Result<Self, Error> {
        Ok(Self {
            cert: read("cert", &config.cert)?,
            key: read("key", &config.key)?.into(),
            client_ca: match &config.client_ca {
                Some(path) => Some(read("client_ca", path)?),
                None => None,
            },
        })
    }

    /// Checks that the files match and that each certificate in them is valid at this time of day.
    /// A file whose content is already in use may have expired since: that is reported, and does
    /// not keep other settings from changing.
    pub(super) fn server_config(
        &self,
        config: &TlsConfig,
        wall: Timestamp,
        in_use: Option<&Self>,
    ) -> Result<(Arc<ServerConfig>, Vec<Expiry>), Error> {
        let chain = Certificates::parse("cert", &config.cert, &self.cert)?;
        if in_use.is_none_or(|in_use| in_use.cert != self.cert) {
            chain.check(wall)?;
        }
        let authorities = self.authorities(config)?;
        if let Some(authorities) = &authorities
            && in_use.is_none_or(|in_use| in_use.client_ca != self.client_ca)
        {
            authorities.check(wall)?;
        }
        let endings = std::iter::once(&chain).chain(&authorities);
        let endings = endings.filter_map(Certificates::ending).collect();
        let server = self.server(config, chain, authorities)?;
        Ok((Arc::new(server), endings))
    }

    /// The certificates that sign those of clients, if clients need one.
    fn authorities<'a>(&self, config: &'a TlsConfig) -> Result<Option<Certificates<'a>>, Error> {
        match (&config.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => Certificates::parse("client_ca", path, pem).map(Some),
            _ => Ok(None),
        }
    }

    fn server(
        &self,
        config: &TlsConfig,
        chain: Certificates<'_>,
        authorities: Option<Certificates<'_>>,
    ) -> Result<ServerConfig, Error> {
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret());
        let key = key.map_err(|_| of_key(config, "holds no private key in PEM format"))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| chain.error(&error.to_string()))?;
        let builder = match authorities {
            Some(authorities) => builder.with_client_cert_verifier(authorities.verifier(provider)?),
            None => builder.with_no_client_auth(),
        };
        let server = builder.with_single_cert(chain.ders, key);
        let mut server = server.map_err(|fault| misfit(config, fault))?;
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(server)
    }
}

fn of_key(config: &TlsConfig, words: &str) -> Error {
    error("key", &config.key, words)
}

/// Why the certificate and the key cannot be used together.
fn misfit(config: &TlsConfig, fault: rustls::Error) -> Error {
    match fault {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            of_key(config, "is not the key of the certificate in grpc.tls.cert")
        }
        rustls::Error::InvalidCertificate(_) => error(
            "cert",
            &config.cert,
            "holds a certificate that cannot be parsed",
        ),
        other => of_key(config, &format!("cannot be used: {other}")),
    }
}

/// The certificates of one file, at least one.
struct Certificates<'a> {
    setting: &'static str,
    path: &'a Path,
    ders: Vec<CertificateDer<'static>>,
    validities: Vec<Validity>,
}

impl<'a> Certificates<'a> {
    fn parse(setting: &'static str, path: &'a Path, pem: &[u8]) -> Result<Self, Error> {
        let ders: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .unwrap_or_default();
        if ders.is_empty() {
            return Err(error(setting, path, "holds no certificate in PEM format"));
        }
        let validities: Option<_> = ders.iter().map(Validity::of).collect();
        let none = || error(setting, path, "holds a certificate that cannot be parsed");
        Ok(Self {
            setting,
            path,
            validities: validities.ok_or_else(none)?,
            ders,
        })
    }

    /// Checks every certificate of the file, even one that a verifier does not need: some clients
    /// fail on it, and only this check can name it.
    fn check(&self, wall: Timestamp) -> Result<(), Error> {
        let count = self.validities.len();
        for (n, validity) in self.validities.iter().enumerate() {
            let which = which_of(n, count);
            let fault = |invalid| self.error(&format!("holds {which} that {invalid}"));
            validity.check(wall).map_err(fault)?;
        }
        Ok(())
    }

    fn ending(&self) -> Option<Expiry> {
        let validity = self.validities.iter().min_by_key(|validity| validity.to)?;
        Some(Expiry {
            setting: self.setting,
            validity: *validity,
        })
    }

    fn verifier(
        self,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let (setting, path) = (self.setting, self.path);
        let mut roots = RootCertStore::empty();
        for certificate in self.ders {
            roots
                .add(certificate)
                .map_err(|_| error(setting, path, "holds a certificate that cannot be parsed"))?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|fault| error(setting, path, &fault.to_string()))
    }

    fn error(&self, words: &str) -> Error {
        error(self.setting, self.path, words)
    }
}

fn error(setting: &'static str, path: &Path, words: &str) -> Error {
    Error {
        setting,
        message: format!("{} {words}", path.display()),
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|fault| error(setting, path, &format!("cannot be read: {fault}")))
}

/// A certificate of a file, for a person. `n` counts from 0.
fn which_of(n: usize, count: usize) -> String {
    match count {
        1 => "a certificate".to_owned(),
        _ => format!("a certificate (number {} of {count})", n + 1),
    }
}
