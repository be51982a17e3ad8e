//! Places shared by scopes and connectors, so that none of them takes the places that others need.
//!
//! Counts places by scope and by connector. A holder of many places is refused before a holder of
//! few. A scope may take a place while it holds fewer than are free. A connector may take one while
//! it holds fewer than three times the free places. So one scope alone gets half of all places and
//! one connector three quarters, and however many CRMs hang, some places stay free. If there is
//! only one connector, its scopes together get all places. Anybody can make up credentials that a
//! CRM has not accepted, so all such credentials of one connector together get two thirds. Knows
//! nothing of what a place is for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::ScopeTag;
use crate::domain::lane::Lane;

/// A connector may hold this many times the free places.
const OF_A_CONNECTOR: usize = 3;

/// The same for unverified credentials at one connector.
const OF_THE_UNVERIFIED: usize = 2;

/// When background work asks for a place, the places that its scope holds count this many times. So
/// some are left for the scope's callers.
const BEHIND: usize = 2;

/// A request for a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    /// The connector that is called.
    pub(crate) connector: &'a str,
    /// Whose quota is spent.
    pub(crate) scope: ScopeTag,
    /// How urgent it is.
    pub(crate) lane: Lane,
    /// Whether the CRM has accepted the credential.
    pub(crate) verified: bool,
}

/// A number of places. Clones share them.
#[derive(Clone)]
pub(crate) struct Shares(Arc<SharePool>);

struct SharePool {
    most: usize,
    /// One connector may hold this many times the free places. `None` if there is only one.
    of_connector: Option<usize>,
    held: Mutex<HeldShares>,
}

#[derive(Default)]
struct HeldShares {
    all: usize,
    connectors: HashMap<String, usize>,
    /// The part of them under unverified credentials.
    unverified: HashMap<String, usize>,
    scopes: HashMap<ScopeTag, usize, foldhash::fast::RandomState>,
}

/// A place, given back on drop.
#[must_use = "a place is given back when it is dropped"]
pub(crate) struct Share {
    shares: Shares,
    connector: String,
    scope: ScopeTag,
    verified: bool,
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares")
            .field("most", &self.0.most)
            .field("held", &self.0.held.lock().all)
            .finish()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

impl Shares {
    /// `most` places, all free.
    #[must_use]
    pub(crate) fn new(most: usize) -> Self {
        Self::with(most, Some(OF_A_CONNECTOR))
    }

    /// The same for the scopes of a single connector.
    #[must_use]
    pub(crate) fn of_one_connector(most: usize) -> Self {
        Self::with(most, None)
    }

    fn with(most: usize, of_connector: Option<usize>) -> Self {
        Self(Arc::new(SharePool {
            most,
            of_connector,
            held: Mutex::default(),
        }))
    }

    /// Takes a place; `None` if the scope or the connector already has its share.
    #[must_use]
    pub(crate) fn enter(&self, claim: Claim<'_>) -> Option<Share> {
        let mut held = self.0.held.lock();
        if !held.has_room(claim, self.0.most - held.all, self.0.of_connector) {
            return None;
        }
        held.count(claim);
        Some(Share {
            shares: self.clone(),
            connector: claim.connector.to_owned(),
            scope: claim.scope,
            verified: claim.verified,
        })
    }
}

impl HeldShares {
    fn has_room(&self, claim: Claim<'_>, free: usize, of_connector: Option<usize>) -> bool {
        let of_scope = self.scopes.get(&claim.scope).copied().unwrap_or(0);
        let weight = if claim.lane.is_background() {
            BEHIND
        } else {
            1
        };
        let of =
            |counts: &HashMap<String, usize>| counts.get(claim.connector).copied().unwrap_or(0);
        let unverified = if claim.verified {
            0
        } else {
            of(&self.unverified)
        };
        of_scope * weight < free
            && unverified < free * OF_THE_UNVERIFIED
            && of_connector.is_none_or(|times| of(&self.connectors) < free * times)
    }

    fn count(&mut self, claim: Claim<'_>) {
        let connector = claim.connector.to_owned();
        self.all += 1;
        *self.scopes.entry(claim.scope).or_default() += 1;
        if !claim.verified {
            *self.unverified.entry(connector.clone()).or_default() += 1;
        }
        *self.connectors.entry(connector).or_default() += 1;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.0.held.lock();
        held.all -= 1;
        one_less(&mut held.scopes, self.scope);
        let connector = std::mem::take(&mut self.connector);
        if !self.verified {
            one_less(&mut held.unverified, connector.clone());
        }
        one_less(&mut held.connectors, connector);
    }
}

/// Decrements the count, and removes it at zero, because the number of scopes is unlimited.
pub(crate) fn one_less<K: Eq + Hash, S: std::hash::BuildHasher>(
    counts: &mut HashMap<K, usize, S>,
    key: K,
) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::KeyMaker;

    fn claim(connector: &str, scope: u8) -> Claim<'_> {
        Claim {
            connector,
            scope: KeyMaker::new([1; 16]).scope(&[&[scope]]),
            lane: Lane::CallPop,
            verified: true,
        }
    }

    fn fill(shares: &Shares, claim: Claim<'_>) -> Vec<Share> {
        std::iter::from_fn(|| shares.enter(claim)).collect()
    }

    #[test]
    fn one_scope_alone_gets_half_and_another_half_of_the_rest() {
        let shares = Shares::new(16);
        let first = fill(&shares, claim("a", 1));
        assert_eq!(first.len(), 8);
        let second = fill(&shares, claim("a", 2));
        assert_eq!(second.len(), 4);
        drop(first);
        assert_eq!(fill(&shares, claim("a", 3)).len(), 6);
        assert_eq!(shares.0.held.lock().all, second.len());
    }

    #[test]
    fn however_many_connectors_hang_another_finds_a_place() {
        let shares = Shares::new(2048);
        let names = ["a", "b", "c", "d"];
        let mut held: Vec<Share> = Vec::new();
        for connector in names {
            held.extend((0..255).flat_map(|scope| fill(&shares, claim(connector, scope))));
        }
        assert_eq!(shares.0.held.lock().connectors["a"], 1536);
        assert!(shares.enter(claim("e", 255)).is_some());
        drop(held);
        let HeldShares {
            all,
            connectors,
            scopes,
            unverified,
        } = &*shares.0.held.lock();
        assert!(*all == 0 && connectors.is_empty() && scopes.is_empty() && unverified.is_empty());
    }

    #[test]
    fn the_scopes_of_one_connector_alone_get_all_places() {
        let shares = Shares::of_one_connector(32);
        let held: Vec<Share> = (0..=255)
            .filter_map(|scope| shares.enter(claim("a", scope)))
            .collect();
        assert_eq!(held.len(), 32);
    }

    #[test]
    fn credentials_that_are_made_up_leave_places_to_those_that_are_verified() {
        let shares = Shares::new(64);
        let made_up = |scope| Claim {
            verified: false,
            ..claim("a", scope)
        };
        let held: Vec<Share> = (0..100)
            .filter_map(|scope| shares.enter(made_up(scope)))
            .collect();
        assert_eq!(held.len(), 43);
        assert_eq!(fill(&shares, claim("a", 101)).len(), 5);
        assert!(
            shares
                .enter(Claim {
                    verified: false,
                    ..claim("b", 102)
                })
                .is_some(),
            "another CRM's have their own"
        );
        drop(held);
        assert!(shares.0.held.lock().unverified.is_empty());
    }

    #[test]
    fn work_behind_the_scenes_leaves_places_to_the_calls_of_its_scope() {
        let shares = Shares::new(32);
        let batch = fill(
            &shares,
            Claim {
                lane: Lane::Prefetch,
                ..claim("a", 1)
            },
        );
        assert_eq!(batch.len(), 11);
        assert_eq!(fill(&shares, claim("a", 1)).len(), 5);
    }
}
