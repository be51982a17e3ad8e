//! A sliding window: the calls that a CRM may still count, and when each becomes free.
//!
//! Only the count: no limit, no scope, no clock. A call is held from its permit until one window
//! after its reply. A call without a reply is held as long as it may still arrive, and one window
//! longer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;

/// Calls whose free times a forecast knows. Later ones count as free together with the last of
/// these.
pub(super) const FORESEEN: usize = 128;

/// A replica counts the calls of about this many scopes at most, each in up to a kilobyte.
pub(super) const MOST_SCOPES: usize = 100_000;
/// If there are more scopes than that, those with at most this many calls are forgotten. A
/// credential that the CRM does not accept rarely makes more.
pub(super) const FEW_CALLS: u32 = 3;

/// Whole microseconds, the unit of forecasts and of Redis' clock.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The held calls, by the moment at which they become free.
#[derive(Debug, Default)]
pub(super) struct SlidingWindow {
    calls: BTreeMap<Instant, u32>,
    held: u32,
}

impl SlidingWindow {
    /// Holds one more call.
    pub(super) fn hold(&mut self, until: Instant) {
        *self.calls.entry(until).or_default() += 1;
        self.held += 1;
    }

    /// A call that was held until `was` is held until `until` instead. One that is already free
    /// stays free.
    pub(super) fn release(&mut self, was: Instant, until: Instant) {
        let Some(calls) = self.calls.get_mut(&was) else {
            return;
        };
        *calls -= 1;
        self.held -= 1;
        if *calls == 0 {
            self.calls.remove(&was);
        }
        self.hold(until);
    }

    /// Drops the calls that are free now.
    pub(super) fn slide(&mut self, now: Instant) {
        while let Some(first) = self.calls.first_entry()
            && *first.key() <= now
        {
            self.held -= first.remove();
        }
    }

    /// The number of held calls, including those that became free since the last slide.
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    /// Microseconds until the first call is free.
    pub(super) fn first_free_in(&self, now: Instant) -> i64 {
        self.calls
            .first_key_value()
            .map_or(0, |(until, _)| micros(until.saturating_duration_since(now)))
    }

    /// The number of different moments at which calls become free.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call is held.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// When calls will be free. The slot of a running call may become free in `per` at the
    /// earliest.
    pub(super) fn free_times(&self, now: Instant, per: Duration) -> FreeTimes {
        let latest = micros(per);
        let each = |(until, calls): (&Instant, &u32)| {
            let free = micros(until.saturating_duration_since(now)).min(latest);
            std::iter::repeat_n(free, *calls as usize)
        };
        FreeTimes {
            held: self.held,
            per: latest,
            times: self.calls.iter().flat_map(each).take(FORESEEN).collect(),
        }
    }
}

/// When the calls of a window will be free, as seen at one moment. Times are microseconds from that
/// moment.
#[derive(Debug, Clone, Default)]
pub(super) struct FreeTimes {
    /// Calls held.
    pub(crate) held: u32,
    /// The length of the window.
    pub(crate) per: i64,
    /// When the first calls will be free, in order.
    pub(crate) times: Vec<i64>,
}

impl FreeTimes {
    /// Microseconds until a window of `limit` calls has room for a waiter with `ahead` others
    /// before it. Zero if it has room now. This is the earliest time: running calls may take
    /// longer.
    ///
    /// For example, a window of 3 holds 3 calls. Then the first waiter gets the place of the first
    /// call that becomes free. A waiter with 3 others ahead gets the same place, one window later.
    pub(super) fn room_in(&self, limit: u32, ahead: usize) -> i64 {
        let (held, limit) = (self.held as usize, limit.max(1) as usize);
        let Some(before) = held.saturating_add(ahead).checked_sub(limit) else {
            return 0;
        };
        if before < held {
            return self.known(before);
        }
        // Those ahead take the places of all held calls. So the waiter gets the place of one of
        // them, which is free one window after it was taken.
        let windows = (before - held) / limit + 1;
        let held_place = before.checked_sub(windows * limit);
        let taken_at = held_place.map_or(0, |place| self.known(place));
        let windows = i64::try_from(windows).unwrap_or(i64::MAX);
        taken_at.saturating_add(self.per.saturating_mul(windows))
    }

    /// When the held call at this place of the order is free, as far as known.
    fn known(&self, at: usize) -> i64 {
        let known = self.times.get(at).or(self.times.last());
        known.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_held_until_a_window_after_its_reply() {
        let (start, mut window) = (clock::now(), SlidingWindow::default());
        let lost = start + 6 * SECOND;
        window.hold(lost);
        window.hold(lost);
        window.release(lost, start + ms(50) + SECOND);
        for (after, held) in [(0, 2), (1_049, 2), (1_050, 1), (5_999, 1), (6_000, 0)] {
            window.slide(start + ms(after));
            assert_eq!(window.held, held, "after {after} ms");
        }
        window.release(lost, start + 9 * SECOND);
        assert!(window.is_empty(), "what is free already stays so");
    }

    #[tokio::test(start_paused = true)]
    async fn a_forecast_names_the_call_whose_room_each_waiter_gets() {
        let (now, mut window) = (clock::now(), SlidingWindow::default());
        for after in [100, 100, 300] {
            window.hold(now + ms(after));
        }
        window.hold(now + 9 * SECOND);
        let free_times = window.free_times(now, SECOND);
        let room = |limit, ahead| free_times.room_in(limit, ahead) / 1_000;
        assert_eq!(
            [0, 1].map(|ahead| room(6, ahead)),
            [0, 0],
            "there is room for two"
        );
        assert_eq!(
            [0, 1, 2, 3].map(|ahead| room(4, ahead)),
            [100, 100, 300, 1_000],
            "the last may reply at once"
        );
        assert_eq!(
            [4, 6, 7, 8].map(|ahead| room(4, ahead)),
            [1_100, 1_300, 2_000, 2_100],
            "the places of those ahead are free again a window later"
        );
        assert_eq!(room(2, 0), 300, "a limit that fell");
    }

    proptest! {
        #[test]
        fn each_waiter_gets_the_place_that_the_window_has_for_it_if_calls_take_no_time(
            mut times in vec(0_i64..1_000, 0..12),
            limit in 1_u32..12,
            ahead in 0_usize..40,
        ) {
            times.sort_unstable();
            let (held, per) = (u32::try_from(times.len()).unwrap(), 1_000);
            // When each call is free, the next one last.
            let mut free: Vec<i64> = times.iter().rev().copied().collect();
            let mut room = 0;
            for _ in 0..=ahead {
                while free.len() >= limit as usize {
                    room = free.pop().unwrap();
                }
                free.insert(0, room + per);
                free.sort_unstable_by_key(|free| std::cmp::Reverse(*free));
            }
            prop_assert_eq!(FreeTimes { held, per, times }.room_in(limit, ahead), room);
        }
    }

    #[test]
    fn an_empty_window_has_room_for_its_limit() {
        let free_times = FreeTimes {
            held: 0,
            per: 1_000_000,
            times: Vec::new(),
        };
        assert_eq!(
            [0, 2, 3, 6].map(|ahead| free_times.room_in(3, ahead)),
            [0, 0, 1_000_000, 2_000_000]
        );
    }
}
