//! When to stop asking: a count of failures in a row.
//!
//! Owns that count for one connection. Promises that it opens exactly once. Knows nothing of Redis or time: a broken
//! connection is replaced by a new one, with a new breaker, as soon as a probe succeeds.

use std::sync::atomic::{AtomicU32, Ordering};

/// Failures in a row that are one too many.
pub(super) const LIMIT: u32 = 3;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Breaker(AtomicU32);

impl Breaker {
    /// Failures in a row so far.
    pub(super) fn failures(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// A call was answered. After the limit this changes nothing: the connection has been given up.
    pub(super) fn succeeded(&self) {
        // Read first: the usual call must not write to what all cores share.
        if self.in_doubt() {
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < LIMIT).then_some(0));
        }
    }

    /// Whether the last call was not answered.
    pub(super) fn in_doubt(&self) -> bool {
        self.failures() > 0
    }

    /// A call was not answered; true where this is the one that opens the breaker.
    pub(super) fn failed(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1) == LIMIT
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_failures_in_a_row_open_it_once() {
        let breaker = Breaker::default();
        assert_eq!([(); 5].map(|()| breaker.failed()), [false, false, true, false, false]);
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_again() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            assert!(!breaker.failed() && !breaker.failed());
            assert!(breaker.in_doubt());
            breaker.succeeded();
            assert!(!breaker.in_doubt());
        }
    }

    proptest! {
        #[test]
        fn it_opens_exactly_at_the_first_run_of_failures(calls in prop::collection::vec(any::<bool>(), 0..50)) {
            let breaker = Breaker::default();
            let (mut row, mut opened) = (0, false);
            for answered in calls {
                row = if answered { 0 } else { row + 1 };
                let opens = row == LIMIT && !opened;
                opened |= opens;
                let said = if answered { breaker.succeeded(); false } else { breaker.failed() };
                prop_assert_eq!(said, opens);
            }
        }
    }
}
