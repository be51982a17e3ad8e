//! As `tokio::time`, but virtual: time moves when a task of its own runs, see [`run`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::{Add, AddAssign, Sub};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The time of one execution. Shuttle runs all tasks of an execution in one thread.
#[derive(Default)]
struct VirtualTime {
    now: Duration,
    sleepers: BTreeMap<(Duration, u64), Waker>,
    names: u64,
    /// The task that moves the time, if nobody sleeps.
    idle: Option<Waker>,
}

thread_local! {
    static TIME: RefCell<VirtualTime> = RefCell::default();
}

fn with<T>(change: impl FnOnce(&mut VirtualTime) -> T) -> T {
    TIME.with_borrow_mut(change)
}

/// Begins an execution. Time is not zero, so that there are moments before it.
pub fn reset() {
    with(|time| {
        *time = VirtualTime {
            now: Duration::from_secs(1_000_000),
            ..VirtualTime::default()
        }
    });
}

/// The virtual time since an execution's zero.
pub fn passed() -> Duration {
    with(|time| time.now)
}

/// Moves the time to the end of the next sleep, each time that it is polled. Never ends.
pub async fn run() {
    poll_fn(|context| {
        let woken = with(|time| time.advance(context));
        woken.into_iter().for_each(Waker::wake);
        Poll::Pending
    })
    .await
}

impl VirtualTime {
    fn advance(&mut self, context: &Context<'_>) -> Vec<Waker> {
        let Some(((until, _), _)) = self.sleepers.first_key_value() else {
            self.idle = Some(context.waker().clone());
            return Vec::new();
        };
        self.now = self.now.max(*until);
        let later = self.sleepers.split_off(&(self.now, u64::MAX));
        let due = std::mem::replace(&mut self.sleepers, later);
        context.waker().wake_by_ref();
        due.into_values().collect()
    }
}

/// A moment, as time since an execution's zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Instant {
    pub fn now() -> Self {
        Self(with(|time| time.now))
    }

    pub fn elapsed(&self) -> Duration {
        Self::now().saturating_duration_since(*self)
    }

    pub fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub fn duration_since(&self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }

    pub fn checked_duration_since(&self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }

    pub fn checked_add(&self, duration: Duration) -> Option<Self> {
        self.0.checked_add(duration).map(Self)
    }

    pub fn checked_sub(&self, duration: Duration) -> Option<Self> {
        self.0.checked_sub(duration).map(Self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// A running sleep.
#[derive(Debug)]
pub struct Sleep {
    until: Instant,
    name: u64,
}

pub fn sleep_until(until: Instant) -> Sleep {
    let name = with(|time| {
        time.names += 1;
        time.names
    });
    Sleep { until, name }
}

pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        crate::step();
        let idle = with(|time| {
            if time.now >= self.until.0 {
                return Err(());
            }
            time.sleepers
                .insert((self.until.0, self.name), context.waker().clone());
            Ok(time.idle.take())
        });
        match idle {
            Err(()) => return Poll::Ready(()),
            Ok(idle) => idle.into_iter().for_each(Waker::wake),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // The thread's values are gone if the whole program ends.
        let _ = TIME.try_with(|time| {
            time.borrow_mut()
                .sleepers
                .remove(&(self.until.0, self.name));
        });
    }
}

/// The time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Instant::now() + limit, future).await
}

pub async fn timeout_at<F: Future>(moment: Instant, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut end) = (pin!(future), pin!(sleep_until(moment)));
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => end.as_mut().poll(context).map(|()| Err(Elapsed)),
    })
    .await
}
