//! The HTTP clients of all connectors, and which addresses each may call.
//!
//! A connector with a `base_url` calls what its operator configured. Without one the *user* names
//! the host. Then it must be called over TLS, at an address of the public internet. That is checked
//! after name resolution, for every new connection, on the very addresses used. So a name that
//! resolves to a public address when checked and to a private one when called (rebinding) gains
//! nothing.

use std::sync::Arc;

use url::{Host, Url};

use super::dns::{CrmResolver, Dns};
use super::http_client::{self, HttpClient};

/// The clients that all connectors share.
#[derive(Debug, Clone)]
pub(crate) struct HttpClients {
    configured: Egress,
    named: Egress,
}

/// Two clients, and whether they may only call the public internet.
#[derive(Debug, Clone)]
pub(crate) struct Egress {
    pub(super) client: HttpClient,
    /// Keeps no connections: each call opens one. Used after a kept connection broke, because the
    /// next kept one may be as old.
    pub(super) afresh: HttpClient,
    only_public: bool,
}

impl HttpClients {
    /// TLS with the system's and Mozilla's roots, no redirects, no proxy.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn new(dns: &Dns) -> anyhow::Result<Self> {
        let tls = Arc::new(tls()?);
        let client = |only_public, kept| {
            let dns = dns.clone();
            HttpClient::new(CrmResolver { dns, only_public }, &tls, only_public, kept)
        };
        let egress = |only_public| Egress {
            client: client(only_public, http_client::KEPT),
            afresh: client(only_public, 0),
            only_public,
        };
        Ok(Self {
            configured: egress(false),
            named: egress(true),
        })
    }

    /// Which addresses a connector may call: its `base_url` if it has one, otherwise hosts that
    /// users name.
    #[must_use]
    pub(crate) fn egress(&self, has_base_url: bool) -> Egress {
        if has_base_url {
            self.configured.clone()
        } else {
            self.named.clone()
        }
    }
}

impl Egress {
    /// Returns whether users name the hosts.
    pub(super) fn is_named(&self) -> bool {
        self.only_public
    }

    /// Returns whether the URL may be called at all. An IP address in a URL is never resolved, so
    /// it is checked here.
    pub(super) fn allows(&self, url: &Url) -> bool {
        !self.only_public
            || (url.scheme() == "https" && matches!(url.host(), Some(Host::Domain(_))))
    }
}

fn tls() -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    // Mozilla's roots are compiled in, because a small container image often has none. The system's
    // are added, because a company's own authority is there.
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use tower_service::Service as _;

    use super::*;

    fn resolver(answers: &'static [&'static str], only_public: bool) -> CrmResolver {
        let dns = Dns::by(move |_| async move {
            Ok(answers.iter().map(|text| text.parse().unwrap()).collect())
        });
        CrmResolver { dns, only_public }
    }

    async fn resolved(
        answers: &'static [&'static str],
        only_public: bool,
    ) -> Result<Vec<String>, String> {
        let resolving = resolver(answers, only_public).call("crm.example.com".parse().unwrap());
        let addrs = resolving.await.map_err(|error| error.to_string())?;
        Ok(addrs.map(|addr| addr.to_string()).collect())
    }

    #[tokio::test]
    async fn of_a_mixed_answer_only_public_addresses_are_kept() {
        let mixed = &[
            "10.0.0.1:0",
            "8.8.8.8:0",
            "[::1]:0",
            "[2606:4700::1111]:0",
            "[::ffff:192.168.0.1]:0",
        ];
        assert_eq!(
            resolved(mixed, true).await.unwrap(),
            ["8.8.8.8:0", "[2606:4700::1111]:0"]
        );
        assert_eq!(
            resolved(mixed, false).await.unwrap().len(),
            5,
            "where a base_url leads is the operator's choice"
        );
        assert_eq!(
            resolved(&["10.0.0.1:0", "[fe80::1]:0"], true)
                .await
                .unwrap_err(),
            "no public address"
        );
        assert_eq!(resolved(&[], true).await.unwrap_err(), "no address");
    }

    #[tokio::test]
    async fn a_name_that_changes_its_address_is_judged_each_time() {
        let asked = std::sync::atomic::AtomicU16::new(0);
        let dns = Dns::by(move |_| {
            let first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            async move {
                Ok(vec![
                    if first { "8.8.8.8:0" } else { "127.0.0.1:0" }
                        .parse()
                        .unwrap(),
                ])
            }
        });
        let mut rebinding = CrmResolver {
            dns,
            only_public: true,
        };
        assert!(
            rebinding
                .call("crm.example.com".parse().unwrap())
                .await
                .is_ok()
        );
        assert!(
            rebinding
                .call("crm.example.com".parse().unwrap())
                .await
                .is_err()
        );
    }

    #[test]
    fn a_host_of_a_user_is_a_name_over_https() {
        let clients = HttpClients::new(&Dns::system()).unwrap();
        let (named, configured) = (clients.egress(false), clients.egress(true));
        for (url, permitted) in [
            ("https://acme.pipedrive.com/", true),
            ("http://acme.pipedrive.com/", false),
            ("https://127.0.0.1/", false),
            ("https://2130706433/", false),
            ("https://0x7f.1/", false),
            ("https://8.8.8.8/", false),
            ("https://[::1]/", false),
            ("https://[2606:4700::1111]/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(named.allows(&url), permitted, "{url}");
            assert!(configured.allows(&url), "{url}");
        }
    }
}
