//! Injected time: the only place that reads the system's clocks or sleeps.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the one door to the system's clocks"
)]

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
pub use tokio::time::Instant;

use crate::domain::{SharedTime, Timestamp};

/// The time of this process.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current time on a monotonic clock, whatever happens to the time of day: ages use it. Its
    /// zero is long before the process began.
    fn now(&self) -> Timestamp;

    /// The time of day in milliseconds since the Unix epoch, for comparison with dates from others.
    /// It may jump.
    fn wall(&self) -> Timestamp;

    /// The current time of another machine, whose clock has just reported `told`. A test's clock
    /// moves that time too.
    fn elsewhere(&self, told: SharedTime) -> SharedTime {
        told
    }
}

/// How long before the start of the process its clock begins, so that older moments have a time
/// too.
const BEFORE: Duration = Duration::from_secs(1 << 33);

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// The clock of a process that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(millis(BEFORE + self.0.elapsed()))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(millis(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        ))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that only moves when a test moves it. Clones show the same time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Manual>);

#[derive(Debug)]
struct Manual {
    start: Timestamp,
    moved: AtomicU64,
    /// How far the time of day alone was moved, in milliseconds.
    set: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Manual {
            start: now,
            moved: AtomicU64::new(0),
            set: AtomicI64::new(0),
        }))
    }

    /// Lets time pass, in whole milliseconds.
    pub fn advance(&self, by: Duration) {
        self.0.moved.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// Moves the time of day forward, or back if negative. No time passes.
    pub fn set_wall(&self, by_millis: i64) {
        self.0.set.fetch_add(by_millis, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.start.0 + self.0.moved.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(
            self.now()
                .0
                .saturating_add_signed(self.0.set.load(Ordering::Relaxed)),
        )
    }

    fn elsewhere(&self, told: SharedTime) -> SharedTime {
        SharedTime(told.0 + self.0.moved.load(Ordering::Relaxed))
    }
}

/// The steady time by which calls are counted: that of this process, or that of a replay.
#[derive(Debug, Clone, Default)]
pub(crate) enum SteadyClock {
    #[default]
    System,
    Replay(ReplayClock),
}

/// A steady clock that only moves when a replay moves it. Clones show the same time.
#[derive(Debug, Clone)]
pub(crate) struct ReplayClock {
    start: Instant,
    /// Microseconds since the start.
    moved: Arc<AtomicU64>,
}

impl SteadyClock {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Replay(clock) => clock.now(),
        }
    }
}

impl ReplayClock {
    /// A clock at the beginning of a replay.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            moved: Arc::default(),
        }
    }

    /// Shows this time from now on, in microseconds since the start.
    pub(crate) fn set(&self, micros: u64) {
        self.moved.store(micros, Ordering::Relaxed);
    }

    /// The time that it shows.
    #[must_use]
    pub(crate) fn now(&self) -> Instant {
        self.at(self.micros())
    }

    /// Microseconds since the start.
    #[must_use]
    pub(crate) fn micros(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// The moment `wait` from now, in microseconds since the start. At least one microsecond from
    /// now.
    #[must_use]
    pub(crate) fn after(&self, wait: Duration) -> u64 {
        let wait = u64::try_from(wait.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        self.micros().saturating_add(wait.max(1))
    }

    /// The moment this many microseconds after the start.
    #[must_use]
    pub(crate) fn at(&self, micros: u64) -> Instant {
        self.start + Duration::from_micros(micros)
    }
}

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Logs something frequent at most once a minute.
#[derive(Debug, Default)]
pub(crate) struct OncePerMinute(Option<Stopwatch>);

impl OncePerMinute {
    /// Calls `log` unless it was called less than a minute ago.
    pub(crate) fn log(&mut self, log: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() > MINUTE) {
            log();
            self.0 = Some(Stopwatch::start());
        }
    }
}

/// Logs something frequent at most once a minute for each kind of it. There must be few kinds.
#[derive(Debug)]
pub(crate) struct EachPerMinute<K>(Mutex<HashMap<K, Reported>>);

#[derive(Debug)]
struct Reported {
    since: Stopwatch,
    suppressed: u64,
}

impl<K> Default for EachPerMinute<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> EachPerMinute<K> {
    /// Calls `log` unless it was called for this kind less than a minute ago. Passes how many of
    /// the kind there were since then, if any.
    pub(crate) fn log(&self, kind: K, log: impl FnOnce(Option<u64>)) {
        let mut reported = self.0.lock();
        if let Some(known) = reported.get_mut(&kind)
            && known.since.elapsed() < MINUTE
        {
            known.suppressed += 1;
            return;
        }
        let now = Reported {
            since: Stopwatch::start(),
            suppressed: 0,
        };
        let before = reported.insert(kind, now);
        drop(reported);
        log(before
            .map(|before| before.suppressed)
            .filter(|count| *count > 0));
    }
}

/// The moment `duration` from now; `None` if that is out of range.
#[must_use]
pub(crate) fn after(duration: Duration) -> Option<Instant> {
    Instant::now().checked_add(duration)
}

/// The current moment on a monotonic clock of this machine.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until a moment.
pub async fn sleep_until(moment: Instant) {
    tokio::time::sleep_until(moment).await;
}

/// The result of `future`, or `None` once `limit` has passed.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// The result of `future`, or `None` once `moment` is reached.
pub(crate) async fn timeout_at<F: Future>(moment: Instant, future: F) -> Option<F::Output> {
    tokio::time::timeout_at(moment, future).await.ok()
}

/// Waits.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_has_a_line_a_minute_and_the_rest_as_a_number() {
        let lines = EachPerMinute::default();
        let logged = |kind| {
            let mut logged = Vec::new();
            lines.log(kind, |suppressed| logged.push(suppressed));
            logged
        };
        assert_eq!(logged("one"), [None]);
        assert_eq!(
            [logged("one"), logged("one")],
            [[], []] as [[Option<u64>; 0]; 2]
        );
        assert_eq!(logged("other"), [None]);
        sleep(MINUTE).await;
        assert_eq!(logged("one"), [Some(2)]);
        sleep(MINUTE).await;
        assert_eq!(logged("one"), [None]);
    }
}
