//! The time that replicas share, as far as this process knows it.
//!
//! It is Redis' time of day plus a correction on which the replicas agree in the log, so that it
//! runs evenly also if Redis' clock is set ([`steadiness`](super::steadiness)).
//!
//! Keeps the difference between that time and the clock of this process. It is updated with every
//! reading of Redis' time: ten times a second while the log is read. The age of an answer does not
//! depend on any replica's time of day: replicas compare the shared time, and measure between
//! readings with a monotonic clock. The shorter the round trip of a reading, the more exact the
//! difference.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{self, Clock, Instant};
use crate::domain::{SharedTime, Timestamp};

/// Converts between the two clocks. Clones share the readings.
#[derive(Debug, Clone)]
pub struct RedisTime {
    clock: Arc<dyn Clock>,
    latest: Arc<Mutex<Option<TimeReading>>>,
    /// How many connections to Redis were made.
    connections: Arc<AtomicU64>,
}

/// A reading of the shared time, and when it was read.
#[derive(Debug, Clone, Copy)]
struct TimeReading {
    shared: SharedTime,
    here: Timestamp,
    /// The same reading, by clocks that tests do not move.
    told: SharedTime,
    read: Instant,
    /// When the reply arrived.
    received: Instant,
    /// Milliseconds from Redis' time of day to the shared time.
    step: i64,
    data: Option<DataToken>,
    loss: Option<DataToken>,
    noted: Option<NotedPoll>,
    connection: u64,
}

/// The last poll of this replica that Redis has noted. If Redis has a note of an earlier poll, or
/// none, its data is older than what this replica has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotedPoll {
    /// The replica's name in the log.
    pub(crate) replica: [u8; 16],
    /// The shared time of the poll.
    pub(crate) at: SharedTime,
}

/// The data token: names the data in Redis. It is replaced if Redis may have come back with older
/// data, and if the shared time may have jumped. Everything that is stored contains the token, and
/// does not count under another token: it may have been invalidated since, and its age is not
/// known. The token is not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataToken([u8; DATA_TOKEN]);

/// Bytes of the data token.
pub(crate) const DATA_TOKEN: usize = 8;

impl DataToken {
    /// The token in these bytes, if they are one.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A smaller jump of Redis' clock is never noticed. This is less than the window of any built-in
/// CRM's quota, the shortest of which is a second.
pub(super) const INEXACT: Duration = Duration::from_millis(250);

/// What one poll of the log says of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimePoll {
    /// The shared time.
    pub now: SharedTime,
    /// Milliseconds from Redis' time of day to the shared time.
    pub(crate) step: i64,
    /// `None` if nothing in Redis may be used.
    pub data: Option<DataToken>,
    /// The data token after the last loss of data. A correction of the time does not change it,
    /// only `data`.
    pub(crate) loss: Option<DataToken>,
    /// `None` if Redis has never noted a poll of this replica.
    pub(crate) noted: Option<NotedPoll>,
    /// The number of the connection. On a later one another server may answer.
    pub(crate) connection: u64,
    /// How long the round trip took. Redis may have read its clock at any moment of it.
    pub(crate) took: Duration,
}

impl From<SharedTime> for TimePoll {
    /// A Redis whose clock was never set, and that has lost nothing.
    fn from(now: SharedTime) -> Self {
        Self {
            now,
            data: Some(DataToken([0; DATA_TOKEN])),
            loss: Some(DataToken([0; DATA_TOKEN])),
            ..Self::default()
        }
    }
}

/// What a script needs to read Redis' clock, in microseconds: the correction, Redis' time of day as
/// this process expects it, and how far that may be off. All zero if it cannot say.
pub(crate) type ExpectedTime = [i64; 3];

impl RedisTime {
    /// Starts without a reading.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            latest: Arc::default(),
            connections: Arc::default(),
        }
    }

    /// The same, for a link that counts its connections here.
    #[must_use]
    pub fn over(self, connections: Arc<AtomicU64>) -> Self {
        Self {
            connections,
            ..self
        }
    }

    /// Applies a reading of the log.
    pub fn apply(&self, poll: impl Into<TimePoll>) {
        let poll = poll.into();
        // As if Redis had read its clock at the earliest moment, so that no answer seems younger
        // than it is, even if this process stood still before it received the reply.
        let now = clock::now();
        *self.latest.lock() = Some(TimeReading {
            shared: self.clock.elsewhere(poll.now),
            here: self.clock.now().before(poll.took),
            told: poll.now,
            read: now.checked_sub(poll.took).unwrap_or(now),
            received: now,
            step: poll.step,
            data: poll.data,
            loss: poll.loss,
            noted: poll.noted,
            connection: poll.connection,
        });
    }

    /// Converts `told`, the time of day that Redis has just returned, to the shared time. If that
    /// is not what this process expects, Redis' clock has just been set. Then the earliest expected
    /// time counts, so that no answer seems younger than it is. `None` before the first reading.
    pub(crate) fn shared(&self, told: SharedTime) -> Option<SharedTime> {
        let latest = (*self.latest.lock())?;
        let shared = SharedTime(told.0.saturating_add_signed(latest.step));
        let [earliest, tolerance] = [latest.earliest().0, millis(INEXACT * 4)];
        let expected =
            earliest.saturating_sub(tolerance)..=latest.expected().0.saturating_add(tolerance);
        let is_expected = expected.contains(&shared.0);
        Some(self.clock.elsewhere(if is_expected {
            shared
        } else {
            SharedTime(earliest)
        }))
    }

    /// Whether data may have been lost since the previous poll. If so, what was read from Redis
    /// since then may be older data, which was invalidated already.
    pub(crate) fn has_lost(&self, poll: &TimePoll) -> bool {
        let known = (*self.latest.lock()).and_then(|latest| latest.loss);
        known.is_some_and(|known| Some(known) != poll.loss)
    }

    /// The data token. `None` if nothing in Redis may be used: before the first reading, before the
    /// first one on a new connection, and if Redis refuses to write a new token. A loss of data and
    /// a correction of the time need one.
    #[must_use]
    pub fn data(&self) -> Option<DataToken> {
        let latest = (*self.latest.lock())?;
        let connection = self.connections.load(Ordering::Acquire);
        latest.data.filter(|_| latest.connection == connection)
    }

    /// The data token after the last loss, and the last poll that Redis has noted. Redis has other
    /// data than this process has last seen if its token is another one, if its note of this
    /// replica's last poll is older, or if it has no such note. `None` if this process cannot
    /// compare them.
    pub(crate) fn seen(&self) -> Option<(DataToken, NotedPoll)> {
        let latest = (*self.latest.lock())?;
        latest.loss.zip(latest.noted)
    }

    /// What a script needs to read Redis' clock. `patience` is how long its caller waits for it.
    pub(crate) fn expected(&self, patience: Duration) -> ExpectedTime {
        let Some(latest) = *self.latest.lock() else {
            return ExpectedTime::default();
        };
        let micros = |millis: i64| millis.saturating_mul(1_000);
        let expected = i64::try_from(latest.expected().0).unwrap_or(i64::MAX) - latest.step;
        let tolerance = i64::try_from(millis(INEXACT + patience)).unwrap_or(i64::MAX);
        [latest.step, expected, tolerance].map(micros)
    }

    /// The shared time now; `None` before the first reading.
    #[must_use]
    pub(crate) fn now(&self) -> Option<SharedTime> {
        let TimeReading { shared, here, .. } = (*self.latest.lock())?;
        Some(SharedTime(
            shared.0 + (self.clock.now().0.saturating_sub(here.0)),
        ))
    }

    /// The moment of this process at which the shared time was `shared`. `None` if it is too far
    /// ahead, or that time is not known.
    #[must_use]
    pub(crate) fn here(&self, shared: SharedTime) -> Option<Timestamp> {
        let age = self.now()?.since(shared)?;
        Some(self.clock.now().before(age))
    }

    /// The shared time at a moment of this process.
    #[must_use]
    pub(crate) fn there(&self, here: Timestamp) -> Option<SharedTime> {
        let ago = self.clock.now().since(here);
        Some(SharedTime(self.now()?.0.saturating_sub(
            u64::try_from(ago.as_millis()).unwrap_or(u64::MAX),
        )))
    }
}

impl TimeReading {
    /// The shared time now, by clocks that tests do not move: the latest that it can be.
    fn expected(&self) -> SharedTime {
        SharedTime(self.told.0.saturating_add(millis(self.read.elapsed())))
    }

    /// The earliest that the shared time can be now.
    fn earliest(&self) -> SharedTime {
        SharedTime(self.told.0.saturating_add(millis(self.received.elapsed())))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
        assert_eq!(time.shared(SharedTime(70_000)), None);
        time.apply(SharedTime(70_000));
        assert_eq!(time.shared(SharedTime(70_000)), Some(SharedTime(70_000)));
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

    #[tokio::test(start_paused = true)]
    async fn a_clock_of_redis_that_was_just_set_does_not_count() {
        let time = RedisTime::new(Arc::new(ManualClock::new(Timestamp(1_000_000))));
        time.apply(TimePoll {
            step: -500,
            ..TimePoll::from(SharedTime(70_000))
        });
        clock::sleep(Duration::from_secs(2)).await;
        for (told, shared) in [
            (72_500, 72_000),
            (73_400, 72_900),
            (90_000, 72_000),
            (0, 72_000),
        ] {
            assert_eq!(
                time.shared(SharedTime(told)),
                Some(SharedTime(shared)),
                "{told}"
            );
        }
        let expected = time.expected(Duration::from_millis(50));
        assert_eq!(expected, [-500_000, 72_500_000, 300_000]);
    }

    #[test]
    fn a_loss_of_data_is_noticed_once_and_a_correction_alone_is_no_loss() {
        let time = RedisTime::new(Arc::new(ManualClock::new(Timestamp(1_000_000))));
        let token = |n: u8| DataToken([n; DATA_TOKEN]);
        for (data, loss, is_lost) in [
            (Some(1), Some(1), false),
            (Some(1), Some(1), false),
            (Some(2), Some(2), true),
            (Some(3), Some(2), false),
            (Some(5), Some(4), true),
            (None, None, true),
            (None, None, false),
            (Some(6), Some(6), false),
        ] {
            let poll = TimePoll {
                data: data.map(token),
                loss: loss.map(token),
                ..TimePoll::from(SharedTime(70_000))
            };
            assert_eq!(time.has_lost(&poll), is_lost, "{poll:?}");
            time.apply(poll);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_does_not_seem_later_because_the_reply_of_a_poll_was_late() {
        let time = RedisTime::new(Arc::new(ManualClock::new(Timestamp(1_000_000))));
        time.apply(TimePoll {
            took: Duration::from_secs(3),
            ..TimePoll::from(SharedTime(70_000))
        });
        clock::sleep(Duration::from_millis(100)).await;
        for (told, shared) in [
            (70_100, 70_100),
            (73_100, 73_100),
            (80_000, 70_100),
            (60_000, 70_100),
        ] {
            assert_eq!(
                time.shared(SharedTime(told)),
                Some(SharedTime(shared)),
                "{told}"
            );
        }
    }

    #[test]
    fn no_answer_seems_younger_because_the_reply_of_a_poll_was_late() {
        let clock = ManualClock::new(Timestamp(1_000_000));
        let time = RedisTime::new(Arc::new(clock.clone()));
        time.apply(TimePoll {
            took: Duration::from_secs(3),
            ..TimePoll::from(SharedTime(70_000))
        });
        assert_eq!(time.now(), Some(SharedTime(73_000)));
        assert_eq!(time.here(SharedTime(60_000)), Some(Timestamp(987_000)));
    }
}
