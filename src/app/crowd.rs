//! The open connections, by the address of their peer.
//!
//! Their number is limited, and no address can keep others out. If all places are taken, a new
//! connection from an address with fewer connections takes the place of another one. The place is
//! taken from the address with the most connections: from its connection that has been silent for
//! longest. A connection with a call of a known client in progress keeps its place. While strangers
//! hold at least a quarter of all places, they only take places from each other, and connections
//! that recently served a known client stay. An IPv6 client has a whole /64, which counts as one
//! address. Clients behind one proxy share its address, and the proxy has to keep them apart.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::clients::Origin;
use crate::clock::{self, Instant};

/// At least one in this many places is left to strangers, whatever known clients hold: a known
/// client is a stranger until its first call.
const OF_STRANGERS: usize = 4;

/// The places. Clones share them.
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
    networks: HashMap<IpAddr, HashMap<u64, Open>>,
}

/// A connection, as this table sees it.
struct Open {
    origin: Arc<Origin>,
    end: CancellationToken,
}

/// A connection's place, held until it is dropped.
pub(super) struct ConnectionPlace {
    crowd: Crowd,
    origin: Arc<Origin>,
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
    /// Places for `most` connections.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            opened: clock::now(),
            state: Arc::default(),
        }
    }

    /// A place for a connection from this address; `None` if there is none.
    pub(super) fn enter(&self, from: IpAddr) -> Option<ConnectionPlace> {
        let mut state = self.state.lock();
        let origin = Arc::new(Origin::new(from, state.next, self.opened));
        if state.all >= self.most && !state.make_room_for(origin.network(), self.most) {
            return None;
        }
        let end = CancellationToken::new();
        state.next += 1;
        state.all += 1;
        let open = Open {
            origin: Arc::clone(&origin),
            end: end.clone(),
        };
        let network = state.networks.entry(origin.network()).or_default();
        network.insert(origin.connection(), open);
        let ended = Box::pin(end.clone().cancelled_owned());
        Some(ConnectionPlace {
            crowd: self.clone(),
            origin,
            end,
            ended,
        })
    }
}

impl State {
    /// Ends an idle connection to make room, and returns whether it found one. It prefers a
    /// stranger's connection: one of the address with the most of them, if that address has more
    /// than the newcomer's address would have. If there is none, it takes a known client's
    /// connection by the same rule, but only while strangers have less than their part.
    fn make_room_for(&mut self, newcomer: IpAddr, most: usize) -> bool {
        let strangers = self.count(newcomer, false);
        let all_strangers: usize = self.networks.keys().map(|of| self.count(*of, false)).sum();
        let of_strangers = self.silent_of_largest(false, strangers + 1);
        let silent = of_strangers.or_else(|| {
            let own = strangers + self.count(newcomer, true);
            let may_grow = all_strangers < most.div_ceil(OF_STRANGERS);
            may_grow
                .then(|| self.silent_of_largest(true, own + 1))
                .flatten()
        });
        let Some(origin) = silent else {
            return false;
        };
        self.leave(&origin);
        true
    }

    /// The number of connections from there, of known clients or of strangers.
    fn count(&self, network: IpAddr, known: bool) -> usize {
        let open = self.networks.get(&network).into_iter();
        let open = open.flat_map(HashMap::values);
        open.filter(|open| open.origin.is_known() == known).count()
    }

    /// The idle connection that has been silent for longest, of the address with the most of them,
    /// if that has more than `than`.
    fn silent_of_largest(&self, known: bool, than: usize) -> Option<Arc<Origin>> {
        let counts = self.networks.keys().map(|of| (self.count(*of, known), *of));
        let (_, largest) = counts.max().filter(|(count, _)| *count > than)?;
        let open = self.networks.get(&largest)?.values();
        let idle = open.map(|open| &open.origin).filter(|origin| {
            let is_idle = origin.is_idle();
            is_idle && origin.is_known() == known
        });
        idle.min_by_key(|origin| (origin.last_active(), origin.connection()))
            .cloned()
    }

    /// Removes a connection, if it is still there, and ends it.
    fn leave(&mut self, origin: &Origin) {
        let Some(open) = self.networks.get_mut(&origin.network()) else {
            return;
        };
        let Some(left) = open.remove(&origin.connection()) else {
            return;
        };
        if open.is_empty() {
            self.networks.remove(&origin.network());
        }
        self.all -= 1;
        left.end.cancel();
    }
}

impl ConnectionPlace {
    /// The connection's identity for other modules.
    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Cancelled when the place ends, also if another connection takes it.
    pub(super) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Ready once another connection has taken this place.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ended.as_mut().poll(cx)
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.crowd.state.lock().leave(&self.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Peer;

    fn ended(places: &mut [ConnectionPlace]) -> Vec<bool> {
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
    async fn a_connection_with_a_call_of_a_known_client_in_hand_is_not_ended() {
        let crowd = Crowd::new(2);
        let mut proxy = [(); 2].map(|()| crowd.enter(addr("10.0.0.1")).unwrap());
        let peers = proxy
            .each_ref()
            .map(|place| Peer::new(Arc::clone(place.origin())));
        let first = peers[0].busy();
        let second = peers[1].busy();
        assert!(crowd.enter(addr("10.0.0.2")).is_none());
        drop(first);
        assert!(crowd.enter(addr("10.0.0.2")).is_some());
        assert_eq!(ended(&mut proxy), [true, false]);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn known_clients_give_way_only_while_strangers_have_less_than_their_part() {
        let crowd = Crowd::new(8);
        let mut proxy: Vec<ConnectionPlace> = (0..8)
            .map(|_| crowd.enter(addr("10.0.0.1")).unwrap())
            .collect();
        for place in &proxy {
            drop(Peer::new(Arc::clone(place.origin())).busy());
        }
        let mut strangers: Vec<ConnectionPlace> = (2..9)
            .filter_map(|n| crowd.enter(IpAddr::from([10, 0, 0, n])))
            .collect();
        let gone = ended(&mut proxy).into_iter().filter(|ended| *ended);
        assert_eq!((strangers.len(), gone.count()), (2, 2));
        // A stranger's second connection is the first to go.
        proxy.truncate(7);
        strangers.push(crowd.enter(addr("10.0.0.2")).unwrap());
        let another = crowd.enter(addr("10.0.0.9"));
        assert!(another.is_some());
        assert_eq!(ended(&mut strangers), [true, false, false]);
        assert!(!ended(&mut proxy[2..]).contains(&true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_longest_silent_place_of_the_address_with_the_most() {
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
        many[0].origin().touch();
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
        assert_eq!((state.all, state.networks.len()), (0, 0));
    }
}
