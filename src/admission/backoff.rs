//! When to ask a CRM again if it did not say whose a credential is.

use std::fmt;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::domain::{AuthTag, Timestamp};

/// The first wait. Each further one is twice as long.
const FIRST: Duration = Duration::from_secs(60);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Credentials remembered.
const MOST: u64 = 100_000;

/// Credentials whose owner the CRM did not name. Clones share them.
#[derive(Clone)]
pub(super) struct Backoff(Cache<AuthTag, FailedWhoAmI, foldhash::fast::RandomState>);

#[derive(Debug, Clone, Copy)]
struct FailedWhoAmI {
    wait: Duration,
    at: Timestamp,
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backoff")
    }
}

impl Default for Backoff {
    fn default() -> Self {
        let failed = Cache::builder()
            .max_capacity(MOST)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(LONGEST * 2);
        Self(failed.build_with_hasher(foldhash::fast::RandomState::default()))
    }
}

impl Backoff {
    /// Returns whether the CRM may be asked now.
    pub(super) fn is_over(&self, auth: AuthTag, now: Timestamp) -> bool {
        self.0
            .get(&auth)
            .is_none_or(|failed| now.since(failed.at) >= failed.wait)
    }

    /// The CRM was asked, and did not say.
    pub(super) fn failed(&self, auth: AuthTag, now: Timestamp) {
        let before = self.0.get(&auth);
        let wait = before.map_or(FIRST, |failed| (failed.wait * 2).min(LONGEST));
        self.0.insert(auth, FailedWhoAmI { wait, at: now });
    }

    /// The CRM has said it.
    pub(super) fn succeeded(&self, auth: AuthTag) {
        self.0.invalidate(&auth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_one_minute_to_fifteen_and_end_with_a_success() {
        let (backoff, auth) = (Backoff::default(), AuthTag::from_bytes([1; 16]));
        let mut now = Timestamp(0);
        assert!(backoff.is_over(auth, now));
        for minutes in [1, 2, 4, 8, 15, 15] {
            backoff.failed(auth, now);
            now = Timestamp(now.0 + minutes * 60_000);
            assert!(
                !backoff.is_over(auth, Timestamp(now.0 - 1)) && backoff.is_over(auth, now),
                "{minutes}"
            );
        }
        backoff.failed(auth, now);
        backoff.succeeded(auth);
        backoff.failed(auth, now);
        assert!(backoff.is_over(auth, Timestamp(now.0 + 60_000)));
    }
}
