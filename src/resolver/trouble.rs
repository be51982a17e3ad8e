//! A CRM's trouble, as one batch sees it.
//!
//! Decides which failures a batch waits out, which look-up checks whether the trouble is over, and
//! when it has lasted too long. A batch spends few calls on a CRM in trouble: one look-up at a time
//! tries, the others wait. Knows nothing of how a look-up is made.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::clock::{self, Instant};
use crate::domain::LookupError;
use crate::domain::error::Unavailable;

/// How long a batch in trouble waits for an answer, besides the time that the CRM asks for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest wait that a CRM may ask for: twice a window of a minute. Few CRMs count over longer
/// windows, apart from days.
const LONGEST: Duration = Duration::from_secs(120);

/// How long a batch waits before it tries again: the first value, doubled each time, up to the
/// second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// How many times a number may fail while others are answered. Beyond that the number is the cause.
const TRIES: u32 = 5;

/// The same for refusals by the quota or by the CRM's limit, which can hit any look-up at a bad
/// moment.
const REFUSALS: u32 = 20;

/// The trouble of one batch.
#[derive(Debug)]
pub(super) struct Trouble {
    state: Mutex<TroubleState>,
    /// Held by the look-up that checks whether the trouble is over.
    probe: Semaphore,
    over: Notify,
}

#[derive(Debug, Default)]
struct TroubleState {
    /// Look-ups that the CRM has answered, whatever it said.
    answers: u64,
    now: Option<Spell>,
}

/// Trouble since the last answer.
#[derive(Debug, Clone, Copy)]
struct Spell {
    since: Instant,
    /// After this it has lasted too long.
    until: Instant,
    /// The delay between the last try and the next one. Zero if the trouble is a limit: the quota
    /// decides then when the next call is made.
    backoff: Duration,
}

/// How many times one number has failed.
#[derive(Debug, Default)]
pub(super) struct Tries {
    count: u32,
    /// How many look-ups had been answered when this one failed first.
    answers: u64,
}

/// Returns whether this may be over in a moment, for any number.
pub(super) fn is_trouble(failure: &LookupError) -> bool {
    let passes = failure.is_passing() && *failure != LookupError::Overloaded;
    passes && *failure != LookupError::CrmUnavailable(Unavailable::NotPublic)
}

/// Returns whether the CRM asks for a longer pause than a batch waits.
pub(super) fn is_hopeless(failure: &LookupError) -> bool {
    is_trouble(failure) && asked_wait(failure) > LONGEST
}

impl Trouble {
    pub(super) fn none_yet() -> Self {
        Self {
            state: Mutex::default(),
            probe: Semaphore::new(1),
            over: Notify::new(),
        }
    }

    /// Waits while there is trouble: until it is over, or until it is this look-up's turn to try.
    /// It has the turn as long as it keeps the returned permit.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Before the state is read, so that nothing is missed.
        let over = self.over.notified();
        let is_trouble_now = self.state.lock().now.is_some();
        if !is_trouble_now {
            return None;
        }
        let turn = async {
            let turn = self.probe.acquire().await.ok()?;
            let backoff = self.state.lock().now?.backoff;
            clock::sleep(backoff).await;
            Some(turn)
        };
        tokio::select! {
            turn = turn => turn,
            () = over => None,
        }
    }

    /// Records how a look-up ended, with the `turn` to try or without. Returns true if it should be
    /// repeated.
    pub(super) fn should_repeat<T>(
        &self,
        result: &Result<T, LookupError>,
        turn: Option<SemaphorePermit<'_>>,
        tries: &mut Tries,
    ) -> bool {
        let mut state = self.state.lock();
        let Some(failure) = result.as_ref().err().filter(|failure| is_trouble(failure)) else {
            state.answers += 1;
            state.now = None;
            drop(state);
            self.over.notify_waiters();
            return false;
        };
        let spell = Spell::with(state.now, failure, turn.is_some());
        state.now = Some(spell);
        drop(turn);
        if tries.count == 0 {
            tries.answers = state.answers;
        }
        tries.count += 1;
        let most = if is_fault(failure) { TRIES } else { REFUSALS };
        let is_the_number = tries.count >= most && state.answers > tries.answers;
        !is_the_number && !spell.has_lasted_too_long()
    }

    /// Returns whether the trouble has lasted too long.
    pub(super) fn has_lasted_too_long(&self) -> bool {
        self.state
            .lock()
            .now
            .is_some_and(|spell| spell.has_lasted_too_long())
    }
}

impl Spell {
    /// Adds the failure of a look-up. `tried` is true if it was this look-up's turn to check
    /// whether the trouble is over. Otherwise it had begun before the trouble.
    fn with(before: Option<Self>, failure: &LookupError, tried: bool) -> Self {
        let now = clock::now();
        let asked = asked_wait(failure);
        let patience = now + asked + PATIENCE;
        let until = match before {
            None => patience,
            Some(spell) if asked.is_zero() => spell.until,
            Some(spell) => spell
                .until
                .max(patience)
                .min(spell.since + LONGEST + PATIENCE),
        };
        Self {
            since: before.map_or(now, |spell| spell.since),
            until: if asked > LONGEST { now } else { until },
            backoff: if is_fault(failure) {
                next_backoff(before, tried)
            } else {
                Duration::ZERO
            },
        }
    }

    fn has_lasted_too_long(&self) -> bool {
        clock::now() >= self.until
    }
}

/// The delay before the next try after a fault.
fn next_backoff(before: Option<Spell>, tried: bool) -> Duration {
    let (first, longest) = BACKOFF;
    match before.map(|spell| spell.backoff) {
        None | Some(Duration::ZERO) => first,
        Some(backoff) if tried => (backoff * 2).min(longest),
        Some(backoff) => backoff,
    }
}

/// How long the CRM asks to be left alone. (What the quota says does not come from the CRM.)
fn asked_wait(failure: &LookupError) -> Duration {
    let is_the_crms = !matches!(failure, LookupError::BudgetExhausted { .. });
    failure
        .retry_after()
        .filter(|_| is_the_crms)
        .unwrap_or_default()
}

fn is_fault(failure: &LookupError) -> bool {
    matches!(failure, LookupError::CrmUnavailable(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sleep;

    const SECOND: Duration = Duration::from_secs(1);

    fn fault() -> Result<(), LookupError> {
        Err(LookupError::CrmUnavailable(Unavailable::Timeout))
    }

    fn refused(seconds: u64) -> Result<(), LookupError> {
        let retry_after = Some(Duration::from_secs(seconds)).filter(|wait| !wait.is_zero());
        Err(LookupError::CrmRateLimited { retry_after })
    }

    /// Repeats a failing look-up until it should not be made again. Returns how long that took, and
    /// how often the look-up failed.
    async fn until_given_up(
        trouble: &Trouble,
        result: &Result<(), LookupError>,
    ) -> (Duration, u32) {
        let (began, mut tries) = (clock::now(), Tries::default());
        loop {
            let turn = trouble.turn().await;
            if !trouble.should_repeat(result, turn, &mut tries) {
                return (clock::now() - began, tries.count);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_is_tried_less_and_less_often_until_it_has_lasted() {
        let trouble = Trouble::none_yet();
        assert_eq!(
            until_given_up(&trouble, &fault()).await,
            (Duration::from_millis(23_500), 9)
        );
        assert!(trouble.has_lasted_too_long());
    }

    #[tokio::test(start_paused = true)]
    async fn many_look_ups_together_try_no_more_often_than_one() {
        let trouble = Trouble::none_yet();
        let failed: u32 = futures_util::future::join_all((0..32).map(|_| async {
            let mut tries = Tries::default();
            loop {
                let turn = trouble.turn().await;
                if !trouble.should_repeat(&fault(), turn, &mut tries)
                    || trouble.has_lasted_too_long()
                {
                    return tries.count;
                }
            }
        }))
        .await
        .into_iter()
        .sum();
        // The first 32, eight turns, and at the end each of those that wait.
        assert!(failed <= 32 + 8 + 31, "{failed}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_it_for_all_who_wait() {
        let (trouble, mut tries) = (Trouble::none_yet(), Tries::default());
        assert!(trouble.should_repeat(&fault(), None, &mut tries));
        let began = clock::now();
        let waiting = async {
            // Nobody else gets the turn while this look-up has it.
            let _turn = trouble.probe.acquire().await;
            assert!(trouble.turn().await.is_none() && trouble.turn().await.is_none());
        };
        let answered = async {
            sleep(SECOND / 10).await;
            assert!(!trouble.should_repeat(&Ok(()), None, &mut Tries::default()));
        };
        tokio::join!(waiting, answered);
        assert_eq!(clock::now() - began, SECOND / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_fails_while_others_are_answered_is_given_up() {
        let (trouble, mut tries) = (Trouble::none_yet(), Tries::default());
        let mut failed = 0;
        while trouble.should_repeat(&fault(), None, &mut tries) {
            failed += 1;
            trouble.should_repeat(&Ok(()), None, &mut Tries::default());
        }
        assert_eq!((failed + 1, trouble.has_lasted_too_long()), (TRIES, false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_crm_asks_for_is_no_time_of_trouble() {
        let (trouble, mut tries) = (Trouble::none_yet(), Tries::default());
        assert!(trouble.should_repeat(&refused(60), None, &mut tries));
        sleep(61 * SECOND).await;
        assert!(
            trouble.should_repeat(&refused(0), None, &mut tries),
            "one more refusal after the wait"
        );
        sleep(20 * SECOND).await;
        assert!(!trouble.should_repeat(&refused(0), None, &mut tries));
        let trouble = Trouble::none_yet();
        assert!(
            !trouble.should_repeat(&refused(121), None, &mut tries),
            "nobody waits for so long"
        );
        let trouble = Trouble::none_yet();
        let began = clock::now();
        while trouble.should_repeat(&refused(5), None, &mut tries) {
            sleep(5 * SECOND).await;
        }
        assert_eq!(
            clock::now() - began,
            LONGEST + PATIENCE,
            "asked for again and again"
        );
    }

    #[test]
    fn what_says_something_of_the_number_or_the_credential_is_no_trouble() {
        assert!(is_trouble(&LookupError::CrmUnavailable(
            Unavailable::Connect
        )));
        for failure in [
            LookupError::CrmUnauthenticated,
            LookupError::CrmForbidden,
            LookupError::Overloaded,
            LookupError::Internal,
            LookupError::CrmUnavailable(Unavailable::NotPublic),
        ] {
            assert!(!is_trouble(&failure), "{failure}");
        }
    }
}
