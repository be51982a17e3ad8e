//! The certificates to trust for TLS, from a PEM file.
//!
//! Parses the file of `redis.ca_file`: at least one certificate, and all must be usable.

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// At least one certificate.
#[derive(Debug, Clone)]
pub struct CaCertificates(Vec<u8>);

/// A file contains no usable certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holds no certificate in PEM format that can be used")]
pub struct CaCertificatesError;

impl CaCertificates {
    /// Parses the content of a PEM file.
    ///
    /// # Errors
    /// [`CaCertificatesError`] if there is no certificate, or a damaged one.
    pub fn parse(pem: Vec<u8>) -> Result<Self, CaCertificatesError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| CaCertificatesError)?;
            roots.add(certificate).map_err(|_| CaCertificatesError)?;
        }
        if roots.is_empty() {
            Err(CaCertificatesError)
        } else {
            Ok(Self(pem))
        }
    }

    pub(super) fn pem(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_certificates_is_refused() {
        let damaged = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        for text in ["", "no certificate", damaged] {
            assert_eq!(
                CaCertificates::parse(text.as_bytes().to_vec()).unwrap_err(),
                CaCertificatesError,
                "{text}"
            );
        }
    }
}
