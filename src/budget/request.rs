//! How a slot is requested and granted: the same for the count of this replica and for that in
//! Redis.

use std::time::Duration;

use super::adaptive_limit::LimitChange;
use super::forecast::Forecast;
use super::pauses::Pause;
use super::queue::{CredentialProof, WaitersAhead};
use super::quota::{Quota, WindowLimits};
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;

/// For how long after its last call Redis must know a scope.
pub(super) const SCOPE_KNOWN: Duration = Duration::from_secs(60);

/// A call that wants a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotRequest {
    pub(crate) scope: ScopeTag,
    pub(crate) lane: Lane,
    /// How many calls the window may hold.
    pub(crate) limits: WindowLimits,
    pub(crate) proof: CredentialProof,
    /// Whether it asks although the scope is paused.
    pub(crate) is_probe: bool,
    /// Whether it goes at the pace of the quota, and not only within the window.
    pub(crate) is_paced: bool,
    /// How long it would wait; `None` for however long.
    pub(crate) patience: Option<Duration>,
    /// Whether the call is made already and only to be counted.
    pub(crate) is_made: bool,
}

impl SlotRequest {
    /// How long it waits by a forecast if nobody is ahead of it.
    pub(super) fn wait_for(&self, forecast: &Forecast) -> Duration {
        let whose = (self.lane, self.proof);
        forecast.wait(whose, WaitersAhead::default(), clock::now())
    }
}

/// A call that the windows hold.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(crate) scope: ScopeTag,
    pub(crate) is_background: bool,
    /// Until when, unless it is released.
    pub(crate) until: Instant,
    /// Its name in Redis, if it is counted there.
    pub(crate) name: Option<String>,
    /// When it was granted as a probe of a pause, if it is one.
    pub(crate) probe: Option<Instant>,
}

impl Slot {
    /// The slot of a request, counted by this replica only.
    pub(super) fn granted(request: &SlotRequest, until: Instant) -> Self {
        Self {
            scope: request.scope,
            is_background: request.lane.is_background(),
            until,
            name: None,
            probe: None,
        }
    }
}

/// The reply of a limiter.
#[derive(Debug)]
pub(super) struct SlotReply {
    /// The call, if there is room. A denied request spends nothing.
    pub(crate) granted: Option<Slot>,
    /// When there will be room.
    pub(crate) forecast: Forecast,
    /// Pauses that other replicas have set.
    pub(crate) pause: Pause,
}

impl SlotReply {
    pub(super) fn denied(forecast: Forecast) -> Self {
        Self {
            granted: None,
            forecast,
            pause: Pause::default(),
        }
    }
}

/// What the other replicas should apply to a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeUpdate {
    pub(crate) pause: Pause,
    /// How many calls the CRM allows now.
    pub(crate) limit: Option<LimitChange>,
}

/// What Redis must know of a quota to count a call of it.
#[derive(Debug)]
pub(super) struct SharedTerms {
    pub(crate) quota: Quota,
    /// How long a call without a known end is held.
    pub(crate) hold: Duration,
    /// For how long after a proven call one call of each window is reserved for proven credentials.
    pub(crate) reserve_for: Duration,
    /// How long nothing is spent of a scope whose count Redis has lost.
    pub(crate) unknown_for: Duration,
    /// How many calls of a window are left to replicas that do not reach Redis.
    pub(crate) left_to_absent: u32,
    pub(crate) expected: ExpectedInRedis,
}

/// What Redis must know of a scope, unless it has lost its count.
#[derive(Debug, Default)]
pub(super) struct ExpectedInRedis {
    /// Whether it has counted a call lately, so that the scope's hash must be there.
    pub(crate) is_scope_known: bool,
    pub(crate) call: Option<ExpectedCall>,
}

/// A call that Redis must hold.
#[derive(Debug)]
pub(super) struct ExpectedCall {
    pub(crate) name: String,
    pub(crate) held_for: Duration,
}
