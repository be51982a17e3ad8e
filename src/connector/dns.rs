//! How names are resolved, and which addresses are rejected.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use super::addresses::is_public;

type Lookup = dyn Fn(&str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// A name resolver.
#[derive(Clone)]
pub struct Dns(Arc<Lookup>);

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns(…)")
    }
}

impl Dns {
    /// The system's resolver (`getaddrinfo`).
    #[must_use]
    pub fn system() -> Self {
        Self::by(|name| {
            let name = name.to_owned();
            async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }
        })
    }

    /// Another resolver. Port 0 means the port of the URL or its scheme.
    #[must_use]
    pub fn by<F>(lookup: impl Fn(&str) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Arc::new(move |name| Box::pin(lookup(name))))
    }

    async fn addresses(
        lookup: BoxFuture<'static, io::Result<Vec<SocketAddr>>>,
        only_public: bool,
    ) -> Resolved {
        let all = lookup.await.unwrap_or_default();
        if all.is_empty() {
            return Err(NoAddress.into());
        }
        let kept: Vec<SocketAddr> = all
            .into_iter()
            .filter(|addr| !only_public || is_public(addr.ip()))
            .collect();
        if kept.is_empty() {
            return Err(NotPublic.into());
        }
        Ok(kept.into_iter())
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Resolved = Result<std::vec::IntoIter<SocketAddr>, BoxError>;

/// A host name resolves to no address, or cannot be resolved now.
#[derive(Debug, thiserror::Error)]
#[error("no address")]
pub(super) struct NoAddress;

/// A user's host name resolves to no public address.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
pub(super) struct NotPublic;

/// Resolves names for a client.
#[derive(Clone)]
pub(super) struct CrmResolver {
    pub(super) dns: Dns,
    pub(super) only_public: bool,
}

impl Service<Name> for CrmResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Resolved>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(Dns::addresses(
            (self.dns.0)(name.as_str()),
            self.only_public,
        ))
    }
}
