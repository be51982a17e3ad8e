//! The HTTP clients of the door, and where each may go.
//!
//! A connector with a `base_url` goes where its operator says. Without one the *user* names the host, and then the name
//! must lead to the public internet, over TLS. That is decided after name resolution and for every new connection, on
//! the very addresses that are connected to: a name that resolves to a public address while it is looked at and to a
//! private one when it is called (rebinding) gains nothing.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use url::{Host, Url};

use super::addresses::is_public;

/// Header lines of one reply over HTTP/1; more break the call.
const HEADER_LINES: usize = 100;

/// Bytes of the headers of one reply over HTTP/2, names included; more break the call.
const HEADER_BYTES: u32 = 16 * 1024;

/// How often a connection over HTTP/2 is asked whether it still works, and how long it may take to say so. Many calls
/// share it, so a dead one must not be found out by each of them in turn.
const ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));

type Lookup = dyn Fn(&str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// How names become addresses.
#[derive(Clone)]
pub struct Dns(Arc<Lookup>);

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns(…)")
    }
}

impl Dns {
    /// The system's way (`getaddrinfo`).
    #[must_use]
    pub fn system() -> Self {
        Self::by(|name| {
            let name = name.to_owned();
            async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }
        })
    }

    /// Another way. Port 0 stands for the port of the URL or its scheme.
    #[must_use]
    pub fn by<F>(lookup: impl Fn(&str) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |name| Box::pin(lookup(name))))
    }

    async fn addresses(lookup: BoxFuture<'static, io::Result<Vec<SocketAddr>>>, only_public: bool) -> Resolved {
        let all = lookup.await?;
        let some = !all.is_empty();
        let kept: Vec<SocketAddr> = all.into_iter().filter(|addr| !only_public || is_public(addr.ip())).collect();
        if some && kept.is_empty() {
            return Err(NotPublic.into());
        }
        Ok(Box::new(kept.into_iter()))
    }
}

type Resolved = Result<Addrs, Box<dyn std::error::Error + Send + Sync>>;

/// A name that a user gave leads to no public address.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
pub(super) struct NotPublic;

impl NotPublic {
    /// Whether this is why a call failed.
    pub(super) fn caused(error: &reqwest::Error) -> bool {
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

struct Resolver {
    dns: Dns,
    only_public: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(Dns::addresses((self.dns.0)(name.as_str()), self.only_public))
    }
}

/// The clients that all doors share.
#[derive(Debug, Clone)]
pub struct Clients {
    configured: Way,
    named: Way,
}

/// Two clients, and whether they may leave for the public internet only.
#[derive(Debug, Clone)]
pub struct Way {
    pub(super) client: reqwest::Client,
    /// Keeps no connection: each call opens one. If a kept one broke, the next kept one may be as old.
    pub(super) afresh: reqwest::Client,
    only_public: bool,
}

impl Clients {
    /// TLS with the system's and Mozilla's roots, no redirects, no proxy.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(dns: &Dns) -> anyhow::Result<Self> {
        let tls = tls()?;
        let client = |only_public| {
            let resolver = Resolver { dns: dns.clone(), only_public };
            builder(tls.clone()).https_only(only_public).dns_resolver(resolver)
        };
        let way = |only_public| -> reqwest::Result<Way> {
            let afresh = client(only_public).pool_max_idle_per_host(0).build()?;
            Ok(Way { client: client(only_public).build()?, afresh, only_public })
        };
        Ok(Self { configured: way(false)?, named: way(true)? })
    }

    /// The way of a connector: to its `base_url` if it has one, else to hosts that users name.
    #[must_use]
    pub fn way(&self, has_base_url: bool) -> Way {
        if has_base_url { self.configured.clone() } else { self.named.clone() }
    }
}

impl Way {
    /// Whether the URL may be called at all. An IP address in a URL is never resolved, so it is judged here.
    pub(super) fn permits(&self, url: &Url) -> bool {
        !self.only_public || (url.scheme() == "https" && matches!(url.host(), Some(Host::Domain(_))))
    }
}

/// A client that goes anywhere, for tests.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    Ok(builder(tls()?).build()?)
}

fn tls() -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    // Mozilla's roots are compiled in, because a small container image often has none; the system's come on top,
    // because a company's own authority is there.
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

fn builder(tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        // What is sent again takes a permit of its own, so it is sent by the door.
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(Duration::from_secs(3))
        .http1_max_headers(HEADER_LINES)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keep_alive_interval(ALIVE.0)
        .http2_keep_alive_timeout(ALIVE.1)
        .user_agent(concat!("contactd/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(answers: &'static [&'static str], only_public: bool) -> Resolver {
        let dns = Dns::by(move |_| async move { Ok(answers.iter().map(|text| text.parse().unwrap()).collect()) });
        Resolver { dns, only_public }
    }

    async fn resolved(answers: &'static [&'static str], only_public: bool) -> Result<Vec<String>, String> {
        let resolving = resolver(answers, only_public).resolve("crm.example.com".parse().unwrap());
        let addrs = resolving.await.map_err(|error| error.to_string())?;
        Ok(addrs.map(|addr| addr.to_string()).collect())
    }

    #[tokio::test]
    async fn of_a_mixed_answer_only_public_addresses_are_kept() {
        let mixed = &["10.0.0.1:0", "8.8.8.8:0", "[::1]:0", "[2606:4700::1111]:0", "[::ffff:192.168.0.1]:0"];
        assert_eq!(resolved(mixed, true).await.unwrap(), ["8.8.8.8:0", "[2606:4700::1111]:0"]);
        assert_eq!(resolved(mixed, false).await.unwrap().len(), 5, "where a base_url leads is the operator's choice");
        assert_eq!(resolved(&["10.0.0.1:0", "[fe80::1]:0"], true).await.unwrap_err(), "no public address");
        assert_eq!(resolved(&[], true).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_name_that_changes_its_address_is_judged_each_time() {
        let asked = std::sync::atomic::AtomicU16::new(0);
        let dns = Dns::by(move |_| {
            let first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            async move { Ok(vec![if first { "8.8.8.8:0" } else { "127.0.0.1:0" }.parse().unwrap()]) }
        });
        let rebinding = Resolver { dns, only_public: true };
        assert!(rebinding.resolve("crm.example.com".parse().unwrap()).await.is_ok());
        assert!(rebinding.resolve("crm.example.com".parse().unwrap()).await.is_err());
    }

    #[test]
    fn a_host_of_a_user_is_a_name_over_https() {
        let clients = Clients::new(&Dns::system()).unwrap();
        let (named, configured) = (clients.way(false), clients.way(true));
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
            assert_eq!(named.permits(&url), permitted, "{url}");
            assert!(configured.permits(&url), "{url}");
        }
    }
}
