//! Whether the shared time runs like the clock of this process.
//!
//! Redis' time of day may be set while contactd runs, and after a failover it is that of another
//! machine. Each reading of it is compared with the last one: between the two, as much time must
//! have passed there as here. The bounds are those of the round trips, so a slow reply is no jump.
//! Uses the plain monotonic clock, because the injected one does not move Redis.

use std::time::Duration;

use super::time::INEXACT;
use crate::clock::Instant;
use crate::domain::SharedTime;

/// Two clocks may drift apart by this part of the time between two readings.
const DRIFT: u32 = 1_000;

/// A reading, and when it was requested and received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundTrip {
    pub(crate) told: SharedTime,
    /// The correction that `told` contains, in milliseconds.
    pub(crate) step: i64,
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
}

impl RoundTrip {
    pub(crate) fn took(&self) -> Duration {
        self.received.saturating_duration_since(self.sent)
    }

    /// Milliseconds by which the shared time has jumped since the `earlier` reading, forward or
    /// back; 0 if it has not. A correction that another replica has made meanwhile does not count
    /// as a jump. If it did, a replica that started just after a jump, or whose machine was
    /// suspended, would undo the correction, the others would make it again, and so on without an
    /// end.
    pub(crate) fn jump_since(&self, earlier: &Self) -> i64 {
        if self.step != earlier.step {
            return 0;
        }
        let least = self.sent.saturating_duration_since(earlier.received);
        let most = self.received.saturating_duration_since(earlier.sent);
        let tolerance = millis(INEXACT + most / DRIFT);
        let (least, most) = (millis(least), millis(most));
        let passed = signed(self.told.0) - signed(earlier.told.0);
        if passed >= least - tolerance && passed <= most + tolerance {
            return 0;
        }
        passed - i64::midpoint(least, most)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

fn signed(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_jump_is_what_no_round_trip_explains() {
        let (ms, start) = (Duration::from_millis, clock::now());
        let trip = |told, sent, received| RoundTrip {
            told: SharedTime(told),
            step: 0,
            sent: start + ms(sent),
            received: start + ms(received),
        };
        let first = trip(50_000, 0, 10);
        for (told, sent, received, jump) in [
            (50_100, 100, 110, 0),
            (50_330, 100, 110, 0),
            // The reply took two seconds, and Redis read its clock at any moment meanwhile.
            (52_100, 100, 2_110, 0),
            (50_000, 100, 2_110, 0),
            (60_100, 100, 110, 10_000),
            (40_100, 100, 110, -10_000),
            (49_800, 100, 110, -300),
            // Half a second of drift in an hour is no jump.
            (3_650_500, 3_600_000, 3_600_000, 0),
        ] {
            let next = trip(told, sent, received);
            assert_eq!(next.jump_since(&first), jump, "{told} {sent} {received}");
        }
        let corrected = RoundTrip {
            step: -10_000,
            ..trip(40_100, 100, 110)
        };
        assert_eq!(corrected.jump_since(&first), 0, "by another replica");
    }
}
