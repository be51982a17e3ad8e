//! Which services may call, and how much.
//!
//! Owns the list of callers and what each has in hand. Promises that a token is compared in
//! constant time with every one that is configured, that a caller's limits bind the caller
//! whichever of its credentials it shows, and that a new list holds from the next call on. Keeps
//! hashes of tokens only. Knows nothing of gRPC and TLS: it is told a token, or the name in a
//! certificate that has been verified.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::RwLock;
use subtle::{Choice, ConditionallySelectable as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

mod token;

pub(crate) use token::TokenHash;

/// Streams beside look-ups that one connection may have at once, and as many health checks. A
/// client watches one or two services; a proxy may carry a few clients.
pub(crate) const OPEN_PLACES: usize = 8;

/// Settings of one caller.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What logs call it.
    pub name: String,
    /// Its tokens: one, or two while they are exchanged.
    pub(crate) tokens: Vec<TokenHash>,
    /// The names in its certificates.
    pub(crate) certificates: Vec<String>,
    /// The platforms that it may ask; all where there is no list.
    pub(crate) platforms: Option<Vec<String>>,
    /// The accounts that it may ask for; all where there is no list.
    pub(crate) accounts: Option<Vec<String>>,
    /// Calls that it may make in a second, as many at once after a rest.
    pub(crate) rate: Option<NonZeroU32>,
    /// Calls that it may have in hand.
    pub(crate) max_in_flight: Option<usize>,
}

/// The services that may call. Cheap to clone; clones share everything, a new list included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clients(Arc<RwLock<List>>);

#[derive(Debug, Default)]
struct List {
    /// Whether whoever calls must have shown a certificate, if nobody is listed.
    needs_certificate: bool,
    callers: Vec<Arc<Client>>,
    /// Each with the place of its caller.
    tokens: Vec<(TokenHash, u32)>,
    certificates: HashMap<String, Arc<Client>>,
}

/// One service that may call.
pub(crate) struct Client {
    config: Config,
    rate: Option<Arc<DefaultDirectRateLimiter>>,
    in_flight: Option<Arc<Semaphore>>,
}

/// Who is at the other end of a connection, as far as the connection itself tells, and what it may
/// hold without a credential.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The name in its certificate, which has been verified.
    pub(crate) certificate: Option<Arc<str>>,
    /// Whether it has shown a certificate, with a name or without.
    is_verified: bool,
    streams: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    in_hand: Arc<AtomicUsize>,
}

/// A call in hand of somebody who has said who it is; counted until dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the calls that a caller has in hand, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "held, and given back when dropped")] Option<OwnedSemaphorePermit>,
);

/// Why a call of a known caller is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// It has as many calls in hand as it may.
    InFlight,
    /// It called too often.
    Rate {
        /// When it may call again.
        wait: Duration,
    },
}

/// What a caller asked for and may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// The platform is not on its list.
    Platform,
    /// The account is not on its list.
    Account,
}

impl Default for Peer {
    fn default() -> Self {
        Self::new(false, None)
    }
}

impl Peer {
    /// Whoever has shown a certificate or not, and the name in it.
    #[must_use]
    pub(crate) fn new(is_verified: bool, name: Option<String>) -> Self {
        let places = || Arc::new(Semaphore::new(OPEN_PLACES));
        let certificate = name.map(Into::into);
        Self {
            certificate,
            is_verified,
            streams: places(),
            checks: places(),
            in_hand: Arc::default(),
        }
    }

    /// Counts its calls in hand there.
    #[must_use]
    pub(crate) fn counted_in(self, in_hand: &Arc<AtomicUsize>) -> Self {
        Self {
            in_hand: Arc::clone(in_hand),
            ..self
        }
    }

    /// Whether it has shown a certificate.
    #[must_use]
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// A call of it is in hand.
    #[must_use]
    pub(crate) fn busy(&self) -> Busy {
        self.in_hand.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.in_hand))
    }

    /// Places for streams beside look-ups: watches of health, reflection.
    #[must_use]
    pub(crate) fn streams(&self) -> &Arc<Semaphore> {
        &self.streams
    }

    /// Places for health checks.
    #[must_use]
    pub(crate) fn checks(&self) -> &Arc<Semaphore> {
        &self.checks
    }
}

impl Clients {
    /// The callers of the settings, whose names and credentials are different. If there are none,
    /// everybody may call, or whoever has shown a certificate.
    #[must_use]
    pub(crate) fn new(configs: &[Config], needs_certificate: bool) -> Self {
        Self(Arc::new(RwLock::new(List::new(
            configs,
            needs_certificate,
            &[],
        ))))
    }

    /// Another list holds from the next call on. Calls in hand end as they began, and count on
    /// towards the limits of their caller if those are the same in the new list.
    pub(crate) fn replace(&self, configs: &[Config], needs_certificate: bool) {
        let before = self.0.read().callers.clone();
        *self.0.write() = List::new(configs, needs_certificate, &before);
    }

    /// Whether nobody is listed.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().callers.is_empty()
    }

    /// Whether nobody is listed and whoever calls must have shown a certificate all the same. A
    /// connection may be older than that rule.
    #[must_use]
    pub(crate) fn need_certificates(&self) -> bool {
        let list = self.0.read();
        list.callers.is_empty() && list.needs_certificate
    }

    /// The caller with this token. Takes as long for a wrong token as for a right one.
    #[must_use]
    pub(crate) fn by_token(&self, token: &[u8]) -> Option<Arc<Client>> {
        let hash = TokenHash::of(token);
        let list = self.0.read();
        let (mut known, mut found) = (Choice::from(0), 0);
        for (candidate, caller) in &list.tokens {
            let same = candidate.is(&hash);
            found = u32::conditional_select(&found, caller, same);
            known |= same;
        }
        if bool::from(known) {
            list.callers.get(found as usize).cloned()
        } else {
            None
        }
    }

    /// The caller with this name in its certificate, which the TLS handshake has verified.
    #[must_use]
    pub(crate) fn by_certificate(&self, name: &str) -> Option<Arc<Client>> {
        self.0.read().certificates.get(name).cloned()
    }
}

impl List {
    fn new(configs: &[Config], needs_certificate: bool, before: &[Arc<Client>]) -> Self {
        let caller = |config: &Config| {
            let before = before
                .iter()
                .find(|before| before.config.name == config.name);
            Arc::new(Client::new(config.clone(), before.map(Arc::as_ref)))
        };
        let callers: Vec<_> = configs.iter().map(caller).collect();
        let tokens = (0..)
            .zip(configs)
            .flat_map(|(n, config)| config.tokens.iter().map(move |token| (*token, n)));
        let certificates = callers.iter().flat_map(|caller| {
            caller
                .config
                .certificates
                .iter()
                .map(|certificate| (certificate.clone(), Arc::clone(caller)))
        });
        Self {
            needs_certificate,
            tokens: tokens.collect(),
            certificates: certificates.collect(),
            callers,
        }
    }
}

impl Client {
    /// Counts on from `before` towards those limits that are the same.
    fn new(config: Config, before: Option<&Self>) -> Self {
        let same_rate = before.filter(|before| before.config.rate == config.rate);
        let rate = same_rate.map_or_else(
            || {
                config
                    .rate
                    .map(|rate| Arc::new(RateLimiter::direct(Quota::per_second(rate))))
            },
            |before| before.rate.clone(),
        );
        let same_most = before.filter(|before| before.config.max_in_flight == config.max_in_flight);
        let places = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let in_flight = same_most.map_or_else(
            || config.max_in_flight.map(places),
            |before| before.in_flight.clone(),
        );
        Self {
            config,
            rate,
            in_flight,
        }
    }

    /// What logs call it.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Counts one more call.
    ///
    /// # Errors
    /// Where that is more than the caller may make or have in hand.
    pub(crate) fn enter(&self) -> Result<Place, Excess> {
        let place = match &self.in_flight {
            Some(places) => Some(
                Arc::clone(places)
                    .try_acquire_owned()
                    .map_err(|_| Excess::InFlight)?,
            ),
            None => None,
        };
        if let Some(rate) = &self.rate {
            rate.check().map_err(|until| Excess::Rate {
                wait: until.wait_time_from(rate.clock().now()),
            })?;
        }
        Ok(Place(place))
    }

    /// Whether the caller may ask this of the daemon.
    ///
    /// # Errors
    /// Where a list of the caller does not name it.
    pub(crate) fn may_ask(&self, platform: &str, account: &str) -> Result<(), Forbidden> {
        let names = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref().is_none_or(|l| l.iter().any(|n| n == name))
        };
        if !names(&self.config.platforms, platform) {
            return Err(Forbidden::Platform);
        }
        if !names(&self.config.accounts, account) {
            return Err(Forbidden::Account);
        }
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("name", &self.config.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
