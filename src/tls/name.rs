//! The name in a certificate.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};

/// The first DNS name of a certificate, or else its common name. The handshake has already verified
/// the certificate.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let certificate = certificate.tbs_certificate();
    let names = certificate.get_extension::<SubjectAltName>().ok().flatten();
    let dns_name = names
        .into_iter()
        .flat_map(|(_, names)| names.0)
        .find_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            _ => None,
        });
    dns_name.or_else(|| text(&certificate.subject().common_name().ok()??))
}

fn text(name: &DirectoryString) -> Option<String> {
    match name {
        DirectoryString::PrintableString(name) => Some(name.to_string()),
        DirectoryString::Utf8String(name) => Some(name.clone()),
        DirectoryString::TeletexString(name) => Some(name.to_string()),
        DirectoryString::BmpString(_) => None,
    }
}
