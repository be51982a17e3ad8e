//! A call that may be made, and how its end is counted.
//!
//! Owns the promise that a turn which comes to nothing is given back: its waiter has left, or the other scope of the
//! same call has no room in time.

use std::sync::Arc;

use super::gate::Gate;
use super::hint::RateHint;
use super::limiter::{Limiter, Slot};
use crate::clock::{Instant, instant};

/// A call counted in one scope.
#[derive(Debug)]
pub(super) struct Counted {
    pub gate: Arc<Gate>,
    pub limiter: Arc<Limiter>,
    pub slot: Slot,
}

impl Counted {
    /// Takes effect before the first await.
    fn observe(self, hint: &RateHint, granted: Instant) -> impl Future<Output = ()> + use<> {
        let Self { gate, limiter, slot } = self;
        limiter.release(&slot);
        let news = gate.note(&limiter, hint, granted);
        async move {
            if let Some(news) = news {
                limiter.tell(gate.scope(), news).await;
            }
        }
    }

    fn give_back(&self) {
        self.limiter.give_back(&self.slot);
        self.gate.look_again();
    }
}

/// A call that one gate has let pass and that is not made yet; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Counted>);

impl Turn {
    pub(super) fn new(counted: Counted) -> Self {
        Self(Some(counted))
    }

    /// The call is made.
    fn spend(mut self) -> Option<Counted> {
        self.0.take()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(counted) = self.0.take() {
            counted.give_back();
        }
    }
}

/// One HTTP call that may be made now. Dropped without [`Permit::observe`], it counts as one that may still arrive.
#[derive(Debug)]
#[must_use = "a permit is spent whether it is used or not"]
pub struct Permit {
    /// In the scope of its owner, and in that of its credential if that is another.
    counted: [Option<Counted>; 2],
    granted: Instant,
}

impl Permit {
    pub(super) fn new(owner: Turn, credential: Option<Turn>) -> Self {
        Self { counted: [owner.spend(), credential.and_then(Turn::spend)], granted: instant() }
    }

    /// The call has had its reply. Takes in what the reply said of the CRM's limit. A plain success counts too: it ends
    /// pauses, and the doubling of them.
    ///
    /// Takes effect here before the first await. Only news is then told to the other replicas, which takes at most
    /// the timeout of the link to Redis.
    pub async fn observe(self, hint: &RateHint) {
        let tellings = self.counted.map(|counted| counted.map(|counted| counted.observe(hint, self.granted)));
        for telling in tellings.into_iter().flatten() {
            telling.await;
        }
    }

    /// The call is not made.
    pub fn give_back(self) {
        self.counted.iter().flatten().for_each(Counted::give_back);
    }

    /// The call will have no reply and can no longer arrive: its connection could not be made, or broke.
    pub fn end(self) {
        self.counted.iter().flatten().for_each(|counted| counted.limiter.release(&counted.slot));
    }
}
