//! The pauses of one scope.
//!
//! Turns what a CRM's reply reports ([`RateHint`]) into a pause, and decides when a ringing phone
//! may probe it. Does not wait, and does not know about limiters.

use std::time::Duration;

use super::hint::RateHint;
use crate::clock::Instant;
use crate::domain::lane::Lane;

/// The longest pause, whatever a CRM says: a wrong clock must not block an account for days.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// The first pause after a 429 that names no time. Each further one is twice as long, up to
/// [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How often a ringing phone may probe whether a pause still holds.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// If the limit is unknown, this many remaining calls are few.
const FEW: u32 = 2;
/// How often Redis is asked whether a pause of another replica still holds.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A pause that grows by less is not published again.
const WORTH_PUBLISHING: Duration = Duration::from_millis(100);

/// How long from now the lanes are paused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pause {
    /// All lanes.
    pub(crate) all: Duration,
    /// The background lanes.
    pub(crate) background: Duration,
    /// Whether this ends earlier pauses.
    pub(crate) is_over: bool,
}

impl Pause {
    /// How long from now this lane is paused.
    pub(super) fn of(&self, lane: Lane) -> Duration {
        if lane.is_background() {
            self.all.max(self.background)
        } else {
            self.all
        }
    }
}

/// The pauses of one scope.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    all: Option<Instant>,
    background: Option<Instant>,
    /// Until when other replicas have paused all lanes, and the background lanes.
    shared: (Option<Instant>, Option<Instant>),
    /// When Redis was last asked about that.
    asked_at: Option<Instant>,
    /// When the pause of all lanes was set.
    began: Option<Instant>,
    /// When it was last probed.
    probed: Option<Instant>,
    /// Consecutive refusals that named no time, and when the last one was counted.
    refusals: Option<(u32, Instant)>,
}

impl Pauses {
    /// Applies the hint of a call that was granted at `granted`. Returns the update for other
    /// replicas, if there is anything new.
    pub(super) fn apply_hint(
        &mut self,
        hint: &RateHint,
        granted: Instant,
        now: Instant,
    ) -> Option<Pause> {
        let all = self.pause_of_all(hint, granted, now);
        let began_after_the_pause = self.began.is_none_or(|began| granted > began);
        let is_the_probe = self.probed.is_some_and(|probed| granted >= probed);
        let shows_the_end = began_after_the_pause || is_the_probe;
        let is_over = all.is_zero() && shows_the_end && self.all_paused(now);
        if is_over {
            (self.all, self.background, self.shared) = (None, None, (None, None));
        }
        let pause = Pause {
            all,
            background: pause_of_background(hint),
            is_over,
        };
        let is_longer = self.set(pause, now);
        (is_longer || is_over).then_some(pause)
    }

    /// Pauses for at least this long. Returns true if that is notably longer than before.
    fn set(&mut self, pause: Pause, now: Instant) -> bool {
        self.begin(pause, now);
        let all = lengthen(&mut self.all, pause.all, now);
        let background = lengthen(&mut self.background, pause.background, now);
        all || background
    }

    /// Replaces the pauses of other replicas with `pause`, which Redis has just reported. Changes
    /// nothing if Redis did not reply. Returns true if the new pause is notably longer.
    pub(super) fn apply_shared(&mut self, pause: Option<Pause>, now: Instant) -> bool {
        self.asked_at = Some(now);
        let Some(pause) = pause else { return false };
        self.begin(pause, now);
        let before = [Lane::CallPop, Lane::Prefetch].map(|lane| self.left(lane, now));
        let until = |pause: Duration| (!pause.is_zero()).then(|| now + pause.min(LONGEST_PAUSE));
        self.shared = (until(pause.all), until(pause.background));
        let after = [Lane::CallPop, Lane::Prefetch].map(|lane| self.left(lane, now));
        after
            .iter()
            .zip(before)
            .any(|(after, before)| *after > before + WORTH_PUBLISHING)
    }

    fn begin(&mut self, pause: Pause, now: Instant) {
        if !self.all_paused(now) && !pause.all.is_zero() {
            (self.began, self.probed) = (Some(now), None);
        }
    }

    /// Returns whether all lanes are paused, even if a probe may go.
    pub(super) fn all_paused(&self, now: Instant) -> bool {
        !left(self.all.max(self.shared.0), now).is_zero()
    }

    /// Returns whether all lanes are paused, and were not at `moment`.
    pub(super) fn began_after(&self, moment: Instant, now: Instant) -> bool {
        self.all_paused(now) && self.began.is_some_and(|began| began > moment)
    }

    /// How long a lane is still paused. For a call pop, this ends when it may probe.
    pub(super) fn left(&self, lane: Lane, now: Instant) -> Duration {
        let paused = self.paused_for(lane, now);
        if lane.is_background() {
            return paused;
        }
        paused.min(self.until_probe(now))
    }

    /// The time until a call may find out whether the pause is over.
    fn until_probe(&self, now: Instant) -> Duration {
        let last = self.began.max(self.probed);
        left(last.map(|last| last + PROBE_EVERY), now)
    }

    /// How long the calls of a lane are paused, whether or not one may probe meanwhile.
    pub(super) fn paused_for(&self, lane: Lane, now: Instant) -> Duration {
        let pause = Pause {
            all: left(self.all.max(self.shared.0), now),
            background: left(self.background.max(self.shared.1), now),
            is_over: false,
        };
        pause.of(lane)
    }

    /// If only other replicas have set the pause: the time after which Redis is asked whether it
    /// still holds, because they may have ended it.
    pub(super) fn recheck_in(&self, now: Instant) -> Option<Duration> {
        let is_own = !left(self.all.max(self.background), now).is_zero();
        let again = self
            .asked_at
            .filter(|_| !is_own)
            .map(|asked_at| asked_at + ASK_AGAIN);
        again.map(|again| again.saturating_duration_since(now))
    }

    /// A call is made although the pause still holds.
    pub(super) fn probed(&mut self, now: Instant) {
        self.probed = Some(now);
    }

    /// The call that was to probe the pause at `probed` is not made: another call may probe at
    /// once.
    pub(super) fn give_probe_back(&mut self, probed: Instant) {
        if self.probed == Some(probed) {
            self.probed = None;
        }
    }

    /// Returns whether this can be dropped without loss: all pauses are over, and earlier refusals
    /// no longer count.
    pub(super) fn are_over(&self, now: Instant) -> bool {
        let forgotten = self
            .refusals
            .is_none_or(|(_, last)| now.saturating_duration_since(last) > 2 * LONGEST_BACKOFF);
        forgotten && self.left(Lane::Prefetch, now).is_zero()
    }

    fn pause_of_all(&mut self, hint: &RateHint, granted: Instant, now: Instant) -> Duration {
        let named = hint.retry_after.filter(|time| !time.is_zero());
        let spent = hint
            .remaining
            .filter(|left| *left == 0)
            .and(hint.reset_after);
        let refused = match named {
            Some(time) => time,
            None if hint.refused => self.back_off(granted, now),
            None => {
                self.succeeded(granted);
                Duration::ZERO
            }
        };
        refused.max(spent.unwrap_or_default())
    }

    /// One step for all calls that ran at the same time. Only a call that was granted after the
    /// last refusal shows that the pause was too short.
    fn back_off(&mut self, granted: Instant, now: Instant) -> Duration {
        let refusals = match self.refusals {
            None => 1,
            Some((count, last)) if granted > last => count.saturating_add(1),
            Some(_) => return Duration::ZERO,
        };
        self.refusals = Some((refusals, now));
        FIRST_BACKOFF
            .saturating_mul(1 << (refusals - 1).min(6))
            .min(LONGEST_BACKOFF)
    }

    fn succeeded(&mut self, granted: Instant) {
        if self.refusals.is_some_and(|(_, last)| granted > last) {
            self.refusals = None;
        }
    }
}

/// The last few calls before the reset are reserved for call pops.
fn pause_of_background(hint: &RateHint) -> Duration {
    let few = match (hint.remaining, hint.limit) {
        (Some(left), Some(limit)) => u64::from(left) * 10 <= u64::from(limit),
        (Some(left), None) => left <= FEW,
        (None, _) => false,
    };
    hint.reset_after.filter(|_| few).unwrap_or_default()
}

fn lengthen(until: &mut Option<Instant>, pause: Duration, now: Instant) -> bool {
    let pause = pause.min(LONGEST_PAUSE);
    let before = left(*until, now);
    if pause > before {
        *until = Some(now + pause);
    }
    pause > before + WORTH_PUBLISHING
}

fn left(until: Option<Instant>, now: Instant) -> Duration {
    until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(retry_after: Option<Duration>) -> RateHint {
        RateHint {
            refused: true,
            retry_after,
            ..RateHint::default()
        }
    }

    fn remaining(left: u32, limit: Option<u32>) -> RateHint {
        RateHint {
            remaining: Some(left),
            limit,
            reset_after: Some(10 * SECOND),
            ..RateHint::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_without_a_time_double_up_to_a_minute_and_a_success_resets() {
        let (mut pauses, mut now) = (Pauses::default(), clock::now());
        let mut steps = Vec::new();
        for _ in 0..8 {
            now += LONGEST_BACKOFF + SECOND;
            pauses.apply_hint(&refused(None), now, now);
            steps.push(pauses.left(Lane::Prefetch, now).as_secs());
        }
        assert_eq!(steps, [1, 2, 4, 8, 16, 32, 60, 60]);
        now += LONGEST_BACKOFF + SECOND;
        pauses.apply_hint(&RateHint::default(), now, now);
        pauses.apply_hint(&refused(Some(Duration::ZERO)), now, now);
        assert_eq!(
            pauses.left(Lane::CallPop, now),
            SECOND,
            "a Retry-After of zero names no time"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_calls_that_were_under_way_together_count_once() {
        let (mut pauses, start) = (Pauses::default(), clock::now());
        for n in 0..20 {
            pauses.apply_hint(&refused(None), start, start + n * Duration::from_millis(1));
        }
        assert_eq!(pauses.left(Lane::CallPop, start), SECOND);
        // Nor does a success among them forget the refusal.
        pauses.apply_hint(&RateHint::default(), start, start + SECOND);
        pauses.apply_hint(&refused(None), start + SECOND, start + SECOND);
        assert_eq!(pauses.left(Lane::CallPop, start + SECOND), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_pauses_all_lanes_and_is_capped_at_an_hour() {
        let (mut pauses, now) = (Pauses::default(), clock::now());
        assert!(
            pauses
                .apply_hint(&refused(Some(30 * SECOND)), now, now)
                .is_some()
        );
        assert!(
            pauses
                .apply_hint(&refused(Some(30 * SECOND)), now, now)
                .is_none(),
            "nothing new to publish"
        );
        assert_eq!(pauses.left(Lane::CallPop, now), 30 * SECOND);
        pauses.apply_hint(&refused(Some(86_400 * SECOND)), now, now);
        assert_eq!(pauses.left(Lane::Prefetch, now), LONGEST_PAUSE);
        assert!(!pauses.are_over(now));
        assert!(pauses.are_over(now + LONGEST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ringing_phone_may_find_out_every_half_minute_whether_a_pause_still_holds() {
        let (mut pauses, start) = (Pauses::default(), clock::now());
        pauses.apply_hint(&refused(Some(600 * SECOND)), start, start);
        assert_eq!(pauses.left(Lane::CallPop, start), PROBE_EVERY);
        let first = start + PROBE_EVERY;
        assert_eq!(
            [Lane::CallPop, Lane::Prefetch].map(|lane| pauses.left(lane, first).as_secs()),
            [0, 570]
        );
        pauses.probed(first);
        assert_eq!(pauses.left(Lane::CallPop, first), PROBE_EVERY, "one call");
        assert!(
            pauses
                .apply_hint(&refused(None), first, first + SECOND)
                .is_none()
        );
        assert_eq!(pauses.left(Lane::Prefetch, first), 570 * SECOND, "it holds");
        let second = first + PROBE_EVERY;
        pauses.probed(second);
        assert!(
            pauses
                .apply_hint(&RateHint::default(), start, second)
                .is_none(),
            "a call from before says nothing"
        );
        let over = pauses.apply_hint(&RateHint::default(), second + SECOND, second + SECOND);
        assert!(over.is_some_and(|pause| pause.is_over));
        assert_eq!(pauses.left(Lane::Prefetch, second + SECOND), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_another_replica_is_asked_for_again_and_ends_when_it_is_over_there() {
        let (mut pauses, start) = (Pauses::default(), clock::now());
        let pause = |all| Pause {
            all,
            background: all,
            is_over: false,
        };
        assert!(pauses.apply_shared(Some(pause(600 * SECOND)), start));
        assert_eq!(pauses.recheck_in(start + SECOND), Some(4 * SECOND));
        assert!(
            !pauses.apply_shared(Some(pause(595 * SECOND)), start + 5 * SECOND),
            "nothing new"
        );
        assert_eq!(
            pauses.left(Lane::Prefetch, start + 5 * SECOND),
            595 * SECOND
        );
        assert!(!pauses.apply_shared(None, start + 10 * SECOND));
        assert_eq!(
            pauses.left(Lane::Prefetch, start + 10 * SECOND),
            590 * SECOND,
            "a Redis that does not reply ends no pause"
        );
        assert_eq!(pauses.recheck_in(start + 10 * SECOND), Some(5 * SECOND));
        pauses.apply_shared(Some(Pause::default()), start + 10 * SECOND);
        assert_eq!(
            pauses.left(Lane::Prefetch, start + 10 * SECOND),
            Duration::ZERO
        );
        pauses.apply_hint(
            &refused(Some(30 * SECOND)),
            start + 11 * SECOND,
            start + 11 * SECOND,
        );
        assert_eq!(
            pauses.recheck_in(start + 12 * SECOND),
            None,
            "its own holds in any case"
        );
        pauses.apply_shared(Some(Pause::default()), start + 12 * SECOND);
        assert_eq!(
            pauses.left(Lane::Prefetch, start + 12 * SECOND),
            29 * SECOND
        );
    }

    #[tokio::test(start_paused = true)]
    async fn few_calls_left_pause_the_background_and_none_left_pauses_all() {
        let now = clock::now();
        for (hint, all, background) in [
            (remaining(11, Some(100)), 0, 0),
            (remaining(10, Some(100)), 0, 10),
            (remaining(3, None), 0, 0),
            (remaining(2, None), 0, 10),
            (remaining(0, Some(100)), 10, 10),
            (
                RateHint {
                    reset_after: None,
                    ..remaining(0, None)
                },
                0,
                0,
            ),
        ] {
            let mut pauses = Pauses::default();
            pauses.apply_hint(&hint, now, now);
            let left = [Lane::CallPop, Lane::Prefetch].map(|lane| pauses.left(lane, now).as_secs());
            assert_eq!(left, [all, background], "{hint:?}");
        }
    }
}
