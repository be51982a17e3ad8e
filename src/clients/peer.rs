//! The other end of a connection: what it has proved, and what it may hold without a credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// Streams beside look-ups that one connection may have at once, and as many health checks. A
/// client watches one or two services; a proxy may carry a few clients.
pub(crate) const OPEN_PLACES: usize = 8;

/// Who is at the other end of a connection, as far as the connection itself shows, and what it may
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

/// A call in hand of a client that has proved who it is; counted until dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self::new(false, None)
    }
}

impl Peer {
    /// A peer that has shown a certificate or not, and the name in it.
    #[must_use]
    pub(crate) fn new(is_verified: bool, name: Option<String>) -> Self {
        let places = || Arc::new(Semaphore::new(OPEN_PLACES));
        Self {
            certificate: name.map(Into::into),
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

    /// Counts one more of its calls as in hand.
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
