//! Counts calls in a row that a connection left without an answer.
//!
//! One count for one connection; any answer resets it. Knows nothing of Redis or time: the keeper
//! decides how long a doubt may last.

use std::sync::atomic::{AtomicU32, Ordering};

/// Calls in a row without an answer.
#[derive(Debug, Default)]
pub(super) struct Doubt(AtomicU32);

impl Doubt {
    pub(super) fn failures(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns whether the last call got no answer.
    pub(super) fn is_there(&self) -> bool {
        self.failures() > 0
    }

    /// A call was answered in time.
    pub(super) fn answered(&self) {
        // Read first: the usual call must not write to memory that all cores share.
        if self.is_there() {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// A call got no answer.
    pub(super) fn unanswered(&self) {
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_add(1)
            });
    }
}

#[cfg(test)]
mod tests {
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
}
