//! How a slot is requested and granted: the same for this replica's count and for that in Redis.

use std::time::Duration;

use super::adaptive_limit::LimitChange;
use super::forecast::Forecast;
use super::held::TotalsHeld;
use super::limits::{TotalLimits, WindowLimits};
use super::pauses::Pause;
use super::queue::{CredentialProof, WaitersAhead};
use super::quota::Quota;
use crate::clock::Instant;
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;
use crate::redis_link::{DataToken, NotedPoll};

/// How long after a scope's last call Redis must still know the scope.
pub(super) const SCOPE_KNOWN: Duration = Duration::from_secs(60);

/// A call that needs a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotRequest {
    pub(crate) scope: ScopeTag,
    pub(crate) lane: Lane,
    /// The most calls of the window.
    pub(crate) limits: WindowLimits,
    /// The most calls over all kinds.
    pub(crate) totals: TotalLimits,
    pub(crate) proof: CredentialProof,
    /// Whether it asks although the scope is paused.
    pub(crate) is_probe: bool,
    /// Whether the quota's pace applies, and not only the window.
    pub(crate) is_paced: bool,
    /// How long it would wait; `None` if without a limit.
    pub(crate) patience: Option<Duration>,
    pub(crate) aim: RequestAim,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestAim {
    /// To make a call if there is room.
    Spend,
    /// To count a call that was already made, whether there is room or not.
    Count,
    /// To see when there is room. Nothing is granted.
    Look,
}

impl SlotRequest {
    /// How long the call waits, counted from the moment of the forecast, if nobody is ahead of it.
    /// Zero if there was room at that moment. A call on the wire may take longer than the forecast
    /// expects, so time that has passed since then makes no room. That is why this wait, and not
    /// the wait from now on, decides whether there is room.
    pub(super) fn wait_when_seen(&self, forecast: &Forecast) -> Duration {
        self.wait_for(forecast, forecast.seen())
    }

    /// How long it waits from `now` according to a forecast, if nobody is ahead of it.
    pub(super) fn wait_for(&self, forecast: &Forecast, now: Instant) -> Duration {
        let whose = (self.lane, self.proof);
        forecast.wait(whose, WaitersAhead::default(), now)
    }
}

/// A call that the windows hold.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(crate) scope: ScopeTag,
    pub(crate) is_background: bool,
    /// Held until then, unless it is released.
    pub(crate) until: Instant,
    /// When it was granted, if it counts in the totals.
    pub(crate) in_totals: Option<Instant>,
    /// Its name in Redis, if it is counted there.
    pub(crate) name: Option<String>,
    /// When it was granted as a probe of a pause, if it is one.
    pub(crate) probe: Option<Instant>,
}

impl Slot {
    /// The slot of a request that is granted `now`, counted by this replica only.
    pub(super) fn granted(request: &SlotRequest, until: Instant, now: Instant) -> Self {
        Self {
            scope: request.scope,
            is_background: request.lane.is_background(),
            until,
            in_totals: (!request.totals.is_empty()).then_some(now),
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
    /// Pauses that other replicas have set. `None` if Redis was not asked, or did not reply.
    pub(crate) pause: Option<Pause>,
}

impl SlotReply {
    pub(super) fn denied(forecast: Forecast) -> Self {
        Self {
            granted: None,
            forecast,
            pause: None,
        }
    }
}

/// An update of a scope for the other replicas.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeUpdate {
    pub(crate) pause: Pause,
    /// How many calls the CRM allows now.
    pub(crate) limit: Option<LimitChange>,
}

/// What Redis must know of a quota to count its calls.
#[derive(Debug)]
pub(super) struct SharedTerms {
    pub(crate) quota: Quota,
    /// How long a call without a known end is held.
    pub(crate) hold: Duration,
    /// How long after a verified call one call of each window is reserved for verified credentials.
    pub(crate) reserve_for: Duration,
    /// How long nothing is spent in a scope whose count Redis has lost.
    pub(crate) unknown_for: Duration,
    /// The calls of a window that are left to replicas without Redis.
    pub(crate) left_to_absent: u32,
    /// The most calls over all kinds, without the share of those replicas.
    pub(crate) totals: TotalLimits,
    /// How long a call may be on the wire.
    pub(crate) call_timeout: Duration,
    /// The calls over all kinds that this replica has made itself.
    pub(crate) own: TotalsHeld,
    pub(crate) expected: ExpectedInRedis,
    /// The data token and the poll by which Redis recognizes the data that this replica has seen.
    pub(crate) seen: Option<(DataToken, NotedPoll)>,
}

/// What Redis must know of a scope, unless it has lost its count.
#[derive(Debug, Default)]
pub(super) struct ExpectedInRedis {
    /// Whether it has counted a call recently, so that the scope's hash must exist.
    pub(crate) is_scope_known: bool,
    /// Whether Redis lost all its data and this replica has just waited for that. If so, a scope or
    /// a call that Redis does not know is not a new loss.
    pub(crate) is_loss_over: bool,
    pub(crate) call: Option<ExpectedCall>,
}

/// A call that Redis must hold.
#[derive(Debug)]
pub(super) struct ExpectedCall {
    pub(crate) name: String,
    pub(crate) held_for: Duration,
}
