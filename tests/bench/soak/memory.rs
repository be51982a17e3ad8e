//! Whether the memory of a replica grows from one rest to the next.
//!
//! A daemon keeps a little of each credential for up to half an hour, in caches of limited size. So
//! the run counts the credentials that each replica was sent, and allows what they may hold.

use std::collections::HashMap;
use std::time::Duration;

use contactd::clock::Instant;
use parking_lot::Mutex;

/// The longest time for which a replica remembers a credential that the CRM refused.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(30 * 60);

/// Bytes that a credential may hold: 8,000 made-up ones held 4 MiB, which is 524 each.
const CREDENTIAL_BYTES: f64 = 600.0;

/// Growth that is no leak: pages that the allocator does not give back. In runs of 10 and 20
/// minutes, six replicas grew by up to 3.7 MiB more than about 500 credentials a minute hold.
const ALLOCATOR_MIB: f64 = 3.75;

/// A shorter run is not judged: a leak of one KiB in ten answers would not clearly exceed
/// [`ALLOCATOR_MIB`] in it.
pub(crate) const JUDGED_FROM: Duration = Duration::from_secs(15 * 60);

/// The credentials that one replica was sent, and when each was sent last.
#[derive(Debug, Default)]
pub(crate) struct SentCredentials(Mutex<HashMap<String, Instant>>);

impl SentCredentials {
    pub(crate) fn sent(&self, credential: &str, now: Instant) {
        self.0.lock().insert(credential.to_owned(), now);
    }

    /// Another process takes over, which knows none of them.
    pub(crate) fn forget(&self) {
        self.0.lock().clear();
    }

    /// How many of them the replica may remember.
    pub(crate) fn remembered(&self, now: Instant) -> usize {
        let mut sent = self.0.lock();
        sent.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        sent.len()
    }
}

/// A replica at rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtRest {
    pub(crate) resident_mib: f64,
    /// Credentials that it may remember.
    pub(crate) credentials: usize,
}

impl AtRest {
    /// The most memory that it may have at a `later` rest.
    pub(crate) fn allowed_mib(self, later: Self) -> f64 {
        let more = later.credentials.saturating_sub(self.credentials);
        #[expect(clippy::cast_precision_loss, reason = "a count of some thousands")]
        let credentials_mib = more as f64 * CREDENTIAL_BYTES / f64::from(1 << 20);
        self.resident_mib + credentials_mib + ALLOCATOR_MIB
    }

    pub(crate) fn grows_until(self, later: Self) -> bool {
        later.resident_mib > self.allowed_mib(later)
    }
}
