//! One log line for many failures alike.
//!
//! While a CRM is away every look-up in it fails, thousands a minute on a busy day. The first
//! failure of a kind is worth a line at once; of those that follow the line of every ten seconds
//! tells how many they were. The metrics count all.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Stopwatch;
use crate::domain::LookupError;

/// How often failures of one kind are told.
const EVERY: Duration = Duration::from_secs(10);

/// How often it is told that a CRM refuses something for good: once, and again to whoever keeps
/// logs for a day.
const EVERY_REFUSAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What was told of one connector.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle(Mutex<HashMap<(&'static str, String), Told>>);

#[derive(Debug)]
struct Told {
    since: Stopwatch,
    untold: u64,
}

impl LogThrottle {
    /// Calls `tell` if it is time for a line about this failure of `what`, with the number of those
    /// alike since the last line, if there are any.
    pub(crate) fn about(
        &self,
        what: &'static str,
        error: &LookupError,
        tell: impl FnOnce(Option<u64>),
    ) {
        self.about_every(EVERY, what, error, tell);
    }

    /// As [`LogThrottle::about`], for what goes on until somebody changes it: one line a day.
    pub(crate) fn about_refusal(
        &self,
        what: &'static str,
        error: &LookupError,
        tell: impl FnOnce(Option<u64>),
    ) {
        self.about_every(EVERY_REFUSAL, what, error, tell);
    }

    fn about_every(
        &self,
        every: Duration,
        what: &'static str,
        error: &LookupError,
        tell: impl FnOnce(Option<u64>),
    ) {
        // An error's text holds nothing but its kind and a status, so there are not many.
        let kind = (what, error.to_string());
        let mut told = self.0.lock();
        let known = told.get_mut(&kind);
        let untold = known.as_ref().map_or(0, |told| told.untold);
        if let Some(known) = known.filter(|told| told.since.elapsed() < every) {
            known.untold += 1;
            return;
        }
        told.insert(
            kind,
            Told {
                since: Stopwatch::start(),
                untold: 0,
            },
        );
        drop(told);
        tell((untold > 0).then_some(untold));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sleep;
    use crate::domain::error::Unavailable;

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_of_a_kind_is_told_at_once_and_those_alike_as_a_number() {
        let log_throttle = LogThrottle::default();
        let told = |what, error: &LookupError| {
            let mut told = Vec::new();
            log_throttle.about(what, error, |suppressed| told.push(suppressed));
            told
        };
        let status = |code| {
            LookupError::CrmUnavailable(Unavailable::Status {
                code,
                retry_after: None,
            })
        };
        let (away, gone) = (status(503), status(500));
        assert_eq!(told("load", &away), [None]);
        assert_eq!(
            [told("load", &away), told("load", &away)],
            [[], []] as [[Option<u64>; 0]; 2]
        );
        assert_eq!(told("load", &gone), [None], "another kind");
        assert_eq!(told("deals", &away), [None], "another part");
        sleep(EVERY).await;
        assert_eq!(told("load", &away), [Some(2)]);
        sleep(EVERY).await;
        assert_eq!(told("load", &away), [None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_once_a_day() {
        let log_throttle = LogThrottle::default();
        let told = || {
            let mut told = Vec::new();
            log_throttle.about_refusal("leads", &LookupError::CrmForbidden, |suppressed| {
                told.push(suppressed)
            });
            told
        };
        assert_eq!(told(), [None]);
        sleep(EVERY_REFUSAL.saturating_sub(EVERY)).await;
        assert!(told().is_empty());
        sleep(EVERY).await;
        assert_eq!(told(), [Some(1)]);
    }
}
