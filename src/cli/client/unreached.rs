//! Why the daemon could not be reached, in words for the person at the terminal: nobody listens, a
//! TLS handshake failed, or one side encrypts and the other does not.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustls::{AlertDescription, CertificateError};

use super::address::ServerAddress;
use super::probe::{self, ClientFiles};
use crate::cli::Failure;

/// What tonic says if a TLS handshake takes too long, and hyper-util if a name cannot be resolved.
/// The types of these errors are private; a test notices other words.
const HANDSHAKE_TIMEOUT: &str = "TLS handshake timeout.";
const NO_ADDRESS: &str = "dns error";

/// What to do about a certificate that cannot be used.
const INIT: &str = "`contactd tls init DIR` makes an authority and a certificate that it issues.";

/// A connection that was tried.
pub(super) struct Attempt<'a> {
    pub(super) server: &'a ServerAddress,
    pub(super) files: ClientFiles<'a>,
}

impl Attempt<'_> {
    /// The failure, as what went wrong and what to do about it.
    pub(super) fn failure(&self, error: &(dyn Error + 'static)) -> Failure {
        let (what, advice) = self.words(error);
        Failure::Failed(anyhow::anyhow!("{what}\n  {advice}"))
    }

    fn words(&self, error: &(dyn Error + 'static)) -> (String, String) {
        if let Some(error) = chain(error).find_map(tls_error) {
            return self.handshake(error);
        }
        let says = |words| chain(error).any(|error| error.to_string() == words);
        if says(NO_ADDRESS) {
            let what = format!("the name {:?} has no address", self.server.host());
            return (what, "Check --server or CONTACTD_SERVER.".to_owned());
        }
        let io = chain(error).find_map(<dyn Error>::downcast_ref::<io::Error>);
        let late = says(HANDSHAKE_TIMEOUT).then_some(ErrorKind::TimedOut);
        match late.or(io.map(io::Error::kind)) {
            Some(ErrorKind::ConnectionRefused) => {
                let what = format!("no daemon at {}: nothing listens there", self.server);
                (what, "Is `contactd serve` running?".to_owned())
            }
            Some(ErrorKind::TimedOut) => {
                let what = format!("{} does not answer", self.server);
                (what, "Check --server, and firewalls in between.".to_owned())
            }
            _ => self.broken(error),
        }
    }

    /// The connection was made, then it broke. TLS gives no reason.
    fn broken(&self, error: &(dyn Error + 'static)) -> (String, String) {
        let (server, authority) = (self.server, self.server.authority());
        let is_tls = probe::speaks_tls(server);
        if !server.is_encrypted() && is_tls == Some(true) {
            let what = format!("{server} expects TLS, and http:// sends plain text");
            return (what, self.write_https());
        }
        if server.is_encrypted() && is_tls == Some(false) {
            return self.no_tls();
        }
        let alert = (server.is_encrypted()).then(|| probe::alert(server, self.files));
        if let Some(alert) = alert.flatten() {
            return self.alert(alert);
        }
        let innermost = chain(error).last().map(ToString::to_string);
        let what = format!(
            "{server} broke the connection: {}",
            innermost.unwrap_or_default()
        );
        let advice = if server.is_encrypted() {
            self.on_certificates()
        } else {
            format!("Is {authority} the address in the daemon's grpc.listen?")
        };
        (what, advice)
    }

    fn write_https(&self) -> String {
        let authority = self.server.authority();
        match self.files.ca {
            Some(_) => format!("Write --server https://{authority}."),
            None => format!(
                "Write --server https://{authority}, and give its authority with --ca-file if the system does not \
                 trust it."
            ),
        }
    }

    fn no_tls(&self) -> (String, String) {
        let (server, authority) = (self.server, self.server.authority());
        let what = format!("{server} did not complete the TLS handshake: it does not speak TLS");
        let advice = format!("If the daemon has no grpc.tls, write --server http://{authority}.");
        (what, advice)
    }

    fn handshake(&self, error: &rustls::Error) -> (String, String) {
        match error {
            rustls::Error::InvalidCertificate(error) => self.certificate(error),
            rustls::Error::AlertReceived(alert) => self.alert(*alert),
            rustls::Error::InvalidMessage(_) => self.no_tls(),
            other => {
                let what = format!(
                    "{} did not complete the TLS handshake: {other}",
                    self.server
                );
                (what, self.on_certificates())
            }
        }
    }

    /// The daemon's certificate is not accepted here.
    fn certificate(&self, error: &CertificateError) -> (String, String) {
        let server = self.server;
        let untrusted = |why: &str| format!("the certificate of {server} is not trusted: {why}");
        match error {
            // Two authorities with one name differ only in their keys.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                (self.unknown_issuer(), self.trust())
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                untrusted("it has expired"),
                "Give the daemon a new one (grpc.tls.cert).".to_owned(),
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                untrusted("it is not valid yet"),
                "Check the clocks of both machines.".to_owned(),
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                self.other_name(error)
            }
            // The name in rustls-webpki, whose error rustls does not translate.
            CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => (
                untrusted(
                    "it is a CA certificate (CA:TRUE), like the one that `openssl req -x509` makes",
                ),
                format!("A server needs one that an authority issued: {INIT}"),
            ),
            other => (untrusted(&other.to_string()), self.trust()),
        }
    }

    fn unknown_issuer(&self) -> String {
        let server = self.server;
        match self.files.ca {
            Some(file) => format!(
                "the certificate of {server} is not trusted: it does not come from the authority in {}",
                file.display()
            ),
            None => format!(
                "the certificate of {server} is not trusted: its authority is unknown to the system"
            ),
        }
    }

    fn trust(&self) -> String {
        match self.files.ca {
            Some(_) => "Give the authority that issued grpc.tls.cert with --ca-file.".to_owned(),
            None => "Give its authority (PEM) with --ca-file or CONTACTD_CA_FILE.".to_owned(),
        }
    }

    fn other_name(&self, error: &CertificateError) -> (String, String) {
        let presented = match error {
            CertificateError::NotValidForNameContext { presented, .. } => presented.as_slice(),
            _ => &[],
        };
        let host = self.server.host();
        let what = format!("the certificate of {} is not for {host:?}", self.server);
        let advice = if presented.is_empty() {
            format!("It has no subjectAltName. {INIT}")
        } else {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names = names.join(", ");
            format!(
                "It is for {names}. Use one of these names in --server, or issue a certificate for {host:?}."
            )
        };
        (what, advice)
    }

    /// The daemon does not accept this side's certificate, or requires one and got none.
    fn alert(&self, alert: AlertDescription) -> (String, String) {
        let server = self.server;
        let refused = matches!(
            alert,
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::HandshakeFailure
        );
        let advice = "Give one with --cert-file and --key-file.".to_owned();
        if !refused {
            let what = format!("{server} did not complete the TLS handshake: {alert:?}");
            return (what, self.on_certificates());
        }
        let Some(file) = self.files.cert.map(Path::display) else {
            let what = format!("{server} requires a client certificate (grpc.tls.client_ca)");
            return (what, advice);
        };
        let why = match alert {
            AlertDescription::CertificateExpired => "it has expired, or is not valid yet",
            _ => "it does not come from an authority in grpc.tls.client_ca",
        };
        let what = format!("{server} does not accept the client certificate in {file}: {why}");
        (what, advice.replace("one", "another one"))
    }

    /// What may be wrong if TLS gives no reason.
    fn on_certificates(&self) -> String {
        match self.files.cert {
            None => "The daemon may require a client certificate (grpc.tls.client_ca): give --cert-file and --key-file."
                .to_owned(),
            Some(_) => "The certificate in --cert-file has to come from an authority in grpc.tls.client_ca.".to_owned(),
        }
    }
}

/// `DnsName("a")` or `IpAddress(127.0.0.1)` without its kind.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest);
    inner.trim_end_matches(')').trim_matches('"')
}

/// An error and its sources.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// An error of TLS.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || probe::tls_error(error.downcast_ref::<io::Error>()?);
    error.downcast_ref().or_else(wrapped)
}
