//! The language in which a call is asked for and answered, by the count of this replica and by that
//! in Redis.

use std::time::Duration;

use super::allowed::NewLimit;
use super::hint::Rest;
use super::queue::{Ahead, Standing};
use super::quota::Limits;
use super::window::{Frees, micros};
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;

/// For how long after its last call a scope is known to Redis.
pub(super) const SCOPE_KNOWN: Duration = Duration::from_secs(60);

/// When a pace has its next calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Forecast {
    /// Microseconds until the next call is due. Zero or negative if a call is due now: one interval
    /// lower for each further call that is due.
    pub(crate) next: i64,
    /// Microseconds between calls.
    pub(crate) interval: i64,
}

impl Forecast {
    /// Microseconds until a call is due for whoever has `ahead` others before him.
    pub(super) fn behind(self, ahead: usize) -> i64 {
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        self.next
            .saturating_add(self.interval.saturating_mul(ahead))
    }
}

/// Who asks for a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(crate) scope: ScopeTag,
    pub(crate) lane: Lane,
    /// How many calls the window may hold.
    pub(crate) limits: Limits,
    pub(crate) standing: Standing,
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
pub(super) struct Room {
    pub(crate) limit: u32,
    pub(crate) frees: Frees,
    pub(crate) pace: Forecast,
    /// How many calls of the window, and of a burst, are kept for proven credentials.
    pub(crate) kept: Kept,
}

/// See [`Room::kept`]. The only call of a window or a burst cannot be kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    window: usize,
    burst: usize,
}

impl Kept {
    pub(super) fn one(limit: u32, burst: u32) -> Self {
        Self {
            window: usize::from(limit > 1),
            burst: usize::from(burst > 1),
        }
    }
}

impl Room {
    /// Microseconds until there is room for whoever has `ahead` others before him. Zero if there is
    /// room now.
    fn in_micros(&self, ahead: usize, kept: Kept) -> i64 {
        let free = self
            .frees
            .room_in(self.limit, ahead.saturating_add(kept.window));
        free.max(self.pace.behind(ahead.saturating_add(kept.burst)))
            .max(0)
    }
}

/// When there will be room, as far as a limiter knew when it was asked.
#[derive(Debug, Clone)]
pub(super) struct Outlook {
    seen: Instant,
    all: Room,
    background: Room,
}

impl Outlook {
    /// An outlook of this moment.
    pub(super) fn now(all: Room, background: Room) -> Self {
        Self {
            seen: clock::now(),
            all,
            background,
        }
    }

    /// Nobody knows, or looks again, before `wait` is over.
    pub(super) fn after(wait: Duration) -> Self {
        let pace = Forecast {
            next: micros(wait),
            interval: 0,
        };
        let room = Room {
            limit: u32::MAX,
            pace,
            ..Room::default()
        };
        Self::now(room.clone(), room)
    }

    /// Time until there is room for a waiter behind others. A background lane needs room in both.
    pub(super) fn wait(
        &self,
        (lane, standing): (Lane, Standing),
        ahead: Ahead,
        now: Instant,
    ) -> Duration {
        let kept = |room: &Room| {
            if standing == Standing::Unproven {
                room.kept
            } else {
                Kept::default()
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
pub(super) struct Answer {
    /// The call, if there is room. A denied ask spends nothing.
    pub(crate) granted: Option<Slot>,
    /// What comes next.
    pub(crate) outlook: Outlook,
    /// Pauses that other replicas have set.
    pub(crate) rest: Rest,
}

impl Answer {
    pub(super) fn denied(outlook: Outlook) -> Self {
        Self {
            granted: None,
            outlook,
            rest: Rest::default(),
        }
    }
}

/// What the other replicas should hear of a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct News {
    pub(crate) rest: Rest,
    /// How many calls the CRM allows now.
    pub(crate) limit: Option<NewLimit>,
}

/// Times of a quota that do not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// How long a call is held of which nothing is heard any more.
    pub(crate) hold: Duration,
    /// For how long after a proven call one call of each window is kept for proven credentials.
    pub(crate) keeps_one_for: Duration,
    /// How long nothing is spent of a scope whose count Redis has lost.
    pub(crate) unknown_for: Duration,
}

/// What Redis must know of a scope.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether it has counted a call lately, so that the scope's hash must be there.
    pub(crate) scope: bool,
    pub(crate) last: Option<Last>,
}

/// A call that Redis must hold.
#[derive(Debug)]
pub(super) struct Last {
    pub(crate) name: String,
    pub(crate) held_for: Duration,
}
