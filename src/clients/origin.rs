//! The origin of calls: a connection and the address of its peer, by which places are shared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::{self, Instant};

/// How long a connection counts as a known client's after its last call: longer than the usual gap
/// between calls in business hours.
const LATELY: Duration = Duration::from_secs(900);

/// Where a peer is, as exactly as a log may say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum PeerNetwork {
    /// This machine.
    Loopback,
    /// A private network: RFC 1918, RFC 6598, link-local, unique local.
    Private,
    /// Anywhere else.
    #[default]
    Public,
}

impl PeerNetwork {
    /// Its name in logs.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

impl From<IpAddr> for PeerNetwork {
    fn from(addr: IpAddr) -> Self {
        let addr = addr.to_canonical();
        let is_private = match addr {
            IpAddr::V4(addr) => {
                let [first, second, ..] = addr.octets();
                let is_shared = first == 100 && (second & 0xc0) == 64;
                addr.is_private() || addr.is_link_local() || is_shared
            }
            IpAddr::V6(addr) => addr.is_unique_local() || addr.is_unicast_link_local(),
        };
        match (addr.is_loopback(), is_private) {
            (true, _) => Self::Loopback,
            (_, true) => Self::Private,
            _ => Self::Public,
        }
    }
}

/// One connection and its use.
#[derive(Debug)]
pub(crate) struct Origin {
    network: IpAddr,
    network_kind: PeerNetwork,
    connection: u64,
    /// The zero of the times below, which are in milliseconds. It is the same for all connections.
    since: Instant,
    last_active: AtomicU64,
    /// When a known client was last served; 0 if never.
    served: AtomicU64,
    in_hand: AtomicUsize,
}

/// A running call of an authenticated client, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Origin>);

impl Default for Origin {
    /// For calls without a connection.
    fn default() -> Self {
        Self::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0, clock::now())
    }
}

impl Origin {
    /// The connection with this number, from this address.
    pub(crate) fn new(from: IpAddr, connection: u64, since: Instant) -> Self {
        let origin = Self {
            network: network(from),
            network_kind: from.into(),
            connection,
            since,
            last_active: AtomicU64::default(),
            served: AtomicU64::default(),
            in_hand: AtomicUsize::default(),
        };
        origin.touch();
        origin
    }

    /// The address for sharing places: for IPv6 the /64, because one client has all of it.
    pub(crate) fn network(&self) -> IpAddr {
        self.network
    }

    /// Whether the peer is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.network_kind == PeerNetwork::Loopback
    }

    /// Where the peer is, for logs.
    pub(crate) fn network_kind(&self) -> PeerNetwork {
        self.network_kind
    }

    /// The unique number of the connection.
    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// The peer sent something.
    pub(crate) fn touch(&self) {
        self.last_active.store(self.now(), Ordering::Relaxed);
    }

    /// When the peer last sent something. A greater value is later, also between connections.
    pub(crate) fn last_active(&self) -> u64 {
        self.last_active.load(Ordering::Relaxed)
    }

    /// How long the peer has sent nothing.
    pub(crate) fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last_active()))
    }

    /// Returns whether no known client has a running call.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_hand.load(Ordering::Relaxed) == 0
    }

    /// Returns whether a known client is served, or was recently.
    pub(crate) fn is_known(&self) -> bool {
        !self.is_idle() || self.was_served_lately()
    }

    fn was_served_lately(&self) -> bool {
        let served = self.served.load(Ordering::Relaxed);
        let ago = u128::from(self.now().saturating_sub(served));
        served > 0 && ago < LATELY.as_millis()
    }

    fn serve(&self) {
        self.served.store(self.now().max(1), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Busy {
    /// Starts a call over this connection.
    pub(super) fn begin(origin: &Arc<Origin>) -> Self {
        origin.in_hand.fetch_add(1, Ordering::Relaxed);
        origin.serve();
        Self(Arc::clone(origin))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.serve();
        self.0.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What counts as one address.
fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => IpAddr::V6(network_of(addr)),
        addr @ IpAddr::V4(_) => addr,
    }
}

/// The first 64 bits: what one customer has.
fn network_of(addr: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(addr.to_bits() & !u128::from(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_of_ipv6_is_one_address_and_ipv4_is_itself_however_it_is_written() {
        let same = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| network(text.parse().unwrap()));
            one == other
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }

    #[test]
    fn logs_say_no_more_of_an_address_than_its_kind_of_network() {
        for (addr, label) in [
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("10.1.2.3", "private"),
            ("192.168.0.1", "private"),
            ("100.64.0.1", "private"),
            ("169.254.1.1", "private"),
            ("fd00::1", "private"),
            ("fe80::1", "private"),
            ("100.128.0.1", "public"),
            ("198.51.100.7", "public"),
            ("2001:db8::1", "public"),
        ] {
            let addr: IpAddr = addr.parse().unwrap();
            assert_eq!(PeerNetwork::from(addr).label(), label, "{addr}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_known_client_is_known_for_a_while_after_its_last_call() {
        let origin = Arc::<Origin>::default();
        assert!(!origin.is_known());
        let busy = Busy::begin(&origin);
        crate::clock::sleep(LATELY * 2).await;
        assert!(origin.is_known() && !origin.is_idle());
        drop(busy);
        crate::clock::sleep(LATELY / 2).await;
        assert!(origin.is_known() && origin.is_idle());
        crate::clock::sleep(LATELY).await;
        assert!(!origin.is_known());
    }
}
