//! Counts calls in a row that a connection left without an answer.
//!
//! One count for one connection; any answer resets it. Knows nothing of Redis or time: the keeper
//! decides how long a doubt may last.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

/// Calls in a row without an answer.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    failures: AtomicU32,
    over: Notify,
}

impl Doubt {
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns whether the last call got no answer.
    pub(super) fn is_there(&self) -> bool {
        self.failures() > 0
    }

    /// A call was answered in time.
    pub(super) fn answered(&self) {
        // Read first: the usual call must not write to memory that all cores share.
        if self.is_there() {
            self.failures.store(0, Ordering::Relaxed);
            self.over.notify_waiters();
        }
    }

    /// A call got no answer.
    pub(super) fn unanswered(&self) {
        let _ = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_add(1)
            });
    }

    /// Waits until a call is answered in time, if the last one was not.
    pub(super) async fn is_over(&self) {
        let mut over = pin!(self.over.notified());
        // Registered before the count is read, so that an answer in between is not missed.
        over.as_mut().enable();
        if self.is_there() {
            over.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn any_answer_ends_the_doubt() {
        let doubt = Doubt::default();
        assert!(!doubt.is_there());
        for _ in 0..3 {
            doubt.unanswered();
            doubt.unanswered();
            assert_eq!((doubt.failures(), doubt.is_there()), (2, true));
            doubt.answered();
            assert_eq!((doubt.failures(), doubt.is_there()), (0, false));
        }
    }

    #[test]
    fn who_waits_for_the_end_of_a_doubt_waits_for_an_answer() {
        let doubt = Doubt::default();
        assert!(doubt.is_over().now_or_never().is_some(), "there is none");
        doubt.unanswered();
        let mut over = Box::pin(doubt.is_over());
        assert!((&mut over).now_or_never().is_none());
        doubt.unanswered();
        assert!((&mut over).now_or_never().is_none());
        doubt.answered();
        assert!(over.now_or_never().is_some());
    }
}
