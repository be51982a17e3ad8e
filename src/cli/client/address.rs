//! The daemon's address, as `--server` gives it.

use tonic::codegen::http::uri::{Authority, Uri};
use tonic::transport::Endpoint;

use crate::cli::Failure;

/// The port of an address that has neither a scheme nor a port.
const PORT: u16 = 50051;

/// Where the daemon is, and whether the connection is encrypted.
#[derive(Debug, Clone)]
pub(super) struct ServerAddress(Uri);

impl ServerAddress {
    /// Parses a URL or `HOST[:PORT]`. Without a scheme, the connection is encrypted if
    /// `has_certificates`.
    ///
    /// # Errors
    /// If it is neither; the message says what to write.
    pub(super) fn parse(text: &str, has_certificates: bool) -> Result<Self, Failure> {
        let wrong = |advice: &str| Failure::Misused(format!("--server {text:?} {advice}"));
        let no_url = || wrong("is not a URL such as http://127.0.0.1:50051");
        let url = match text.split_once("://") {
            Some(("http" | "https", _)) => text.to_owned(),
            Some((_, address)) => {
                return Err(wrong(&format!(
                    "does not begin with http:// or https://: write http://{address}, or https://{address} if the \
                     daemon has grpc.tls"
                )));
            }
            None => with_scheme(text, has_certificates),
        };
        let uri: Uri = url.parse().map_err(|_| no_url())?;
        let host = uri.host().filter(|host| !host.is_empty());
        // `Uri` accepts ports that are no numbers, and a user before the host.
        let is_whole = uri.port_u16().is_some() || host == uri.authority().map(Authority::as_str);
        if host.is_none() || !is_whole {
            return Err(no_url());
        }
        Ok(Self(uri))
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::from(self.0.clone())
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The host, without the brackets of an IPv6 address.
    pub(super) fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        let default = if self.is_encrypted() { 443 } else { 80 };
        self.0.port_u16().unwrap_or(default)
    }

    /// Host and port, as a URL has them after its scheme.
    pub(super) fn authority(&self) -> &str {
        self.0.authority().map_or("", Authority::as_str)
    }
}

fn with_scheme(address: &str, has_certificates: bool) -> String {
    let scheme = if has_certificates { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    let has_port = url.parse::<Uri>().is_ok_and(|uri| uri.port().is_some());
    let is_bare = !address.is_empty() && !address.contains('/') && !has_port;
    if is_bare {
        format!("{url}:{PORT}")
    } else {
        url
    }
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, has_certificates: bool) -> String {
        ServerAddress::parse(text, has_certificates)
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_scheme_that_is_left_out_follows_from_the_certificates() {
        for (text, plain, encrypted) in [
            (
                "127.0.0.1:50051",
                "http://127.0.0.1:50051",
                "https://127.0.0.1:50051",
            ),
            ("localhost:7", "http://localhost:7", "https://localhost:7"),
            (
                "contactd.example",
                "http://contactd.example:50051",
                "https://contactd.example:50051",
            ),
            ("[::1]:7", "http://[::1]:7", "https://[::1]:7"),
            ("[::1]", "http://[::1]:50051", "https://[::1]:50051"),
            ("http://a", "http://a", "http://a"),
            ("https://a:1/", "https://a:1", "https://a:1"),
        ] {
            assert_eq!(
                (parsed(text, false), parsed(text, true)),
                (plain.to_owned(), encrypted.to_owned())
            );
        }
        assert_eq!(
            ServerAddress::parse("https://[::1]", true).unwrap().host(),
            "::1"
        );
        assert_eq!(ServerAddress::parse("https://a", true).unwrap().port(), 443);
    }

    #[test]
    fn what_is_no_address_is_refused_with_one_that_is() {
        for text in [
            "",
            "http://",
            "not a url",
            "/run/contactd.sock",
            "grpc://a:1",
            "http://a:b",
        ] {
            let refused = ServerAddress::parse(text, false).unwrap_err().words();
            assert!(
                refused.contains("--server") && refused.contains("http://"),
                "{text:?}: {refused}"
            );
        }
    }
}
