//! What one scope's quota holds now, and when a call would have its turn: for people who ask why a
//! look-up is late or refused.
//!
//! Looks only. Nothing is spent, nobody's turn changes, and no scope begins to be counted.

use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use super::gates::QuotaGates;
use super::queue::CredentialProof;
use super::request::{RequestAim, SlotRequest};
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
    /// The quota of `scopes` for a call of this kind and lane, whose credential is `verified` or
    /// not.
    pub(crate) async fn outlook(
        &self,
        scopes: Scopes,
        kind: CallKind,
        (lane, verified): (Lane, bool),
    ) -> QuotaOutlook {
        let gates = self.gates(kind);
        let [owner, credential] = [scopes.owner, scopes.credential].map(|scope| gates.seen(scope));
        let whose = (lane, CredentialProof::known(verified));
        let request = owner.lock().request(scopes.owner, &gates.limiter, lane);
        let request = SlotRequest {
            proof: whose.1,
            patience: Some(Duration::ZERO),
            aim: RequestAim::Look,
            ..request
        };
        let seen = gates.limiter.look(&request).await;
        let (turn_in, ahead) = owner.turn_in(whose);
        let mut usage = Usage::default();
        owner.add_to(&mut usage);
        if scopes.credential != scopes.owner {
            credential.add_to(&mut usage);
        }
        let elsewhere = seen.pause.unwrap_or_default().of(lane);
        let waits = [
            turn_in,
            credential.turn_in(whose).0,
            seen.forecast.wait(whose, ahead, clock::now()),
            elsewhere,
        ];
        QuotaOutlook {
            limit: request.limits.all.min(seen.forecast.limit()),
            per: gates.limiter.quota().per(),
            used: seen.forecast.held(),
            paused_for: owner.paused_for(lane).max(elsewhere),
            waiting: usage.waiting,
            turn_in: waits.into_iter().fold(Duration::ZERO, Duration::max),
        }
    }
}

impl QuotaGates {
    /// The gate of a scope. One that is not in use has an empty gate, which is not kept.
    fn seen(&self, scope: ScopeTag) -> Arc<Gate> {
        let known = self.known(scope);
        known.unwrap_or_else(|| Arc::new(Gate::new(scope)))
    }
}
