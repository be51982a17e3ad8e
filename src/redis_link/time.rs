//! Redis' time, as far as this process knows it.
//!
//! Keeps the difference between Redis' clock and the clock of this process. It is updated with
//! every reading of Redis' time: ten times a second while the log is read. The age of an answer
//! does not depend on any replica's time of day: replicas compare Redis' time, and measure between
//! readings with a monotonic clock. The shorter the round trip of a reading, the more exact the
//! difference.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::domain::{SharedTime, Timestamp};

/// Converts between the two clocks. Clones share the readings.
#[derive(Debug, Clone)]
pub struct RedisTime {
    clock: Arc<dyn Clock>,
    latest: Arc<Mutex<Option<TimeReading>>>,
}

/// A time of Redis' clock, and when it was read.
#[derive(Debug, Clone, Copy)]
struct TimeReading {
    shared: SharedTime,
    here: Timestamp,
}

impl RedisTime {
    /// Starts without a reading.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            latest: Arc::default(),
        }
    }

    /// Applies a time that Redis has just returned. Returns the time that this process should use.
    pub fn apply(&self, reading: SharedTime) -> SharedTime {
        let (shared, here) = (self.clock.elsewhere(reading), self.clock.now());
        *self.latest.lock() = Some(TimeReading { shared, here });
        shared
    }

    /// Redis' time now; `None` before the first reading.
    #[must_use]
    pub(crate) fn now(&self) -> Option<SharedTime> {
        let TimeReading { shared, here } = (*self.latest.lock())?;
        Some(SharedTime(
            shared.0 + (self.clock.now().0.saturating_sub(here.0)),
        ))
    }

    /// The moment of this process at which Redis' clock showed `shared`. `None` if it is too far
    /// ahead of Redis' time, or that time is not known.
    #[must_use]
    pub(crate) fn here(&self, shared: SharedTime) -> Option<Timestamp> {
        let age = self.now()?.since(shared)?;
        Some(self.clock.now().before(age))
    }

    /// The time of Redis' clock at a moment of this process.
    #[must_use]
    pub(crate) fn there(&self, here: Timestamp) -> Option<SharedTime> {
        let ago = self.clock.now().since(here);
        Some(SharedTime(self.now()?.0.saturating_sub(
            u64::try_from(ago.as_millis()).unwrap_or(u64::MAX),
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn moments_are_translated_both_ways_after_the_first_reading() {
        let clock = ManualClock::new(Timestamp(1_000_000));
        let time = RedisTime::new(Arc::new(clock.clone()));
        assert_eq!(
            (
                time.now(),
                time.here(SharedTime(5)),
                time.there(Timestamp(5))
            ),
            (None, None, None)
        );
        assert_eq!(time.apply(SharedTime(70_000)), SharedTime(70_000));
        clock.advance(Duration::from_secs(2));
        assert_eq!(time.now(), Some(SharedTime(72_000)));
        assert_eq!(time.here(SharedTime(71_000)), Some(Timestamp(1_001_000)));
        assert_eq!(time.there(Timestamp(1_001_000)), Some(SharedTime(71_000)));
        assert_eq!(time.here(SharedTime(77_001)), None, "too far ahead");
    }

    #[test]
    fn a_time_of_day_that_jumps_changes_nothing() {
        let clock = ManualClock::new(Timestamp(1_000_000));
        let time = RedisTime::new(Arc::new(clock.clone()));
        time.apply(SharedTime(70_000));
        for jump in [3_600_000, -7_200_000] {
            clock.set_wall(jump);
            assert_eq!(
                (time.now(), time.here(SharedTime(70_000))),
                (Some(SharedTime(70_000)), Some(clock.now()))
            );
        }
    }
}
