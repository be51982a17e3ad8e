//! How urgent a load is: shared by the load and its callers.
//!
//! A ringing phone may join a load that a prefetch began. Then the load must not wait in the
//! prefetch's lane any longer. The joining caller raises the load's urgency, and a budget in which
//! it waits notices that at once.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::clock::{self, Instant};
use crate::domain::lane::Lane;

/// The lane and the deadline of one load. Callers can only raise the lane. The deadline is that of
/// the most patient caller in this lane, or the end of the load ([`Demand::limit`]) if that comes
/// first.
pub(crate) struct Urgency {
    began: Instant,
    /// How long the load may take once a phone rings for it.
    limit: Option<Duration>,
    /// Whether its answer is wanted even if nobody waits for it.
    wanted: AtomicBool,
    /// When it first spent a call.
    called: OnceLock<Instant>,
    /// Running calls.
    calls: AtomicUsize,
    /// Whether the CRM has accepted the load's credential, now or earlier.
    verified: AtomicBool,
    now: Mutex<CurrentLane>,
    changed: Notify,
}

/// The lane and the deadline of a load, and since when it has been in that lane.
#[derive(Debug, Clone, Copy, PartialEq)]
struct CurrentLane {
    lane: Lane,
    deadline: Option<Instant>,
    since: Instant,
}

/// What a caller demands of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// How urgent it is.
    pub(crate) lane: Lane,
    /// Without a deadline the load waits for its turn without a limit.
    pub(crate) deadline: Option<Instant>,
    /// How long the load may take from the moment at which a phone rings for it, whatever the
    /// deadlines of its callers. The first caller's limit counts.
    pub(crate) limit: Option<Duration>,
    /// Whether the CRM has accepted the credential, and not refused it since.
    pub(crate) verified: bool,
}

/// A running call, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OnTheWire(Arc<Urgency>);

impl Drop for OnTheWire {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl Urgency {
    /// The urgency of a load for one caller under a verified credential. Without a deadline the
    /// load waits for its turn without a limit.
    #[must_use]
    pub(crate) fn new(lane: Lane, deadline: Option<Instant>) -> Self {
        Self::of(Demand {
            lane,
            deadline,
            limit: None,
            verified: true,
        })
    }

    /// The urgency of a load for its first caller.
    #[must_use]
    pub(crate) fn of(demand: Demand) -> Self {
        let began = clock::now();
        let now = CurrentLane {
            lane: demand.lane,
            deadline: demand.deadline,
            since: began,
        };
        Self {
            began,
            limit: demand.limit,
            wanted: (demand.verified && is_a_callers(demand.lane, demand.deadline)).into(),
            called: OnceLock::new(),
            calls: AtomicUsize::new(0),
            verified: demand.verified.into(),
            now: Mutex::new(now),
            changed: Notify::new(),
        }
    }

    /// Sets whether the CRM has accepted the load's credential, now or earlier.
    pub(crate) fn set_verified(&self, verified: bool) {
        if self.verified.swap(verified, Relaxed) != verified {
            self.changed.notify_waiters();
        }
    }

    #[must_use]
    pub(crate) fn is_verified(&self) -> bool {
        self.verified.load(Relaxed)
    }

    /// Adds another caller. A caller in a more urgent lane sets lane and deadline, because it needs
    /// an error in time. A caller in the same lane may make the deadline later. If that caller has
    /// no deadline, the load has none either. A caller in a less urgent lane changes nothing.
    pub(crate) fn join(&self, lane: Lane, deadline: Option<Instant>) {
        if self.is_verified() && is_a_callers(lane, deadline) {
            self.wanted.store(true, Relaxed);
        }
        self.change(|now| match lane.cmp(&now.lane) {
            Ordering::Less => (lane, deadline),
            Ordering::Equal => (
                lane,
                now.deadline
                    .and_then(|set| deadline.map(|other| set.max(other))),
            ),
            Ordering::Greater => (now.lane, now.deadline),
        });
    }

    /// The CRM has accepted the credential: from now on the answer is wanted, even if no caller is
    /// left.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// The load has spent a call of the CRM's quota, which should not be wasted: the load waits for
    /// the call, and under a verified credential its answer is wanted.
    pub(crate) fn spend(self: &Arc<Self>) -> OnTheWire {
        self.calls.fetch_add(1, Relaxed);
        if self.is_verified() {
            self.wanted.store(true, Relaxed);
        }
        if self.called.set(clock::now()).is_ok() {
            self.changed.notify_waiters();
        }
        OnTheWire(Arc::clone(self))
    }

    /// Returns whether the load has called the CRM.
    #[must_use]
    pub(crate) fn has_called(&self) -> bool {
        self.called.get().is_some()
    }

    /// Returns once `time` has passed since the load's first call began, whether or not that call
    /// has ended.
    pub(crate) async fn on_the_wire_for(&self, time: Duration) {
        loop {
            let changed = self.changed();
            if let Some(called) = self.called.get() {
                return clock::sleep_until(*called + time).await;
            }
            changed.await;
        }
    }

    /// Returns once the load is overdue: its limit has passed since the first phone rang for it.
    /// Never returns if it has no limit, or if no phone rings.
    pub(crate) async fn overdue(&self) {
        loop {
            let changed = self.changed();
            let now = *self.now.lock();
            if let Some(end) = self.end(now) {
                return clock::sleep_until(end).await;
            }
            changed.await;
        }
    }

    /// When the load is overdue; `None` if no phone rings for it.
    fn end(&self, now: CurrentLane) -> Option<Instant> {
        let limit = self.limit.filter(|_| now.lane == Lane::CallPop)?;
        Some(now.since + limit)
    }

    /// Does `work`, and meanwhile keeps another load, on which this one depends, at least as urgent
    /// as this one.
    pub(crate) async fn shared_with<T>(
        &self,
        other: Option<Arc<Self>>,
        work: impl Future<Output = T>,
    ) -> T {
        let share = async {
            let Some(other) = other else {
                return pending::<Infallible>().await;
            };
            loop {
                let changed = self.changed();
                other.join(self.lane(), self.deadline());
                changed.await;
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = share => match never {},
        }
    }

    /// Nobody waits for the rest of the load: it continues in the background, without a deadline.
    pub(crate) fn relax(&self) {
        self.change(|now| (now.lane.max(Lane::Revalidate), None));
    }

    /// Returns whether the load is wanted even if nobody waits for it. Once true it stays true. It
    /// becomes true if the CRM accepts the credential in this load. Under a credential that is
    /// already verified, it becomes true if somebody other than a batch asks for the load, or if
    /// the load spends a call.
    #[must_use]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// Returns whether the load may end once all its callers are gone. A running call is always
    /// completed: it may verify the credential.
    #[must_use]
    pub(crate) fn may_be_abandoned(&self) -> bool {
        !self.is_wanted() && self.calls.load(Relaxed) == 0
    }

    /// When the load began.
    #[must_use]
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The lane of the most urgent caller so far, or the background after [`Urgency::relax`].
    #[must_use]
    pub(crate) fn lane(&self) -> Lane {
        self.now.lock().lane
    }

    /// Since when the load has been in its lane.
    #[must_use]
    pub(crate) fn since(&self) -> Instant {
        self.now.lock().since
    }

    /// The latest deadline of a caller in the current lane, or when the load is overdue if that is
    /// earlier.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let now = *self.now.lock();
        now.deadline.into_iter().chain(self.end(now)).min()
    }

    /// Returns at the first change after this call, even if it is polled later. To miss no change,
    /// call it, read, and then wait.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn change(&self, next: impl FnOnce(CurrentLane) -> (Lane, Option<Instant>)) {
        let mut now = self.now.lock();
        let before = *now;
        (now.lane, now.deadline) = next(before);
        if now.lane != before.lane {
            now.since = clock::now();
        }
        let changed = *now != before;
        drop(now);
        if changed {
            self.changed.notify_waiters();
        }
    }
}

/// Returns whether somebody other than a batch demands the answer: a caller, or background work
/// whose answer a caller will use next. In the prefetch lane only callers have a deadline.
fn is_a_callers(lane: Lane, deadline: Option<Instant>) -> bool {
    lane != Lane::Prefetch || deadline.is_some()
}

impl fmt::Debug for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Urgency")
            .field("now", &*self.now.lock())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::timeout;

    /// A load of a prefetch, for which a phone may wait for `limit`.
    fn limited_to(limit: Duration) -> Urgency {
        Urgency::of(Demand {
            lane: Lane::Prefetch,
            deadline: None,
            limit: Some(limit),
            verified: true,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_lane_only_rises() {
        let urgency = Urgency::new(Lane::Revalidate, None);
        urgency.join(Lane::Prefetch, None);
        assert_eq!(urgency.lane(), Lane::Revalidate);
        urgency.join(Lane::CallPop, None);
        assert_eq!(urgency.lane(), Lane::CallPop);
    }

    #[tokio::test(start_paused = true)]
    async fn within_a_lane_the_deadline_only_moves_back_and_none_is_latest() {
        let (near, far) = (
            clock::now() + Duration::from_secs(1),
            clock::now() + Duration::from_secs(2),
        );
        let urgency = Urgency::new(Lane::CallPop, Some(far));
        urgency.join(Lane::CallPop, Some(near));
        urgency.join(Lane::Prefetch, None);
        assert_eq!(urgency.deadline(), Some(far));
        urgency.join(Lane::CallPop, None);
        urgency.join(Lane::CallPop, Some(near));
        assert_eq!(urgency.deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_in_a_more_urgent_lane_sets_the_deadline() {
        let urgency = Urgency::new(Lane::Prefetch, None);
        let soon = Some(clock::now() + Duration::from_secs(1));
        urgency.join(Lane::CallPop, soon);
        assert_eq!(urgency.deadline(), soon);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_is_overdue_by_when_the_phone_rang_and_not_by_when_that_is_asked() {
        let second = Duration::from_secs(1);
        let urgency = limited_to(10 * second);
        clock::sleep(10 * second).await;
        urgency.join(Lane::CallPop, None);
        clock::sleep(8 * second).await;
        assert!(timeout(second, urgency.overdue()).await.is_none());
        assert!(timeout(2 * second, urgency.overdue()).await.is_some());
        // Nobody waits, and then another phone rings.
        urgency.relax();
        urgency.join(Lane::CallPop, None);
        assert!(timeout(9 * second, urgency.overdue()).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_load_depends_on_becomes_as_urgent_as_the_load() {
        let second = Duration::from_secs(1);
        let load = Urgency::new(Lane::Prefetch, None);
        let whoami = Arc::new(Urgency::new(Lane::Prefetch, None));
        let work = load.shared_with(Some(Arc::clone(&whoami)), clock::sleep(2 * second));
        let phone = async {
            clock::sleep(second).await;
            load.join(Lane::CallPop, None);
            clock::sleep(second / 2).await;
            assert_eq!(whoami.lane(), Lane::CallPop);
        };
        tokio::join!(work, phone);
    }

    #[tokio::test(start_paused = true)]
    async fn a_phone_that_joins_later_does_not_move_the_end_of_the_load() {
        let (second, rang) = (Duration::from_secs(1), clock::now());
        let urgency = limited_to(10 * second);
        urgency.join(Lane::CallPop, Some(rang + 3 * second));
        assert_eq!(urgency.deadline(), Some(rang + 3 * second));
        urgency.join(Lane::CallPop, Some(rang + 20 * second));
        assert_eq!(urgency.deadline(), Some(rang + 10 * second));
        urgency.join(Lane::CallPop, None);
        assert_eq!(urgency.deadline(), Some(rang + 10 * second));
        urgency.relax();
        assert_eq!(urgency.deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_though_it_came_before_the_wait() {
        let urgency = Urgency::new(Lane::Prefetch, None);
        let changed = urgency.changed();
        urgency.join(Lane::CallPop, None);
        assert!(timeout(Duration::from_millis(1), changed).await.is_some());
        let unchanged = urgency.changed();
        urgency.join(Lane::CallPop, None);
        assert!(timeout(Duration::from_millis(1), unchanged).await.is_none());
    }
}
