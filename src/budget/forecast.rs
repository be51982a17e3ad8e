//! When a scope will have room for a waiter, as known when the limiter was asked.
//!
//! Calculates waits from the free times of the window, the pace, the waiters ahead, and the calls
//! reserved for verified credentials. Does not know about queues, nor where the numbers come from.

use std::time::Duration;

use super::queue::{CredentialProof, WaitersAhead};
use super::window::{FreeTimes, micros};
use crate::clock::{self, Instant};
use crate::domain::lane::Lane;

/// The assumed wait for a place on the wire: any call may end at any time. A call with less time
/// left than this is refused, so that its caller gets the error in time.
pub(super) const NEXT_PLACE: Duration = Duration::from_millis(30);
/// How soon a call that only lacks a place on the wire asks again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// When the pace allows the next calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NextCalls {
    /// Microseconds until the next call is due. Zero or negative if a call is due now. Each further
    /// call that is due now lowers the value by one interval.
    pub(crate) next: i64,
    /// Microseconds between calls.
    pub(crate) interval: i64,
}

impl NextCalls {
    /// Microseconds until a call is due for a waiter with `ahead` others before it.
    pub(super) fn behind(self, ahead: usize) -> i64 {
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        self.next
            .saturating_add(self.interval.saturating_mul(ahead))
    }
}

/// When there is room for a call, for one group of lanes.
#[derive(Debug, Clone, Default)]
pub(super) struct RoomForecast {
    pub(crate) limit: u32,
    pub(crate) free_times: FreeTimes,
    pub(crate) next_calls: NextCalls,
    /// How many calls of the window, and of a burst, are reserved for verified credentials.
    pub(crate) reserved: Reserved,
    /// Further windows in which the call needs room.
    pub(crate) totals: Vec<WindowRoom>,
}

impl RoomForecast {
    /// Room for any number of calls after this time.
    fn after(wait: Duration) -> Self {
        let next_calls = NextCalls {
            next: micros(wait),
            interval: 0,
        };
        Self {
            limit: u32::MAX,
            next_calls,
            ..Self::default()
        }
    }
}

/// When a window has room.
#[derive(Debug, Clone)]
pub(super) struct WindowRoom {
    pub(crate) limit: u32,
    pub(crate) free_times: FreeTimes,
}

impl WindowRoom {
    fn in_micros(&self, ahead: usize, is_one_reserved: bool) -> i64 {
        let reserved = usize::from(is_one_reserved && self.limit > 1);
        self.free_times
            .room_in(self.limit, ahead.saturating_add(reserved))
    }
}

/// See [`RoomForecast::reserved`]. If a window or a burst has only one call, it cannot be reserved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reserved {
    is_one: bool,
    window: usize,
    burst: usize,
}

impl Reserved {
    /// One call if `is_reserved`, otherwise none.
    pub(super) fn one_if(is_reserved: bool, limit: u32, burst: u32) -> Self {
        if is_reserved {
            Self::one(limit, burst)
        } else {
            Self::default()
        }
    }

    fn one(limit: u32, burst: u32) -> Self {
        Self {
            is_one: true,
            window: usize::from(limit > 1),
            burst: usize::from(burst > 1),
        }
    }
}

impl RoomForecast {
    /// Microseconds until there is room for a waiter with `ahead` others before it. Zero if there
    /// is room now.
    fn in_micros(&self, ahead: usize, reserved: Reserved) -> i64 {
        let in_window = ahead.saturating_add(reserved.window);
        let in_burst = ahead.saturating_add(reserved.burst);
        let free = self.free_times.room_in(self.limit, in_window);
        let in_totals = self
            .totals
            .iter()
            .map(|window| window.in_micros(ahead, reserved.is_one));
        in_totals.fold(free.max(self.next_calls.behind(in_burst)).max(0), i64::max)
    }
}

/// When there will be room, as known when the limiter was asked.
#[derive(Debug, Clone)]
pub(super) struct Forecast {
    seen: Instant,
    all: RoomForecast,
    background: RoomForecast,
}

impl Forecast {
    /// A forecast of this moment.
    pub(super) fn now(all: RoomForecast, background: RoomForecast) -> Self {
        Self::seen_at(clock::now(), all, background)
    }

    /// A forecast of a moment by another clock.
    pub(super) fn seen_at(seen: Instant, all: RoomForecast, background: RoomForecast) -> Self {
        Self {
            seen,
            all,
            background,
        }
    }

    /// No room before `wait` is over, and then room for all, because nobody knows more or checks
    /// again earlier.
    pub(super) fn after(wait: Duration) -> Self {
        let room = RoomForecast::after(wait);
        Self::now(room.clone(), room)
    }

    /// The same, but there is no room before `wait` is over.
    pub(super) fn not_before(mut self, wait: Duration) -> Self {
        for room in [&mut self.all, &mut self.background] {
            room.next_calls.next = room.next_calls.next.max(micros(wait));
        }
        self
    }

    /// The moment of the forecast.
    pub(super) fn seen(&self) -> Instant {
        self.seen
    }

    /// The calls of all lanes that the window holds, as far as known.
    pub(super) fn held(&self) -> u32 {
        self.all.free_times.held
    }

    /// The most calls that it may hold.
    pub(super) fn limit(&self) -> u32 {
        self.all.limit
    }

    /// How soon a call that only lacks a place on the wire asks again.
    pub(super) fn recheck_in(
        &self,
        whose: (Lane, CredentialProof),
        now: Instant,
    ) -> Option<Duration> {
        let wait = self.wait(whose, WaitersAhead::default(), self.seen);
        let lacks_only_a_place = wait == NEXT_PLACE;
        lacks_only_a_place.then(|| (self.seen + LOOK_AGAIN).saturating_duration_since(now))
    }

    /// Time until there is room for a waiter behind others. A background lane needs room in both.
    pub(super) fn wait(
        &self,
        (lane, proof): (Lane, CredentialProof),
        ahead: WaitersAhead,
        now: Instant,
    ) -> Duration {
        let room_in = |room: &RoomForecast, ahead: usize| match proof {
            CredentialProof::Verified => room.in_micros(ahead, Reserved::default()),
            CredentialProof::Unverified => room.in_micros(ahead, room.reserved),
        };
        let mut micros = room_in(&self.all, ahead.all);
        if lane.is_background() {
            micros = micros.max(room_in(&self.background, ahead.background));
        }
        let from_seen = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        from_seen.saturating_sub(now.saturating_duration_since(self.seen))
    }
}
