//! How urgent a load is: shared by the load and by whoever waits for it.
//!
//! A load that a prefetch began may become what a ringing phone waits for. Then it must not stand in the prefetch's
//! line any longer: the caller that joins raises the load's urgency, and a budget in which it waits notices at once.

use std::fmt;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::domain::lane::Lane;
use tokio::time::Instant;

/// The lane and the deadline of one load. The lane only rises and the deadline only moves back.
pub struct Urgency {
    now: Mutex<(Lane, Option<Instant>)>,
    changed: Notify,
}

impl Urgency {
    /// The urgency of a load for one caller. Without a deadline the load waits for its turn however long that takes.
    #[must_use]
    pub fn new(lane: Lane, deadline: Option<Instant>) -> Self {
        Self { now: Mutex::new((lane, deadline)), changed: Notify::new() }
    }

    /// Takes in another caller: the load gets the more urgent lane of the two and the later deadline; none is latest.
    pub fn join(&self, lane: Lane, deadline: Option<Instant>) {
        self.change(|now| (now.0.min(lane), now.1.and_then(|set| deadline.map(|other| set.max(other)))));
    }

    /// Moves the load to `lane`, unless it has one at least as urgent.
    pub fn raise(&self, lane: Lane) {
        self.change(|now| (now.0.min(lane), now.1));
    }

    /// Moves the deadline to that of another caller if it is later; `None` is latest.
    pub fn extend(&self, deadline: Option<Instant>) {
        self.change(|now| (now.0, now.1.and_then(|set| deadline.map(|other| set.max(other)))));
    }

    /// The lane of the most urgent caller so far.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.now.lock().0
    }

    /// The latest deadline of a caller so far.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.now.lock().1
    }

    /// Ends at the first change after this call, also where it is polled later than that. So whoever wants to miss
    /// nothing calls it, reads, and then waits.
    pub fn changed(&self) -> Notified<'_> {
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

impl fmt::Debug for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lane, deadline) = *self.now.lock();
        f.debug_struct("Urgency").field("lane", &lane).field("deadline", &deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{instant, within};

    #[test]
    fn the_lane_only_rises() {
        let urgency = Urgency::new(Lane::Revalidate, None);
        urgency.raise(Lane::Prefetch);
        assert_eq!(urgency.lane(), Lane::Revalidate);
        urgency.raise(Lane::CallPop);
        assert_eq!(urgency.lane(), Lane::CallPop);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_only_moves_back_and_none_is_latest() {
        let (near, far) = (instant() + Duration::from_secs(1), instant() + Duration::from_secs(2));
        let urgency = Urgency::new(Lane::CallPop, Some(far));
        urgency.extend(Some(near));
        assert_eq!(urgency.deadline(), Some(far));
        urgency.join(Lane::CallPop, None);
        urgency.extend(Some(near));
        assert_eq!(urgency.deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_though_it_came_before_the_wait() {
        let urgency = Urgency::new(Lane::Prefetch, None);
        let changed = urgency.changed();
        urgency.raise(Lane::CallPop);
        assert!(within(Duration::from_millis(1), changed).await.is_some());
        let unchanged = urgency.changed();
        urgency.raise(Lane::CallPop);
        assert!(within(Duration::from_millis(1), unchanged).await.is_none());
    }
}
