//! Logs one line for many equal failures.
//!
//! If a CRM is down, every look-up in it fails: thousands a minute on a busy day. The first failure
//! of a kind is logged at once. Later ones are counted, and one line every ten seconds reports
//! their number. The metrics count all of them.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Stopwatch;
use crate::domain::LookupError;

/// How often failures of one kind are logged.
const EVERY: Duration = Duration::from_secs(10);

/// How often a permanent refusal is logged: once a day, in case logs are kept no longer.
const EVERY_REFUSAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The logged failures of one connector.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle(Mutex<HashMap<(String, String), LoggedFailure>>);

#[derive(Debug)]
struct LoggedFailure {
    since: Stopwatch,
    suppressed: u64,
}

impl LogThrottle {
    /// Calls `log` if a line about this failure of `what` is due. Passes the number of equal
    /// failures since the last line, if there are any.
    pub(crate) fn about(&self, what: &str, error: &LookupError, log: impl FnOnce(Option<u64>)) {
        self.about_every(EVERY, what, error, log);
    }

    /// As [`LogThrottle::about`], for a failure that lasts until somebody changes something: one
    /// line a day.
    pub(crate) fn about_refusal(
        &self,
        what: &str,
        error: &LookupError,
        log: impl FnOnce(Option<u64>),
    ) {
        self.about_every(EVERY_REFUSAL, what, error, log);
    }

    fn about_every(
        &self,
        every: Duration,
        what: &str,
        error: &LookupError,
        log: impl FnOnce(Option<u64>),
    ) {
        if let Some(suppressed) = self.next_line(every, what, error) {
            log((suppressed > 0).then_some(suppressed));
        }
    }

    /// The number of failures since the last line, if another line is due.
    fn next_line(&self, every: Duration, what: &str, error: &LookupError) -> Option<u64> {
        // An error's text contains its kind and at most a status, so there are few different texts.
        let kind = (what.to_owned(), error.to_string());
        let mut logged = self.0.lock();
        if let Some(known) = logged.get_mut(&kind)
            && known.since.elapsed() < every
        {
            known.suppressed += 1;
            return None;
        }
        let now = LoggedFailure {
            since: Stopwatch::start(),
            suppressed: 0,
        };
        let before = logged.insert(kind, now);
        Some(before.map_or(0, |before| before.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sleep;
    use crate::domain::error::Unavailable;

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_of_a_kind_is_logged_at_once_and_equal_ones_as_a_number() {
        let log_throttle = LogThrottle::default();
        let logged = |what, error: &LookupError| {
            let mut logged = Vec::new();
            log_throttle.about(what, error, |suppressed| logged.push(suppressed));
            logged
        };
        let status = |code| {
            LookupError::CrmUnavailable(Unavailable::Status {
                code,
                retry_after: None,
            })
        };
        let (away, gone) = (status(503), status(500));
        assert_eq!(logged("load", &away), [None]);
        assert_eq!(
            [logged("load", &away), logged("load", &away)],
            [[], []] as [[Option<u64>; 0]; 2]
        );
        assert_eq!(logged("load", &gone), [None], "another kind");
        assert_eq!(logged("deals", &away), [None], "another part");
        sleep(EVERY).await;
        assert_eq!(logged("load", &away), [Some(2)]);
        sleep(EVERY).await;
        assert_eq!(logged("load", &away), [None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_logged_once_a_day() {
        let log_throttle = LogThrottle::default();
        let logged = || {
            let mut logged = Vec::new();
            log_throttle.about_refusal("leads", &LookupError::CrmForbidden, |suppressed| {
                logged.push(suppressed);
            });
            logged
        };
        assert_eq!(logged(), [None]);
        sleep(EVERY_REFUSAL.saturating_sub(EVERY)).await;
        assert!(logged().is_empty());
        sleep(EVERY).await;
        assert_eq!(logged(), [Some(1)]);
    }
}
