//! How much of the totals a scope holds, and when there is room: the same for this replica's count
//! and for that in Redis.

use std::time::Duration;

use super::forecast::{NEXT_PLACE, WindowRoom};
use super::limits::TotalLimits;
use super::quota::DAY;
use super::window::{FreeTimes, micros};

/// How many calls of a window are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) calls: u32,
    /// Microseconds until the first is free.
    pub(super) free_in: i64,
}

/// What is held in the totals of a scope: by all lanes, and by the background lanes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TotalsHeld {
    /// Calls on the wire.
    pub(super) wire: [u32; 2],
    pub(super) day: [Held; 2],
    /// Microseconds for which the background lanes are stopped.
    pub(super) stopped: i64,
    /// How long a call takes.
    pub(super) mean: Duration,
}

impl TotalsHeld {
    /// When there is room, for all lanes and for the background lanes.
    pub(super) fn rooms(&self, limits: &TotalLimits) -> [Vec<WindowRoom>; 2] {
        [false, true].map(|is_background| {
            let wire = limits
                .at_once
                .map(|limits| self.place(limits.of(is_background), is_background));
            let day = limits.per_day.map(|limits| {
                let held = self.day[usize::from(is_background)];
                room(limits.of(is_background), held, DAY)
            });
            wire.into_iter().chain(day).collect()
        })
    }

    /// When the wire has a place. Each waiter ahead is assumed to keep its place for only half the
    /// mean time of a call, so that nobody is refused who would have had a place in time.
    fn place(&self, limit: u32, is_background: bool) -> WindowRoom {
        let mut held = Held {
            calls: self.wire[usize::from(is_background)],
            free_in: micros(NEXT_PLACE),
        };
        if is_background && self.stopped > 0 {
            held.calls = held.calls.max(limit);
            held.free_in = held.free_in.max(self.stopped);
        }
        room(limit, held, self.mean / 2)
    }
}

fn room(limit: u32, held: Held, per: Duration) -> WindowRoom {
    WindowRoom {
        limit,
        free_times: FreeTimes {
            held: held.calls,
            per: micros(per),
            times: vec![held.free_in],
        },
    }
}
