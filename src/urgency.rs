//! How urgent a load is: shared by the load and by whoever waits for it.
//!
//! A load that a prefetch began may become what a ringing phone waits for. Then it must not stand
//! in the prefetch's line any longer: the caller that joins raises the load's urgency, and a budget
//! in which it waits notices at once.

use std::cmp::Ordering;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::clock::{self, Instant};
use crate::domain::lane::Lane;

/// The lane and the deadline of one load. Callers only raise the lane; the deadline is that of the
/// most patient caller in this lane.
pub(crate) struct Urgency {
    began: Instant,
    /// Whether its answer is wanted though nobody should wait for it.
    wanted: AtomicBool,
    /// When it first spent a call.
    called: OnceLock<Instant>,
    /// Calls on the wire.
    calls: AtomicUsize,
    /// Whether nothing is known yet of the credential under which it calls.
    unproven: AtomicBool,
    now: Mutex<(Lane, Option<Instant>)>,
    changed: Notify,
}

/// Who asks for a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// How urgent it is.
    pub(crate) lane: Lane,
    /// Without one the load waits for its turn however long that takes.
    pub(crate) deadline: Option<Instant>,
    /// Whether the CRM has accepted the credential, and not refused it since.
    pub(crate) trusted: bool,
}

/// A call on the wire, until it is dropped.
#[derive(Debug)]
pub(crate) struct OnTheWire(Arc<Urgency>);

impl Drop for OnTheWire {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl Urgency {
    /// The urgency of a load for one caller under a credential that is good. Without a deadline the
    /// load waits for its turn however long that takes.
    #[must_use]
    pub(crate) fn new(lane: Lane, deadline: Option<Instant>) -> Self {
        Self::of(Asker {
            lane,
            deadline,
            trusted: true,
        })
    }

    /// The urgency of a load for whoever asks first.
    #[must_use]
    pub(crate) fn of(
        Asker {
            lane,
            deadline,
            trusted,
        }: Asker,
    ) -> Self {
        Self {
            began: clock::now(),
            wanted: (trusted && is_a_callers(lane, deadline)).into(),
            called: OnceLock::new(),
            calls: AtomicUsize::new(0),
            unproven: (!trusted).into(),
            now: Mutex::new((lane, deadline)),
            changed: Notify::new(),
        }
    }

    /// Says whether the CRM has accepted the credential of the load before.
    pub(crate) fn set_proven(&self, proven: bool) {
        self.unproven.store(!proven, Relaxed);
    }

    /// Whether the CRM has accepted the credential of the load before. So it is unless something
    /// else was said.
    #[must_use]
    pub(crate) fn is_proven(&self) -> bool {
        !self.unproven.load(Relaxed)
    }

    /// Takes in another caller. One in a more urgent lane sets lane and deadline: it wants to be
    /// told in time. One in the same lane may move the deadline back; none is latest. One in a less
    /// urgent lane changes nothing.
    pub(crate) fn join(&self, lane: Lane, deadline: Option<Instant>) {
        if self.is_proven() && is_a_callers(lane, deadline) {
            self.wanted.store(true, Relaxed);
        }
        self.change(|now| match lane.cmp(&now.0) {
            Ordering::Less => (lane, deadline),
            Ordering::Equal => (
                lane,
                now.1.and_then(|set| deadline.map(|other| set.max(other))),
            ),
            Ordering::Greater => now,
        });
    }

    /// The CRM has accepted the credential: from now on the answer is wanted, whoever is still
    /// there.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    /// The load has spent a call of the CRM's quota, which should not be for nothing: the call is
    /// waited for, and under a credential that is good the answer as well.
    pub(crate) fn spend(self: &Arc<Self>) -> OnTheWire {
        self.calls.fetch_add(1, Relaxed);
        if self.is_proven() {
            self.wanted.store(true, Relaxed);
        }
        if self.called.set(clock::now()).is_ok() {
            self.changed.notify_waiters();
        }
        OnTheWire(Arc::clone(self))
    }

    /// Whether the load has called the CRM.
    #[must_use]
    pub(crate) fn has_called(&self) -> bool {
        self.called.get().is_some()
    }

    /// Ends once a call of the load has been on the wire for `time`.
    pub(crate) async fn on_the_wire_for(&self, time: Duration) {
        loop {
            let changed = self.changed();
            if let Some(called) = self.called.get() {
                return clock::sleep_until(*called + time).await;
            }
            changed.await;
        }
    }

    /// Ends once a ringing phone has had to do with the load for `limit`.
    pub(crate) async fn overdue(&self, limit: Duration) {
        loop {
            let changed = self.changed();
            if self.lane() == Lane::CallPop {
                return clock::sleep(limit).await;
            }
            changed.await;
        }
    }

    /// Nobody waits for what is left of the load: it goes on behind the scenes, without a deadline.
    pub(crate) fn relax(&self) {
        self.change(|now| (now.0.max(Lane::Revalidate), None));
    }

    /// Whether the load is wanted though nobody should wait for it. Once true it stays so. It is
    /// not if only batches ever asked for it and it has spent nothing, or if nothing shows that its
    /// credential is good.
    #[must_use]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// Whether the load is for nobody once those who wait for it are gone. A call on the wire is
    /// waited for in any case: it may show that the credential is good.
    #[must_use]
    pub(crate) fn may_be_abandoned(&self) -> bool {
        !self.is_wanted() && self.calls.load(Relaxed) == 0
    }

    /// When the load began.
    #[must_use]
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The lane of the most urgent caller so far.
    #[must_use]
    pub(crate) fn lane(&self) -> Lane {
        self.now.lock().0
    }

    /// The latest deadline of a caller in the present lane.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.now.lock().1
    }

    /// Ends at the first change after this call, also where it is polled later than that. So
    /// whoever wants to miss nothing calls it, reads, and then waits.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn change(&self, next: impl FnOnce((Lane, Option<Instant>)) -> (Lane, Option<Instant>)) {
        let mut now = self.now.lock();
        let before = *now;
        *now = next(before);
        let changed = *now != before;
        drop(now);
        if changed {
            self.changed.notify_waiters();
        }
    }
}

/// Whether this is a caller, or work behind the scenes for one, whose next question the answer is
/// for. Batches wait in their lane for as long as it takes; callers do not.
fn is_a_callers(lane: Lane, deadline: Option<Instant>) -> bool {
    lane != Lane::Prefetch || deadline.is_some()
}

impl fmt::Debug for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lane, deadline) = *self.now.lock();
        f.debug_struct("Urgency")
            .field("lane", &lane)
            .field("deadline", &deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::timeout;

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
    async fn a_caller_in_a_more_urgent_lane_is_told_in_its_own_time() {
        let urgency = Urgency::new(Lane::Prefetch, None);
        let soon = Some(clock::now() + Duration::from_secs(1));
        urgency.join(Lane::CallPop, soon);
        assert_eq!(urgency.deadline(), soon);
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
