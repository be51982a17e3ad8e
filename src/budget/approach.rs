//! The order of calls that wait until their credential's gate is open, before they join the queue
//! of their owner.
//!
//! They do not wait in the owner's queue, where they would hold up calls of other credentials.
//! Shortly before the gate opens, they go on one after the other: call pops first, then the oldest
//! load.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::gate::Gate;
use super::queue::{CredentialProof, QueueKey};
use crate::clock::Instant;
use crate::domain::lane::Lane;
use crate::urgency::Urgency;

/// A call's place among those of its credential. The call keeps it until it is in the queue of its
/// owner, so that the call behind it does not overtake it on the way there.
pub(super) struct Approach {
    gate: Arc<Gate>,
    key: QueueKey,
    wake: Arc<Notify>,
}

/// What a call at its place knows.
pub(super) struct ApproachView {
    /// No call is ahead of it.
    pub(super) is_head: bool,
    /// How long the gate stays closed for the call, as far as known, if no other waits before it.
    pub(super) closed: Duration,
    /// The same behind the calls that wait ahead of it. Only calculated for a call with a deadline.
    pub(super) turn_in: Duration,
}

impl Approach {
    /// Takes a place behind the calls of the same lane and kind of credential (verified or not)
    /// whose load is as old or older.
    pub(super) fn enter(gate: Arc<Gate>, urgency: &Urgency) -> Self {
        let (key, wake) = gate.lock().approaching.enter_for(urgency);
        Self { gate, key, wake }
    }

    /// Moves the call to where it belongs now.
    pub(super) fn look(
        &mut self,
        whose: (Lane, CredentialProof),
        has_deadline: bool,
        now: Instant,
    ) -> ApproachView {
        let mut state = self.gate.lock();
        let moved = state.approaching.update(self.key, whose, has_deadline);
        if moved != self.key {
            self.key = moved;
            state.approaching.wake_head();
        }
        let closed = state.closed_for(whose, now);
        let turn_in = if has_deadline {
            state.turn_behind(whose, state.approaching.ahead(self.key), now)
        } else {
            closed
        };
        ApproachView {
            is_head: state.approaching.is_head(self.key),
            closed,
            turn_in,
        }
    }

    /// Waits until the calls ahead or the gate may have changed.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Approach {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.approaching.leave(self.key);
        state.approaching.wake_head();
    }
}
