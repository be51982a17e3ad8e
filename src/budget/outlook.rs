//! What one scope's quota holds now, and when a call would have its turn: for people who ask why a
//! look-up is late or refused.
//!
//! Looks only. Nothing is spent, nobody's turn changes, and no scope begins to be counted.

use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use super::queue::CredentialProof;
use super::request::SlotRequest;
use super::usage::Usage;
use super::{Budget, CallKind, Scopes};
use crate::clock;
use crate::domain::{Lane, ScopeTag};

/// The quota of one scope, for calls of one lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuotaOutlook {
    /// The most calls of a window: as configured, or what the CRM has allowed of late if that is
    /// less.
    pub(crate) limit: u32,
    /// The length of a window.
    pub(crate) per: Duration,
    /// The calls that the window holds, of all replicas if Redis counts them.
    pub(crate) used: u32,
    /// How long calls of the lane are paused, whether or not one may probe meanwhile.
    pub(crate) paused_for: Duration,
    /// The scope's calls that wait in this process, in the order of [`Lane::ALL`].
    pub(crate) waiting: [usize; Lane::ALL.len()],
    /// When a call that comes now has its turn, as far as known. Zero if at once.
    pub(crate) turn_in: Duration,
}

impl Budget {
    /// The quota of `scopes` for a call of this kind and lane, whose credential is `verified` or not.
    pub(crate) async fn outlook(
        &self,
        scopes: Scopes,
        kind: CallKind,
        (lane, verified): (Lane, bool),
    ) -> QuotaOutlook {
        let gates = self.gates(kind);
        // A scope that is not in use has an empty gate, which is not kept.
        let gate = |scope: ScopeTag| {
            let known = gates.known(scope);
            known.unwrap_or_else(|| Arc::new(Gate::new(scope)))
        };
        let owner = gate(scopes.owner);
        let credential = (scopes.credential != scopes.owner).then(|| gate(scopes.credential));
        let whose = (lane, CredentialProof::known(verified));
        let request = owner.lock().request(scopes.owner, &gates.limiter, lane);
        let request = SlotRequest {
            proof: whose.1,
            patience: Some(Duration::ZERO),
            is_look: true,
            ..request
        };
        let seen = gates.limiter.look(&request).await;
        let mut usage = Usage::default();
        let mut turn_in = Duration::ZERO;
        for gate in [Some(&owner), credential.as_ref()].into_iter().flatten() {
            gate.add_to(&mut usage);
            turn_in = turn_in.max(gate.turn_in(whose).0);
        }
        let elsewhere = seen.pause.of(lane);
        let (_, ahead) = owner.turn_in(whose);
        let in_window = seen.forecast.wait(whose, ahead, clock::now());
        QuotaOutlook {
            limit: request.limits.all.min(seen.forecast.limit()),
            per: gates.limiter.quota().per(),
            used: seen.forecast.held(),
            paused_for: owner.paused_for(lane).max(elsewhere),
            waiting: usage.waiting,
            turn_in: turn_in.max(elsewhere).max(in_window),
        }
    }
}
