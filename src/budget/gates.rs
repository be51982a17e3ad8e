//! One quota of a connector: its limiter, and a gate for each scope in use.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::poll_immediate;
use parking_lot::Mutex;

use super::approach::Approach;
use super::gate::Gate;
use super::limiter::QuotaLimiter;
use super::permit::{CountedSlot, SlotGuard};
use super::queue::CredentialProof;
use super::quota::Quota;
use super::request::Slot;
use super::usage::Usage;
use super::waiting::{self, is_too_late, wanted};
use super::{Exhausted, STALE};
use crate::clock;
use crate::domain::ScopeTag;
use crate::urgency::Urgency;

/// How often a call that waits for its credential's gate checks it again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A call joins its owner's queue this long before its credential's gate opens, so that it has its
/// place in the order by then. Shorter than [`STALE`], after which it would give its owner's slot
/// back.
const EARLY: Duration = Duration::from_millis(125);

/// A quota's limiter, and a gate for each scope in use.
pub(super) struct QuotaGates {
    /// Whether calls wait here. They do not if this kind of calls has no quota of its own.
    is_used: AtomicBool,
    pub(super) limiter: Arc<QuotaLimiter>,
    pub(super) gates: Mutex<HashMap<ScopeTag, Arc<Gate>, foldhash::fast::RandomState>>,
}

impl QuotaGates {
    pub(super) fn new(limiter: QuotaLimiter, is_used: bool) -> Self {
        Self {
            is_used: AtomicBool::new(is_used),
            limiter: Arc::new(limiter),
            gates: Mutex::default(),
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    pub(super) fn set_used(&self, is_used: bool) {
        self.is_used.store(is_used, Ordering::Release);
    }

    /// Applies other settings. With `forgets`, the past is unknown afterwards, because calls that
    /// were counted elsewhere are counted here from now on.
    pub(super) fn set(&self, quota: Quota, admitted: Duration, forgets: bool) {
        if self.limiter.set(quota, admitted, forgets) {
            self.refresh();
        }
    }

    pub(super) fn gate(&self, scope: ScopeTag) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        Arc::clone(
            gates
                .entry(scope)
                .or_insert_with(|| Arc::new(Gate::new(scope))),
        )
    }

    /// The gate of a scope, if the scope is in use.
    pub(super) fn known(&self, scope: ScopeTag) -> Option<Arc<Gate>> {
        self.gates.lock().get(&scope).map(Arc::clone)
    }

    pub(super) fn counted(&self, gate: Arc<Gate>, slot: Slot) -> SlotGuard {
        SlotGuard::new(CountedSlot {
            gate,
            limiter: Arc::clone(&self.limiter),
            slot,
        })
    }

    /// Waits for a call's turn in the scope of its owner, at the pace of the quota. The call leaves
    /// its `place` among those of its credential once it is in the owner's queue. The credential's
    /// next call then queues behind it, unless that call has another owner.
    pub(super) async fn pass_owner(
        &self,
        owner: ScopeTag,
        urgency: &Urgency,
        place: Option<Approach>,
    ) -> Result<SlotGuard, Exhausted> {
        let gate = self.gate(owner);
        gate.mark_owner();
        let mut passing = pin!(self.pass(gate, urgency, true));
        let passed = poll_immediate(passing.as_mut()).await;
        drop(place);
        match passed {
            Some(passed) => passed,
            None => passing.await,
        }
    }

    /// Waits briefly for room in the scope of a call's credential.
    pub(super) async fn pass_credential(
        &self,
        credential: ScopeTag,
        urgency: &Urgency,
    ) -> Result<SlotGuard, Exhausted> {
        let gate = self.gate(credential);
        self.pass(gate, urgency, false).await
    }

    async fn pass(
        &self,
        gate: Arc<Gate>,
        urgency: &Urgency,
        is_paced: bool,
    ) -> Result<SlotGuard, Exhausted> {
        // Boxed: it is large, and a call has two of them.
        let slot = Box::pin(waiting::pass(&gate, &self.limiter, urgency, is_paced)).await?;
        Ok(self.counted(gate, slot))
    }

    /// Waits until the credential's gate is open or about to open, as far as known, and no other
    /// call waits ahead of this one. Spends nothing. Returns its place, if it has waited.
    pub(super) async fn approach(
        &self,
        credential: Option<ScopeTag>,
        urgency: &Urgency,
    ) -> Result<Option<Approach>, Exhausted> {
        let Some(gate) = credential.map(|credential| self.gate(credential)) else {
            return Ok(None);
        };
        let now = clock::now();
        let (lane, deadline) = wanted(urgency, now);
        let is_late = |wait| deadline.is_some_and(|at| is_too_late(wait, at, now));
        let opens_in = gate.opens_in((lane, CredentialProof::of(urgency)), now);
        if opens_in.is_some_and(|wait| wait <= STALE && !is_late(wait)) {
            return Ok(None);
        }
        let mut place = Approach::enter(Arc::clone(&gate), urgency);
        loop {
            // Before the urgency is read, so that no change is missed between reading and waiting.
            let changed = urgency.changed();
            let now = clock::now();
            let (lane, deadline) = wanted(urgency, now);
            let whose = (lane, CredentialProof::of(urgency));
            let view = place.look(whose, deadline.is_some(), now);
            if deadline.is_some_and(|at| is_too_late(view.turn_in, at, now)) {
                return Err(Exhausted {
                    retry_after: view.turn_in,
                });
            }
            if view.is_head && view.closed <= EARLY {
                return Ok(Some(place));
            }
            if view.is_head && gate.ask_about_pause(&self.limiter, lane).await {
                continue;
            }
            let again = if view.is_head {
                view.closed.saturating_sub(EARLY).min(LOOK_AGAIN)
            } else {
                LOOK_AGAIN
            };
            tokio::select! {
                () = place.woken() => {}
                () = clock::sleep(again) => {}
                () = changed => {}
            }
        }
    }

    pub(super) fn usage(&self) -> Usage {
        // Not under the lock, because calls begin meanwhile.
        let gates: Vec<Arc<Gate>> = self.gates.lock().values().map(Arc::clone).collect();
        let mut usage = Usage::default();
        for gate in gates {
            gate.add_to(&mut usage);
        }
        usage
    }

    /// Makes all waiters ask the limiter again.
    pub(super) fn refresh(&self) {
        for gate in self.gates.lock().values() {
            gate.refresh();
        }
    }

    /// Drops the scopes that nobody uses.
    pub(super) fn sweep(&self) {
        let mut gates = self.gates.lock();
        // Every user of a gate holds a clone of it, and clones are made under this lock.
        gates.retain(|_, gate| is_in_use(gate));
        gates.shrink_to_fit();
        drop(gates);
        self.limiter.sweep();
    }
}

fn is_in_use(gate: &Arc<Gate>) -> bool {
    Arc::strong_count(gate) > 1 || !gate.is_idle()
}
