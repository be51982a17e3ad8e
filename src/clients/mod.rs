//! Which services may call, and how much.
//!
//! Holds the list of clients and the running calls of each. A token is compared in constant time
//! with every configured one. The limits of a client apply whichever of its credentials it sends. A
//! new list applies from the next call on. Only hashes of tokens are kept. Knows neither gRPC nor
//! TLS: it receives a token, or the name in a verified certificate.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::RwLock;
use subtle::{Choice, ConditionallySelectable as _};

mod client;
mod fair;
mod local;
mod origin;
mod page;
mod peer;
mod room;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use client::{CallPlace, Client, Excess, Forbidden};
pub(crate) use fair::{FairPlace, FairPlaces, LINGERING};
pub(crate) use local::{Hostname, LocalClients, LoginAccess};
pub(crate) use origin::{Busy, Origin, PeerNetwork};
pub(crate) use page::from_a_page;
pub(crate) use peer::Peer;
pub(crate) use room::{Room, RoomPlace};
pub(crate) use token::TokenHash;

/// Settings of one client.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    /// Its name in logs.
    pub(crate) name: String,
    /// Its tokens: one, or two during a change of tokens.
    pub(crate) tokens: Vec<TokenHash>,
    /// The names in its certificates.
    pub(crate) certificates: Vec<String>,
    /// The platforms that it may ask; all if there is no list.
    pub(crate) platforms: Option<Vec<String>>,
    /// The accounts that it may ask for; all if there is no list.
    pub(crate) accounts: Option<Vec<String>>,
    /// Calls per second, and as many at once after a pause.
    pub(crate) rate: Option<NonZeroU32>,
    /// Its most calls in progress.
    pub(crate) max_in_flight: Option<usize>,
}

/// The services that may call. Clones are cheap and share everything, including a new list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clients(Arc<RwLock<ClientList>>);

#[derive(Debug, Default)]
struct ClientList {
    /// Whether a connection must have sent a certificate although no client is listed.
    needs_certificate: bool,
    clients: Vec<Arc<Client>>,
    /// Each with the index of its client.
    tokens: Vec<(TokenHash, u32)>,
    certificates: HashMap<String, Arc<Client>>,
}

impl Clients {
    /// The clients of the settings, with distinct names and credentials. If there are none,
    /// everybody may call, or everybody with a certificate.
    #[must_use]
    pub(crate) fn new(configs: &[ClientConfig], needs_certificate: bool) -> Self {
        let list = ClientList::new(configs, needs_certificate, &[]);
        Self(Arc::new(RwLock::new(list)))
    }

    /// Applies another list from the next call on. Running calls are not affected. They count
    /// towards their client's limits if those are the same in the new list.
    pub(crate) fn replace(&self, configs: &[ClientConfig], needs_certificate: bool) {
        let before = self.0.read().clients.clone();
        *self.0.write() = ClientList::new(configs, needs_certificate, &before);
    }

    /// Returns whether no clients are listed.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().clients.is_empty()
    }

    /// Returns whether no clients are listed, but callers must have sent a certificate. A
    /// connection may be older than that rule.
    #[must_use]
    pub(crate) fn need_certificates(&self) -> bool {
        let list = self.0.read();
        list.clients.is_empty() && list.needs_certificate
    }

    /// The client with this token. Takes as long for a wrong token as for a right one.
    #[must_use]
    pub(crate) fn by_token(&self, token: &[u8]) -> Option<Arc<Client>> {
        let hash = TokenHash::of(token);
        let list = self.0.read();
        let (mut known, mut found) = (Choice::from(0), 0);
        for (candidate, client) in &list.tokens {
            let same = candidate.is(&hash);
            found = u32::conditional_select(&found, client, same);
            known |= same;
        }
        if bool::from(known) {
            list.clients.get(found as usize).cloned()
        } else {
            None
        }
    }

    /// The client with this name in its certificate, which the TLS handshake has verified.
    #[must_use]
    pub(crate) fn by_certificate(&self, name: &str) -> Option<Arc<Client>> {
        self.0.read().certificates.get(name).cloned()
    }
}

impl ClientList {
    fn new(configs: &[ClientConfig], needs_certificate: bool, before: &[Arc<Client>]) -> Self {
        let clients: Vec<_> = configs
            .iter()
            .map(|config| Arc::new(Client::continuing(config, before)))
            .collect();
        let (mut tokens, mut certificates) = (Vec::new(), HashMap::new());
        for (index, client) in (0..).zip(&clients) {
            let config = client.config();
            tokens.extend(config.tokens.iter().map(|token| (*token, index)));
            for certificate in &config.certificates {
                certificates.insert(certificate.clone(), Arc::clone(client));
            }
        }
        Self {
            needs_certificate,
            clients,
            tokens,
            certificates,
        }
    }
}
