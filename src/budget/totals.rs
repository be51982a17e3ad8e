//! The calls of a scope whatever they are for: those on the wire, and those of the last day.
//!
//! Defines how both are counted, and when they have room. A CRM that limits them does not ask for
//! the kind of a call, so the quotas of all kinds share one count. A call has a place on the wire
//! from its permit until its reply has ended, or as long as it may still arrive. It counts in a day
//! from its permit until 24 hours after it may have arrived, rounded up to the end of a
//! [`PART_OF_DAY`]. So a day of a million calls takes about a hundred numbers.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::forecast::LOOK_AGAIN;
use super::held::{Held, TotalsHeld};
use super::limits::TotalLimits;
use super::quota::DAY;
use super::request::{Slot, SlotRequest};
use super::window::{FEW_CALLS, MOST_SCOPES, SlidingWindow, micros};
use crate::clock::{Instant, SteadyClock};
use crate::domain::ScopeTag;

/// Calls of a day are counted in parts of this length. All calls of a part become free when its
/// last one does. Redis counts in the same parts.
pub(super) const PART_OF_DAY: Duration = Duration::from_secs(15 * 60);
/// How much later than its turn a call pop may ask for a place and still find the background lanes
/// of all kinds stopped.
pub(super) const LATENESS: Duration = Duration::from_millis(100);
/// The mean time of a call is taken over about this many of the last calls.
const MEAN_OF: u32 = 8;

/// This replica's count, shared by the quotas of all kinds of calls.
#[derive(Debug)]
pub(super) struct TotalCounts {
    /// The longest time after the permit at which a call may still arrive.
    call_timeout: Duration,
    /// When the first part of a day began.
    began: Instant,
    pub(super) time: SteadyClock,
    scopes: Mutex<Counts>,
}

type Counts = HashMap<ScopeTag, ScopeTotals, foldhash::fast::RandomState>;

/// The calls of one scope.
#[derive(Debug, Default)]
struct ScopeTotals {
    /// Calls on the wire.
    wire: LaneWindows,
    /// Calls of the last day.
    day: LaneWindows,
    /// The background lanes are stopped until then, because a call pop waits for a place.
    pop_until: Option<Instant>,
    /// How long the last calls took.
    mean: Duration,
}

/// The held calls of all lanes and of the background lanes.
#[derive(Debug, Default)]
struct LaneWindows {
    all: SlidingWindow,
    background: SlidingWindow,
}

impl LaneWindows {
    fn hold(&mut self, until: Instant, is_background: bool) {
        self.all.hold(until);
        if is_background {
            self.background.hold(until);
        }
    }

    fn release(&mut self, was: Instant, now: Instant, is_background: bool) {
        self.all.release(was, now);
        if is_background {
            self.background.release(was, now);
        }
        self.slide(now);
    }

    fn slide(&mut self, now: Instant) {
        self.all.slide(now);
        self.background.slide(now);
    }

    fn held(&self, now: Instant) -> [Held; 2] {
        [&self.all, &self.background].map(|window| Held {
            calls: window.held(),
            free_in: window.first_free_in(now),
        })
    }
}

impl TotalCounts {
    /// A count without calls.
    pub(super) fn new(call_timeout: Duration) -> Self {
        Self::timed_by(SteadyClock::System, call_timeout)
    }

    /// A count without calls, by another clock.
    pub(super) fn timed_by(time: SteadyClock, call_timeout: Duration) -> Self {
        Self {
            call_timeout,
            began: time.now(),
            time,
            scopes: Mutex::default(),
        }
    }

    /// The counts, which nobody else can change meanwhile.
    pub(super) fn lock(&self) -> LockedTotals<'_> {
        LockedTotals {
            counts: self,
            scopes: self.scopes.lock(),
        }
    }

    /// The call's reply has ended, or its connection broke: it leaves the wire.
    pub(super) fn end(&self, slot: &Slot) {
        let Some((granted, now)) = slot.in_totals.map(|granted| (granted, self.time.now())) else {
            return;
        };
        if let Some(held) = self.scopes.lock().get_mut(&slot.scope) {
            let was = self.leaves_wire(granted);
            held.wire.release(was, now, slot.is_background);
            held.has_taken(now.saturating_duration_since(granted));
        }
    }

    /// The call was not made.
    pub(super) fn give_back(&self, slot: &Slot) {
        let Some((granted, now)) = slot.in_totals.map(|granted| (granted, self.time.now())) else {
            return;
        };
        if let Some(held) = self.scopes.lock().get_mut(&slot.scope) {
            let [wire, day] = [self.leaves_wire(granted), self.leaves_day(granted)];
            held.wire.release(wire, now, slot.is_background);
            held.day.release(day, now, slot.is_background);
        }
    }

    /// Drops the scopes that hold nothing. If there are too many, also those with few calls: a
    /// flood of made-up credentials must not take the memory for a day.
    pub(super) fn sweep(&self) {
        let (mut scopes, now) = (self.scopes.lock(), self.time.now());
        scopes.retain(|_, held| {
            held.slide(now);
            !held.day.all.is_empty() || !held.wire.all.is_empty()
        });
        if scopes.len() > MOST_SCOPES {
            scopes.retain(|_, held| !held.wire.all.is_empty() || held.day.all.held() > FEW_CALLS);
        }
        scopes.shrink_to_fit();
    }

    /// Until when a call that was granted then may be on the wire.
    fn leaves_wire(&self, granted: Instant) -> Instant {
        granted + self.call_timeout
    }

    /// Until when a call that was granted then counts in a day.
    fn leaves_day(&self, granted: Instant) -> Instant {
        let after = self
            .leaves_wire(granted)
            .saturating_duration_since(self.began);
        let parts = after.as_nanos() / PART_OF_DAY.as_nanos() + 1;
        let end_of_part = PART_OF_DAY.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX));
        self.began + end_of_part + DAY
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let scopes = self.scopes.lock();
        scopes.values().map(|held| held.day.all.len()).sum()
    }
}

impl ScopeTotals {
    fn slide(&mut self, now: Instant) {
        self.wire.slide(now);
        self.day.slide(now);
    }

    fn has_taken(&mut self, time: Duration) {
        self.mean = if self.mean.is_zero() {
            time
        } else {
            (self.mean * (MEAN_OF - 1) + time) / MEAN_OF
        };
    }

    fn held(&self, now: Instant) -> TotalsHeld {
        TotalsHeld {
            wire: self.wire.held(now).map(|held| held.calls),
            day: self.day.held(now),
            stopped: micros(self.stopped(now)),
            mean: self.mean,
        }
    }

    fn stopped(&self, now: Instant) -> Duration {
        let until = self.pop_until;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

/// See [`TotalCounts::lock`].
pub(super) struct LockedTotals<'a> {
    counts: &'a TotalCounts,
    scopes: MutexGuard<'a, Counts>,
}

impl LockedTotals<'_> {
    /// What a scope holds now.
    pub(super) fn held(&mut self, scope: ScopeTag) -> TotalsHeld {
        let now = self.counts.time.now();
        let Some(held) = self.scopes.get_mut(&scope) else {
            return TotalsHeld::default();
        };
        held.slide(now);
        held.held(now)
    }

    /// Counts a call.
    pub(super) fn hold(&mut self, slot: &Slot) {
        let Some(granted) = slot.in_totals else {
            return;
        };
        let held = self.scopes.entry(slot.scope).or_default();
        let counts = self.counts;
        held.wire
            .hold(counts.leaves_wire(granted), slot.is_background);
        held.day
            .hold(counts.leaves_day(granted), slot.is_background);
        if !slot.is_background {
            held.pop_until = None;
        }
    }

    /// A call was denied. If it is a call pop that waits for a place, the background lanes of all
    /// kinds are stopped until it asks again.
    pub(super) fn denied(&mut self, request: &SlotRequest, limits: &TotalLimits, wait: Duration) {
        let waits = request.patience.is_none_or(|patience| wait <= patience);
        if request.lane.is_background() || !waits {
            return;
        }
        if let Some(held) = self.scopes.get_mut(&request.scope)
            && limits
                .at_once
                .is_some_and(|limits| held.wire.all.held() >= limits.all)
        {
            held.pop_until = Some(self.counts.time.now() + LOOK_AGAIN + LATENESS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::limits::WindowLimits;
    use crate::clock;
    use crate::domain::KeyMaker;

    fn slot(in_totals: Instant) -> Slot {
        Slot {
            scope: KeyMaker::new([1; 16]).scope(&[b"a"]),
            is_background: false,
            until: in_totals,
            in_totals: Some(in_totals),
            name: None,
            probe: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_of_a_million_calls_takes_a_hundred_numbers() {
        let totals = TotalCounts::new(Duration::from_secs(5));
        let limits = TotalLimits {
            at_once: None,
            per_day: Some(WindowLimits {
                all: 1_000_000,
                background: 1,
            }),
        };
        let scope = slot(clock::now()).scope;
        for _ in 0..1_000 {
            for _ in 0..1_000 {
                let slot = slot(clock::now());
                totals.lock().hold(&slot);
                totals.end(&slot);
            }
            clock::sleep(DAY / 1_000).await;
            assert!(totals.len() <= 100, "{}", totals.len());
        }
        let held = totals.lock().held(scope);
        assert_eq!(held.day[0].calls, 1_000_000);
        let [all, _] = held.rooms(&limits);
        assert_eq!(all.len(), 1);
        assert!(held.day[0].free_in < micros(PART_OF_DAY + Duration::from_secs(5)));
        clock::sleep(DAY + PART_OF_DAY).await;
        totals.sweep();
        assert!(totals.scopes.lock().is_empty());
    }

    #[tokio::test]
    async fn a_flood_of_credentials_does_not_take_the_memory_for_a_day() {
        let (counts, keys) = (TotalCounts::new(Duration::ZERO), KeyMaker::new([7; 16]));
        let until = clock::now() + DAY;
        let call = |n: usize, calls: u32| {
            let scope = keys.scope(&[&n.to_be_bytes()]);
            let mut scopes = counts.scopes.lock();
            let held = scopes.entry(scope).or_default();
            (0..calls).for_each(|_| held.day.hold(until, false));
        };
        (0..MOST_SCOPES).for_each(|n| call(n, 1));
        counts.sweep();
        assert_eq!(counts.scopes.lock().len(), MOST_SCOPES);
        call(MOST_SCOPES, FEW_CALLS + 1);
        counts.sweep();
        assert_eq!(counts.scopes.lock().len(), 1, "the busy one stays");
    }
}
