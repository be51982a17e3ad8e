//! What a CRM has recently allowed, if that is less than its documented limit.
//!
//! The limit of one scope falls when the CRM refuses a call, and recovers step by step. The
//! documented limit may be shared with others who call the CRM, or set too high. Does not wait, and
//! does not know about limiters.

use std::time::Duration;

use super::quota::Quota;
use super::window::{FEW_CALLS, SlidingWindow};
use crate::clock::Instant;

/// A refusal leaves at least the limit divided by this, however little the CRM has just accepted.
const STEEPEST: u32 = 8;
/// Each step up adds the limit divided by this, at least one call.
const STEP: u32 = 4;
/// The shortest and the longest time between two steps up.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);

/// How many calls of a window the CRM allows one scope, as far as its refusals show.
#[derive(Debug, Default)]
pub(super) struct AdaptiveLimit {
    /// Calls that the CRM accepted within the last window, as far as this replica knows.
    accepted: SlidingWindow,
    fallen: Option<LoweredLimit>,
}

#[derive(Debug, Clone, Copy)]
struct LoweredLimit {
    limit: u32,
    /// When the last refusal was counted.
    refused: Instant,
    /// When the limit rises next.
    rises: Instant,
    /// How long it stays after each step.
    stays: Duration,
    /// Whether it has risen since the last refusal. If so, the next steps are quicker.
    has_risen: bool,
}

/// A change of the limit that the other replicas should apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitChange {
    pub(crate) limit: u32,
    /// How long it holds if nobody changes it.
    pub(crate) lasts: Duration,
    /// The limit before the change.
    pub(crate) before: u32,
}

impl LoweredLimit {
    fn at(limit: u32, stays: Duration, now: Instant) -> Self {
        Self {
            limit,
            refused: now,
            rises: now + stays,
            stays,
            has_risen: false,
        }
    }

    fn rise(&mut self, quota: &Quota, now: Instant) {
        self.limit += (self.limit / STEP).max(1);
        if self.has_risen {
            self.stays = (self.stays / 2).max(first(quota));
        }
        (self.has_risen, self.rises) = (true, now + self.stays);
    }

    /// The change for the other replicas. It does not hold for ever, because a replica that has
    /// stopped no longer raises the limit.
    fn change_from(&self, before: u32) -> LimitChange {
        LimitChange {
            limit: self.limit,
            lasts: 2 * self.stays,
            before,
        }
    }
}

impl AdaptiveLimit {
    /// The most calls of a window, if fewer than documented.
    pub(super) fn limit(&self) -> Option<u32> {
        self.fallen.map(|fallen| fallen.limit)
    }

    /// Returns whether this can be dropped with little loss: few calls were accepted in the last
    /// window, and the limit is as documented. An old refusal says nothing about today.
    pub(super) fn is_forgettable(&mut self, now: Instant) -> bool {
        self.accepted.slide(now);
        let is_as_documented = self
            .fallen
            .is_none_or(|fallen| now >= fallen.rises + LONGEST);
        is_as_documented && self.accepted.held() <= FEW_CALLS
    }

    /// The CRM has accepted a call that was granted at `granted`. Returns the new limit if it
    /// rises.
    pub(super) fn accepted(
        &mut self,
        quota: &Quota,
        granted: Instant,
        now: Instant,
    ) -> Option<LimitChange> {
        self.accepted.slide(now);
        self.accepted.hold(now + quota.per());
        let accepted = self.accepted.held();
        let fallen = self.fallen.as_mut()?;
        let before = fallen.limit;
        if granted <= fallen.refused {
            // The CRM has also accepted this call, which was running when the limit fell. So the
            // limit is at least the number of accepted calls.
            fallen.limit = fallen.limit.max(accepted);
        } else if now >= fallen.rises {
            fallen.rise(quota, now);
        }
        let change = fallen.change_from(before);
        if fallen.limit >= quota.rate().get() {
            self.fallen = None;
            return Some(LimitChange {
                lasts: Duration::ZERO,
                ..change
            });
        }
        (change.limit > before).then_some(change)
    }

    /// The CRM has refused a call that was granted at `granted`. Calls that ran at the same time
    /// count as one refusal. `is_alone` says whether all calls that the CRM counts come from here,
    /// as far as known. Returns the new limit if it falls.
    pub(super) fn refused(
        &mut self,
        quota: &Quota,
        granted: Instant,
        is_alone: bool,
        now: Instant,
    ) -> Option<LimitChange> {
        if self.fallen.is_some_and(|fallen| granted <= fallen.refused) {
            return None;
        }
        self.accepted.slide(now);
        let was = self.limit().unwrap_or(quota.rate().get());
        let accepted = self.accepted.held();
        if accepted == 0
            && let Some(fallen) = &mut self.fallen
        {
            // If a CRM accepts nothing at all, that does not show how many calls it would accept.
            (fallen.refused, fallen.rises) = (now, now + fallen.stays);
            return None;
        }
        // If the CRM refuses although it has accepted nothing from here, others make calls as well.
        // Their number is unknown.
        let least = if is_alone && accepted > 0 {
            was / STEEPEST
        } else {
            was / 2
        };
        let limit = accepted.max(least).clamp(1, (was - 1).max(1));
        let lowered = LoweredLimit::at(limit, self.next_stay(quota), now);
        self.fallen = Some(lowered);
        Some(lowered.change_from(was))
    }

    /// How long the limit stays after a refusal: twice as long as after the previous one.
    fn next_stay(&self, quota: &Quota) -> Duration {
        let first = first(quota);
        self.fallen
            .map_or(first, |fallen| (2 * fallen.stays).min(LONGEST.max(first)))
    }
}

/// How long a limit stays after the first refusal.
fn first(quota: &Quota) -> Duration {
    (2 * quota.per()).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Scope;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn quota() -> Quota {
        Quota::new(50, SECOND, 50, Scope::User, 0.5).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_accepted_in_the_last_window_is_kept_if_it_is_more_than_a_few_calls() {
        let (quota, start, mut allowed) = (quota(), clock::now(), AdaptiveLimit::default());
        for _ in 0..FEW_CALLS {
            allowed.accepted(&quota, start, start);
        }
        assert!(allowed.is_forgettable(start));
        allowed.accepted(&quota, start, start);
        assert!(!allowed.is_forgettable(start));
        assert!(allowed.is_forgettable(start + 2 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_falls_to_what_was_accepted_whatever_the_order_of_the_replies() {
        let (quota, start, mut allowed) = (quota(), clock::now(), AdaptiveLimit::default());
        for n in 0..20_u32 {
            let now = start + n * Duration::from_millis(1);
            if [0, 3, 4, 15, 19].contains(&n) {
                allowed.accepted(&quota, start, now);
            } else {
                allowed.refused(&quota, start, true, now);
            }
        }
        assert_eq!(allowed.limit(), Some(6), "an eighth of the limit at least");
        let later = start + 2 * SECOND;
        for _ in 0..5 {
            allowed.accepted(&quota, later, later);
        }
        allowed.refused(&quota, later, true, later);
        assert_eq!(allowed.limit(), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn beside_others_who_call_the_crm_it_falls_by_half() {
        for (accepted, is_alone) in [(5, false), (0, true)] {
            let (quota, now, mut allowed) = (quota(), clock::now(), AdaptiveLimit::default());
            for _ in 0..accepted {
                allowed.accepted(&quota, now, now);
            }
            allowed.refused(&quota, now, is_alone, now);
            assert_eq!(allowed.limit(), Some(25));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_recovers_step_by_step_and_more_slowly_after_each_refusal() {
        let (quota, mut now, mut allowed) = (quota(), clock::now(), AdaptiveLimit::default());
        let mut rise_after = |now: &mut Instant| {
            allowed.refused(&quota, *now, true, *now);
            let (fallen, at) = (allowed.limit(), *now);
            while allowed.limit() == fallen {
                *now += SECOND;
                allowed.accepted(&quota, *now, *now);
            }
            (*now - at).as_secs()
        };
        assert_eq!([(); 3].map(|()| rise_after(&mut now)), [5, 10, 20]);
        let refused = now;
        while allowed.limit().is_some() {
            now += SECOND;
            allowed.accepted(&quota, now, now);
        }
        assert!(now <= refused + 120 * SECOND, "{:?}", now - refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_nobody_tries_any_more_is_forgotten() {
        let (quota, now, mut allowed) = (quota(), clock::now(), AdaptiveLimit::default());
        let change = allowed.refused(&quota, now, true, now);
        assert_eq!(
            change,
            Some(LimitChange {
                limit: 25,
                lasts: 2 * SHORTEST,
                before: 50
            })
        );
        assert!(
            !allowed.is_forgettable(now + LONGEST)
                && allowed.is_forgettable(now + LONGEST + SHORTEST)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_crm_that_refuses_everything_for_a_while_lowers_the_limit_once_and_it_is_soon_back() {
        let (quota, mut now, mut allowed) = (quota(), clock::now(), AdaptiveLimit::default());
        for _ in 0..10 {
            now += 6 * SECOND;
            allowed.refused(&quota, now, true, now);
        }
        assert_eq!(allowed.limit(), Some(25));
        let over = now;
        while allowed.limit().is_some() {
            now += SECOND;
            allowed.accepted(&quota, now, now);
        }
        assert!(now <= over + 30 * SECOND, "{:?}", now - over);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_always_a_call_to_find_out_with() {
        let (quota, mut now, mut allowed) = (quota(), clock::now(), AdaptiveLimit::default());
        for _ in 0..20 {
            now += SECOND;
            allowed.accepted(&quota, now, now);
            allowed.refused(&quota, now, true, now);
        }
        assert_eq!(allowed.limit(), Some(1));
    }
}
