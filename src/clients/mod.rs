//! Which services may call, and how much.
//!
//! Owns the list of clients and the calls that each has in hand. Promises that a token is compared
//! in constant time with every one that is configured, that the limits of a client hold whichever of
//! its credentials it shows, and that a new list holds from the next call on. Keeps hashes of tokens
//! only. Knows neither gRPC nor TLS: it receives a token, or the name in a certificate that has been
//! verified.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::RwLock;
use subtle::{Choice, ConditionallySelectable as _};

mod client;
mod origin;
mod peer;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use client::{CallPlace, Client, Excess, Forbidden};
pub(crate) use origin::{Busy, Origin};
pub(crate) use peer::Peer;
pub(crate) use token::TokenHash;

/// Settings of one client.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    /// Its name in logs.
    pub(crate) name: String,
    /// Its tokens: one, or two while they are exchanged.
    pub(crate) tokens: Vec<TokenHash>,
    /// The names in its certificates.
    pub(crate) certificates: Vec<String>,
    /// The platforms that it may ask; all if there is no list.
    pub(crate) platforms: Option<Vec<String>>,
    /// The accounts that it may ask for; all if there is no list.
    pub(crate) accounts: Option<Vec<String>>,
    /// Calls that it may make in a second, as many at once after a rest.
    pub(crate) rate: Option<NonZeroU32>,
    /// Calls that it may have in hand.
    pub(crate) max_in_flight: Option<usize>,
}

/// The services that may call. Cheap to clone; clones share everything, a new list included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clients(Arc<RwLock<ClientList>>);

#[derive(Debug, Default)]
struct ClientList {
    /// Whether a connection must have shown a certificate although no client is listed.
    needs_certificate: bool,
    clients: Vec<Arc<Client>>,
    /// Each with the index of its client.
    tokens: Vec<(TokenHash, u32)>,
    certificates: HashMap<String, Arc<Client>>,
}

impl Clients {
    /// The clients of the settings, whose names and credentials are different. If there are none,
    /// everybody may call, or everybody who has shown a certificate.
    #[must_use]
    pub(crate) fn new(configs: &[ClientConfig], needs_certificate: bool) -> Self {
        let list = ClientList::new(configs, needs_certificate, &[]);
        Self(Arc::new(RwLock::new(list)))
    }

    /// Another list holds from the next call on. Calls in hand end as they began. They count towards
    /// the limits of their client if those are the same in the new list.
    pub(crate) fn replace(&self, configs: &[ClientConfig], needs_certificate: bool) {
        let before = self.0.read().clients.clone();
        *self.0.write() = ClientList::new(configs, needs_certificate, &before);
    }

    /// Whether nobody is listed.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().clients.is_empty()
    }

    /// Whether nobody is listed, but whoever calls must have shown a certificate. A connection may
    /// be older than that rule.
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
