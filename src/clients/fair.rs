//! Places shared by addresses and their connections, for requests of unknown clients.
//!
//! Their number is limited. If one connection holds many places, others still get one. If one has
//! to be taken back, the address with the most places is chosen, then its connection with the most
//! places, then the oldest place of that connection. [`Origin`] defines which connections count as
//! one address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::origin::Origin;

/// Peers that read nothing may still hold places that were taken back. For every three places there
/// may be one of these; beyond that, [`FairPlaces::try_enter`] refuses.
pub(crate) const LINGERING: usize = 3;

/// The places. Clones share them.
#[derive(Clone)]
pub(crate) struct FairPlaces {
    most: usize,
    state: Arc<Mutex<FairState>>,
}

#[derive(Default)]
struct FairState {
    next: u64,
    /// Held places, including those that were taken back.
    held: usize,
    taken: BTreeMap<PlaceKey, CancellationToken>,
    networks: Ranking<IpAddr>,
    connections: HashMap<IpAddr, Ranking<u64>>,
}

/// Address, connection, and the place's number, which increases.
type PlaceKey = (IpAddr, u64, u64);

/// A place, held until it is dropped.
#[derive(Debug)]
pub(crate) struct FairPlace {
    fair: FairPlaces,
    key: PlaceKey,
    taken_back: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl fmt::Debug for FairPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairPlaces")
            .field("most", &self.most)
            .field("held", &self.state.lock().held)
            .finish()
    }
}

impl FairPlaces {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            state: Arc::default(),
        }
    }

    /// Takes a place in any case. If there are too many, another is taken back.
    pub(crate) fn enter(&self, from: &Origin) -> FairPlace {
        let mut state = self.state.lock();
        let place = self.take(&mut state, from);
        if state.taken.len() > self.most
            && let Some((largest, _)) = state.networks.first()
        {
            state.take_back_from(largest);
        }
        place
    }

    /// Takes a place. If all are taken, the address with the most places gives one back if it has
    /// more than this address would have. Otherwise another connection of this address gives one
    /// back if it has more than this connection would have. `None` if there is neither, or if too
    /// many places linger ([`LINGERING`]).
    pub(crate) fn try_enter(&self, from: &Origin) -> Option<FairPlace> {
        let mut state = self.state.lock();
        if state.held >= self.most + self.most / LINGERING {
            return None;
        }
        if state.taken.len() >= self.most {
            let network = state.gives_way_to(from)?;
            state.take_back_from(network);
        }
        Some(self.take(&mut state, from))
    }

    fn take(&self, state: &mut FairState, from: &Origin) -> FairPlace {
        let (network, connection) = (from.network(), from.connection());
        let (key, token) = ((network, connection, state.next), CancellationToken::new());
        state.next += 1;
        state.held += 1;
        state.taken.insert(key, token.clone());
        state.rank(key, |count| count + 1);
        FairPlace {
            fair: self.clone(),
            key,
            taken_back: Box::pin(token.cancelled_owned()),
        }
    }
}

impl FairState {
    /// The address that must give back a place for this connection, if there is one.
    fn gives_way_to(&self, newcomer: &Origin) -> Option<IpAddr> {
        let network = newcomer.network();
        let (largest, count) = self.networks.first()?;
        if count > self.networks.count(network) + 1 {
            return Some(largest);
        }
        let of_network = self.connections.get(&network)?;
        let (_, count) = of_network.first()?;
        (count > of_network.count(newcomer.connection()) + 1).then_some(network)
    }

    /// Takes back the oldest place of the connection with the most.
    fn take_back_from(&mut self, network: IpAddr) {
        let connection = self.connections.get(&network).and_then(Ranking::first);
        let Some((connection, _)) = connection else {
            return;
        };
        let of_connection = (network, connection, 0)..=(network, connection, u64::MAX);
        let oldest = self.taken.range(of_connection).next();
        let Some(key) = oldest.map(|(key, _)| *key) else {
            return;
        };
        if let Some(token) = self.leave(key) {
            token.cancel();
        }
    }

    fn leave(&mut self, key: PlaceKey) -> Option<CancellationToken> {
        let token = self.taken.remove(&key)?;
        self.rank(key, |count| count - 1);
        Some(token)
    }

    fn rank(&mut self, (network, connection, _): PlaceKey, change: impl Fn(usize) -> usize) {
        let now = self.next;
        self.networks.set(network, now, &change);
        let connections = self.connections.entry(network).or_default();
        connections.set(connection, now, &change);
        if connections.counts.is_empty() {
            self.connections.remove(&network);
        }
    }
}

/// How many places each holds, and which holds the most. If several do, the one that has had its
/// places for longest.
struct Ranking<K> {
    counts: HashMap<K, (usize, Reverse<u64>)>,
    order: BTreeSet<(usize, Reverse<u64>, K)>,
}

impl<K> Default for Ranking<K> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Eq + Hash + Ord> Ranking<K> {
    fn count(&self, key: K) -> usize {
        self.counts.get(&key).map_or(0, |(count, _)| *count)
    }

    fn first(&self) -> Option<(K, usize)> {
        self.order.last().map(|(count, _, key)| (*key, *count))
    }

    fn set(&mut self, key: K, now: u64, change: impl Fn(usize) -> usize) {
        let before = self.counts.remove(&key);
        if let Some((count, since)) = before {
            self.order.remove(&(count, since, key));
        }
        let count = change(before.map_or(0, |(count, _)| count));
        if count > 0 {
            self.counts.insert(key, (count, Reverse(now)));
            self.order.insert((count, Reverse(now), key));
        }
    }
}

impl FairPlace {
    /// Ready once the place was taken back.
    pub(crate) fn poll_taken_back(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.taken_back.as_mut().poll(cx)
    }
}

impl Drop for FairPlace {
    fn drop(&mut self) {
        let mut state = self.fair.state.lock();
        state.held -= 1;
        state.leave(self.key);
    }
}

#[cfg(test)]
mod tests;
