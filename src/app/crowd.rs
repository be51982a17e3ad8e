//! The connections that are open, by the address of their peer.
//!
//! Owns their number. Promises that there are so many at most, and that no address keeps others
//! out: if all places are taken, a connection from an address that has fewer takes the place of one
//! of the address that has most: of the one that has been silent for longest, and never of one with
//! a call of a known caller in hand. An IPv6 client has a whole /64, which counts as one address.
//! Clients behind one proxy share its address, and are kept apart by the proxy.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::clock::{self, Instant};

/// Clones share the places.
#[derive(Clone)]
pub(super) struct Crowd {
    most: usize,
    opened: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    all: usize,
    next: u64,
    peers: HashMap<IpAddr, HashMap<u64, Open>>,
}

/// A connection, seen from here.
struct Open {
    /// When something was heard of it, in milliseconds.
    heard: Arc<AtomicU64>,
    /// Calls in hand of somebody who has said who it is.
    in_hand: Arc<AtomicUsize>,
    end: CancellationToken,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    crowd: Crowd,
    peer: IpAddr,
    number: u64,
    heard: Arc<AtomicU64>,
    in_hand: Arc<AtomicUsize>,
    end: CancellationToken,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd")
            .field("open", &self.state.lock().all)
            .finish_non_exhaustive()
    }
}

impl Crowd {
    /// Room for `most` connections.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            opened: clock::now(),
            state: Arc::default(),
        }
    }

    /// A place for a connection from there; `None` if there is none for it.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Place> {
        let peer = network(from);
        let mut state = self.state.lock();
        if state.all >= self.most && !state.make_room_for(peer) {
            return None;
        }
        let (number, token) = (state.next, CancellationToken::new());
        let heard = Arc::new(AtomicU64::new(self.now()));
        state.next += 1;
        state.all += 1;
        let in_hand = Arc::<AtomicUsize>::default();
        let open = Open {
            heard: Arc::clone(&heard),
            in_hand: Arc::clone(&in_hand),
            end: token.clone(),
        };
        state.peers.entry(peer).or_default().insert(number, open);
        let ended = Box::pin(token.clone().cancelled_owned());
        Some(Place {
            crowd: self.clone(),
            peer,
            number,
            heard,
            in_hand,
            end: token,
            ended,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl State {
    /// Ends an idle connection of the address that has most, if that has more than this one would
    /// have.
    fn make_room_for(&mut self, peer: IpAddr) -> bool {
        let own = self.peers.get(&peer).map_or(0, HashMap::len);
        let Some((&largest, open)) = self.peers.iter().max_by_key(|(_, open)| open.len()) else {
            return false;
        };
        if open.len() <= own + 1 {
            return false;
        }
        let idle = open
            .iter()
            .filter(|(_, open)| open.in_hand.load(Ordering::Relaxed) == 0);
        let silent =
            idle.min_by_key(|(number, open)| (open.heard.load(Ordering::Relaxed), **number));
        let Some(number) = silent.map(|(number, _)| *number) else {
            return false;
        };
        self.leave(largest, number);
        true
    }

    /// Takes a connection out, if it is still there, and ends it.
    fn leave(&mut self, peer: IpAddr, number: u64) {
        let Some(open) = self.peers.get_mut(&peer) else {
            return;
        };
        let Some(left) = open.remove(&number) else {
            return;
        };
        if open.is_empty() {
            self.peers.remove(&peer);
        }
        self.all -= 1;
        left.end.cancel();
    }
}

impl Place {
    /// Something came from the peer.
    pub(super) fn hear(&self) {
        self.heard.store(self.crowd.now(), Ordering::Relaxed);
    }

    /// Where its calls in hand are counted.
    pub(super) fn in_hand(&self) -> &Arc<AtomicUsize> {
        &self.in_hand
    }

    /// Ends with the place, also when another connection takes it.
    pub(super) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Ready once another connection has taken this place.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ended.as_mut().poll(cx)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.state.lock().leave(self.peer, self.number);
    }
}

/// What counts as one address.
fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() & !u128::from(u64::MAX))),
        addr @ IpAddr::V4(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(places: &mut [Place]) -> Vec<bool> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        places
            .iter_mut()
            .map(|place| place.poll_ended(&mut cx).is_ready())
            .collect()
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_call_of_a_known_caller_in_hand_is_not_ended() {
        let crowd = Crowd::new(2);
        let mut proxy = [(); 2].map(|()| crowd.enter(addr("10.0.0.1")).unwrap());
        let peers = proxy
            .each_ref()
            .map(|place| crate::clients::Peer::default().counted_in(place.in_hand()));
        let first = peers[0].busy();
        let second = peers[1].busy();
        assert!(crowd.enter(addr("10.0.0.2")).is_none());
        drop(first);
        assert!(crowd.enter(addr("10.0.0.2")).is_some());
        assert_eq!(ended(&mut proxy), [true, false]);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_few_takes_the_place_of_the_longest_silent_one_of_who_has_most() {
        let crowd = Crowd::new(4);
        let mut many = Vec::new();
        for _ in 0..4 {
            many.push(crowd.enter(addr("10.0.0.1")).unwrap());
            crate::clock::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(
            crowd.enter(addr("10.0.0.1")).is_none(),
            "it has all places itself"
        );
        many[0].hear();
        let first = crowd.enter(addr("10.0.0.2"));
        assert_eq!(
            (first.is_some(), ended(&mut many)),
            (true, vec![false, true, false, false])
        );
        let second = crowd.enter(addr("::ffff:10.0.0.2"));
        assert_eq!(
            (second.is_some(), ended(&mut many)),
            (true, vec![false, true, true, false])
        );
        assert!(crowd.enter(addr("10.0.0.2")).is_none(), "both have two");
        let third = crowd.enter(addr("2001:db8::1")).unwrap();
        assert!(
            crowd.enter(addr("2001:db8::2")).is_none(),
            "of the same /64"
        );
        drop(many);
        drop((first, second, third));
        let state = crowd.state.lock();
        assert_eq!((state.all, state.peers.len()), (0, 0));
    }
}
