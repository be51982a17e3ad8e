//! The language in which a call is asked for and answered, by the count of this replica and by that
//! in Redis.

use std::time::Duration;

use super::allowed::LimitChange;
use super::hint::Pause;
use super::queue::{WaitersAhead, CredentialProof};
use super::quota::WindowLimits;
use super::window::{FreeTimes, micros};
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;

/// For how long after its last call a scope is known to Redis.
pub(super) const SCOPE_KNOWN: Duration = Duration::from_secs(60);

/// When a pace has its next calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NextCalls {
    /// Microseconds until the next call is due. Zero or negative if a call is due now: one interval
    /// lower for each further call that is due.
    pub(crate) next: i64,
    /// Microseconds between calls.
    pub(crate) interval: i64,
}

impl NextCalls {
    /// Microseconds until a call is due for whoever has `ahead` others before him.
    pub(super) fn behind(self, ahead: usize) -> i64 {
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        self.next
            .saturating_add(self.interval.saturating_mul(ahead))
    }
}

/// Who asks for a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotRequest {
    pub(crate) scope: ScopeTag,
    pub(crate) lane: Lane,
    /// How many calls the window may hold.
    pub(crate) limits: WindowLimits,
    pub(crate) proof: CredentialProof,
    /// Whether it asks although the CRM wants a rest.
    pub(crate) is_probe: bool,
    /// Whether it goes at the pace of the quota, and not only within the window.
    pub(crate) is_paced: bool,
    /// How long it would wait; `None` for however long.
    pub(crate) patience: Option<Duration>,
    /// Whether the call is made already and only to be counted.
    pub(crate) is_made: bool,
}

/// When there is room for a call, in one kind of lanes.
#[derive(Debug, Clone, Default)]
pub(super) struct RoomForecast {
    pub(crate) limit: u32,
    pub(crate) frees: FreeTimes,
    pub(crate) pace: NextCalls,
    /// How many calls of the window, and of a burst, are kept for proven credentials.
    pub(crate) kept: Reserved,
}

/// See [`RoomForecast::kept`]. The only call of a window or a burst cannot be kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reserved {
    window: usize,
    burst: usize,
}

impl Reserved {
    pub(super) fn one(limit: u32, burst: u32) -> Self {
        Self {
            window: usize::from(limit > 1),
            burst: usize::from(burst > 1),
        }
    }
}

impl RoomForecast {
    /// Microseconds until there is room for whoever has `ahead` others before him. Zero if there is
    /// room now.
    fn in_micros(&self, ahead: usize, kept: Reserved) -> i64 {
        let free = self
            .frees
            .room_in(self.limit, ahead.saturating_add(kept.window));
        free.max(self.pace.behind(ahead.saturating_add(kept.burst)))
            .max(0)
    }
}

/// When there will be room, as far as a limiter knew when it was asked.
#[derive(Debug, Clone)]
pub(super) struct Forecast {
    seen: Instant,
    all: RoomForecast,
    background: RoomForecast,
}

impl Forecast {
    /// An outlook of this moment.
    pub(super) fn now(all: RoomForecast, background: RoomForecast) -> Self {
        Self {
            seen: clock::now(),
            all,
            background,
        }
    }

    /// Nobody knows, or looks again, before `wait` is over.
    pub(super) fn after(wait: Duration) -> Self {
        let pace = NextCalls {
            next: micros(wait),
            interval: 0,
        };
        let room = RoomForecast {
            limit: u32::MAX,
            pace,
            ..RoomForecast::default()
        };
        Self::now(room.clone(), room)
    }

    /// Time until there is room for a waiter behind others. A background lane needs room in both.
    pub(super) fn wait(
        &self,
        (lane, proof): (Lane, CredentialProof),
        ahead: WaitersAhead,
        now: Instant,
    ) -> Duration {
        let kept = |room: &RoomForecast| {
            if proof == CredentialProof::Unproven {
                room.kept
            } else {
                Reserved::default()
            }
        };
        let mut micros = self.all.in_micros(ahead.all, kept(&self.all));
        if lane.is_background() {
            micros = micros.max(
                self.background
                    .in_micros(ahead.background, kept(&self.background)),
            );
        }
        let from_seen = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        from_seen.saturating_sub(now.saturating_duration_since(self.seen))
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

/// What a limiter answers.
#[derive(Debug)]
pub(super) struct SlotReply {
    /// The call, if there is room. A denied ask spends nothing.
    pub(crate) granted: Option<Slot>,
    /// What comes next.
    pub(crate) forecast: Forecast,
    /// Pauses that other replicas have set.
    pub(crate) rest: Pause,
}

impl SlotReply {
    pub(super) fn denied(forecast: Forecast) -> Self {
        Self {
            granted: None,
            forecast,
            rest: Pause::default(),
        }
    }
}

/// What the other replicas should hear of a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeUpdate {
    pub(crate) rest: Pause,
    /// How many calls the CRM allows now.
    pub(crate) limit: Option<LimitChange>,
}

/// Times of a quota that do not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct HoldTimes {
    /// How long a call is held of which nothing is heard any more.
    pub(crate) hold: Duration,
    /// For how long after a proven call one call of each window is kept for proven credentials.
    pub(crate) reserve_for: Duration,
    /// How long nothing is spent of a scope whose count Redis has lost.
    pub(crate) unknown_for: Duration,
}

/// What Redis must know of a scope.
#[derive(Debug, Default)]
pub(super) struct ExpectedInRedis {
    /// Whether it has counted a call lately, so that the scope's hash must be there.
    pub(crate) scope: bool,
    pub(crate) last: Option<ExpectedCall>,
}

/// A call that Redis must hold.
#[derive(Debug)]
pub(super) struct ExpectedCall {
    pub(crate) name: String,
    pub(crate) held_for: Duration,
}
