//! Why a TLS handshake failed, in words that contain nothing that the peer sent.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The reason. `None` if the peer only closed the connection, as probes of a port do.
pub(super) fn reason(error: &io::Error) -> Option<&'static str> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::NoCertificatesPresented => "the client sent no certificate",
        Error::InvalidCertificate(invalid) => certificate(invalid),
        Error::AlertReceived(alert) => rejected(*alert),
        Error::InvalidMessage(_) => "the client does not speak TLS",
        Error::PeerIncompatible(_) => "client and server have no TLS version or cipher in common",
        _ => "the handshake failed",
    })
}

fn certificate(invalid: &CertificateError) -> &'static str {
    match invalid {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the client's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the client's certificate is not valid yet"
        }
        // An authority of the same name has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the client's certificate comes from no authority in grpc.tls.client_ca"
        }
        _ => "the client's certificate is not acceptable",
    }
}

fn rejected(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        // The client knows an authority of the same name, with another key.
        | AlertDescription::DecryptError => {
            "the client does not accept the server's certificate"
        }
        _ => "the client broke the handshake off",
    }
}
