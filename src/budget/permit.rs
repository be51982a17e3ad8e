//! A call that may be made, and how its end is counted.
//!
//! A slot that is not used is given back: its waiter has left, or the call's other scope has no
//! room in time.

use std::sync::Arc;

use super::gate::Gate;
use super::hint::RateHint;
use super::limiter::QuotaLimiter;
use super::request::Slot;
use crate::clock::{self, Instant};

/// A call counted in one scope.
#[derive(Debug)]
pub(super) struct CountedSlot {
    pub(crate) gate: Arc<Gate>,
    pub(crate) limiter: Arc<QuotaLimiter>,
    pub(crate) slot: Slot,
}

impl CountedSlot {
    /// The reply came at `at`. Takes effect before the first await.
    fn observe(
        self,
        hint: &RateHint,
        is_owner: bool,
        granted: Instant,
        at: Instant,
    ) -> impl Future<Output = ()> + use<> {
        let Self {
            gate,
            limiter,
            slot,
        } = self;
        if limiter.release(&slot, at) {
            gate.refresh();
        }
        let update = gate.apply_hint(&limiter, hint, is_owner, granted);
        async move {
            if let Some(update) = update {
                limiter.publish(gate.scope(), update).await;
            }
        }
    }

    /// The call got no reply and could not arrive after `at`.
    fn end(&self, at: Instant) {
        if self.limiter.release(&self.slot, at) {
            self.gate.refresh();
        }
    }

    fn give_back(&self) {
        self.gate.give_back(&self.limiter, &self.slot);
    }
}

/// A call that one gate has let pass and that is not made yet. Given back on drop.
#[derive(Debug)]
pub(super) struct SlotGuard(Option<Box<CountedSlot>>);

impl SlotGuard {
    pub(super) fn new(counted: CountedSlot) -> Self {
        Self(Some(Box::new(counted)))
    }

    /// The call is made.
    fn spend(mut self) -> Option<Box<CountedSlot>> {
        self.0.take()
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if let Some(counted) = self.0.take() {
            counted.give_back();
        }
    }
}

/// One HTTP call that may be made now. If it is dropped without [`Permit::observe_since`], the call
/// counts as one that may still arrive.
#[derive(Debug)]
#[must_use = "a permit is spent whether it is used or not"]
pub(crate) struct Permit {
    /// The slot in the owner's scope. Both slots are boxed, because every future of a call holds a
    /// permit.
    owner: Option<Box<CountedSlot>>,
    /// The slot in the credential's scope, if that is another one.
    credential: Option<Box<CountedSlot>>,
    granted: Instant,
}

impl Permit {
    /// A call that its owner's gate let pass at `granted`.
    pub(super) fn new(owner: SlotGuard, credential: Option<SlotGuard>, granted: Instant) -> Self {
        Self {
            owner: owner.spend(),
            credential: credential.and_then(SlotGuard::spend),
            granted,
        }
    }

    #[must_use]
    pub(crate) fn granted(&self) -> Instant {
        self.granted
    }

    /// The call got its reply at `at`. Applies what the reply reports about the CRM's limit. A
    /// plain success counts too: it ends pauses and resets their doubling.
    ///
    /// Takes effect here before the first await. Changes are then published to the other replicas,
    /// which takes at most the timeout of the link to Redis.
    pub(crate) async fn observe_since(self, hint: &RateHint, at: Instant) {
        let hint = hint.after(clock::now().saturating_duration_since(at));
        let owner = self
            .owner
            .map(|counted| counted.observe(&hint, true, self.granted, at));
        let credential = self
            .credential
            .map(|counted| counted.observe(&hint, false, self.granted, at));
        for publishing in [owner, credential].into_iter().flatten() {
            publishing.await;
        }
    }

    /// The call is not made.
    pub(crate) fn give_back(self) {
        self.counted().for_each(CountedSlot::give_back);
    }

    /// The call gets no reply and can no longer arrive after `at`: its connection could not be
    /// made, or broke.
    pub(crate) fn end_since(self, at: Instant) {
        self.counted().for_each(|counted| counted.end(at));
    }

    fn counted(&self) -> impl Iterator<Item = &CountedSlot> {
        self.owner.iter().chain(&self.credential).map(Box::as_ref)
    }
}
