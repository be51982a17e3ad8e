//! The waiters at a gate in their order: by lane, then verified credentials first, then by the age
//! of the load, then by arrival.
//!
//! Only the order: no time, no limiter.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Add;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::clock::Instant;
use crate::domain::lane::Lane;
use crate::urgency::Urgency;

/// A place in the queue, which changes if the waiter moves up. The most urgent lane comes first.
/// Within a lane, verified credentials come first, then the oldest load. Without the order by age,
/// the later calls of a load would wait behind the first calls of all others, and all loads of a
/// batch would end only at its very end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueKey {
    /// Changes when the waiter is raised, and when it is overdue.
    pub(crate) lane: Lane,
    /// Orders verified credentials before unknown ones. Changes when the credential is verified.
    pub(crate) proof: CredentialProof,
    /// When the load began.
    began: Instant,
    /// Unchanged if the waiter moves up, so that it comes before later arrivals there.
    arrival: u64,
}

/// What is known of a waiter's credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CredentialProof {
    /// The CRM has accepted it before.
    Verified,
    /// The CRM has not accepted it yet, or has refused it since.
    Unverified,
}

impl CredentialProof {
    pub(super) fn of(urgency: &Urgency) -> Self {
        Self::known(urgency.is_verified())
    }

    pub(super) fn known(is_verified: bool) -> Self {
        if is_verified {
            Self::Verified
        } else {
            Self::Unverified
        }
    }
}

/// How many waiters are ahead of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WaitersAhead {
    /// In any lane.
    pub(crate) all: usize,
    /// In the background lanes.
    pub(crate) background: usize,
}

impl Add for WaitersAhead {
    type Output = Self;

    fn add(self, others: Self) -> Self {
        Self {
            all: self.all + others.all,
            background: self.background + others.background,
        }
    }
}

struct Waiter {
    wake: Arc<Notify>,
    /// Whether it has a deadline, and so must be woken if its turn comes later.
    impatient: bool,
}

/// The waiters of one gate.
#[derive(Default)]
pub(super) struct WaitQueue {
    waiters: BTreeMap<QueueKey, Waiter>,
    arrivals: u64,
}

impl WaitQueue {
    /// Adds a waiter behind those of its lane and its kind of credential whose load is as old or
    /// older. The waiter must leave the queue again.
    pub(super) fn enter(
        &mut self,
        lane: Lane,
        proof: CredentialProof,
        began: Instant,
        wake: Arc<Notify>,
    ) -> QueueKey {
        let key = QueueKey {
            lane,
            proof,
            began,
            arrival: self.arrivals,
        };
        self.arrivals += 1;
        self.waiters.insert(
            key,
            Waiter {
                wake,
                impatient: false,
            },
        );
        key
    }

    /// Adds a call of this load. Returns its key, and what wakes it.
    pub(super) fn enter_for(&mut self, urgency: &Urgency) -> (QueueKey, Arc<Notify>) {
        let wake = Arc::new(Notify::new());
        let (lane, proof) = (urgency.lane(), CredentialProof::of(urgency));
        let key = self.enter(lane, proof, urgency.began(), Arc::clone(&wake));
        (key, wake)
    }

    /// Updates a waiter, which may change its key.
    pub(super) fn update(
        &mut self,
        key: QueueKey,
        (lane, proof): (Lane, CredentialProof),
        impatient: bool,
    ) -> QueueKey {
        let moved = QueueKey { lane, proof, ..key };
        if moved == key {
            if let Some(waiter) = self.waiters.get_mut(&key) {
                waiter.impatient = impatient;
            }
            return key;
        }
        if let Some(waiter) = self.waiters.remove(&key) {
            self.waiters.insert(
                moved,
                Waiter {
                    impatient,
                    ..waiter
                },
            );
        }
        moved
    }

    pub(super) fn leave(&mut self, key: QueueKey) {
        self.waiters.remove(&key);
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Whether it is this waiter's turn.
    pub(super) fn is_head(&self, key: QueueKey) -> bool {
        self.waiters
            .first_key_value()
            .is_some_and(|(head, _)| *head == key)
    }

    /// The number of waiters ahead of this one.
    pub(super) fn ahead(&self, key: QueueKey) -> WaitersAhead {
        let all = self.waiters.range(..key).count();
        WaitersAhead {
            all,
            background: all - self.pops_ahead(key),
        }
    }

    fn pops_ahead(&self, key: QueueKey) -> usize {
        let ahead = self.waiters.range(..key);
        let pops = ahead.take_while(|(other, _)| !other.lane.is_background());
        pops.count()
    }

    /// The number of waiters that would be ahead of one that comes now.
    pub(super) fn before_a_newcomer(&self, whose: (Lane, CredentialProof)) -> WaitersAhead {
        let mut ahead = WaitersAhead::default();
        let keys = self.waiters.keys();
        for key in keys.filter(|key| (key.lane, key.proof) <= whose) {
            ahead.all += 1;
            ahead.background += usize::from(key.lane.is_background());
        }
        ahead
    }

    /// The lane of each waiter.
    pub(super) fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.waiters.keys().map(|key| key.lane)
    }

    /// Wakes the head.
    pub(super) fn wake_head(&self) {
        if let Some((_, head)) = self.waiters.first_key_value() {
            head.wake.notify_one();
        }
    }

    /// Wakes all waiters that have a deadline.
    pub(super) fn wake_impatient(&self) {
        for waiter in self.waiters.values().filter(|waiter| waiter.impatient) {
            waiter.wake.notify_one();
        }
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.waiters.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_lane_then_by_arrival_and_a_raise_keeps_the_arrival() {
        let mut queue = WaitQueue::default();
        let began = crate::clock::now();
        let mut enter = |lane| queue.enter(lane, CredentialProof::Verified, began, Arc::default());
        let (first, second) = (enter(Lane::Prefetch), enter(Lane::Prefetch));
        let (stale, pop) = (enter(Lane::Revalidate), enter(Lane::CallPop));
        assert!(queue.is_head(pop));
        assert_eq!(
            queue.ahead(second),
            WaitersAhead {
                all: 3,
                background: 2
            }
        );
        let raised = queue.update(second, (Lane::CallPop, CredentialProof::Verified), true);
        assert!(queue.is_head(raised), "it came before the other call pop");
        for key in [raised, pop, stale, first] {
            assert!(queue.is_head(key));
            queue.leave(key);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn within_a_lane_proven_credentials_come_first() {
        let mut queue = WaitQueue::default();
        let began = crate::clock::now();
        let mut enter = |lane, proof| queue.enter(lane, proof, began, Arc::default());
        let unverified = enter(Lane::CallPop, CredentialProof::Unverified);
        let verified = enter(Lane::CallPop, CredentialProof::Verified);
        enter(Lane::Prefetch, CredentialProof::Verified);
        assert!(queue.is_head(verified));
        assert_eq!(
            queue.ahead(unverified),
            WaitersAhead {
                all: 1,
                background: 0
            }
        );
    }
}
