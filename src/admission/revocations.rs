//! What ends more than one admission, and how many revocations there were.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Timestamp;

/// Shared by the clones of [`Admissions`](super::Admissions), and by the cache of refusals.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    /// Calls that began before this do not admit, in milliseconds. 0 if nothing was revoked.
    before: AtomicU64,
    /// Counts revocations, so that what was known before is checked again.
    count: AtomicU64,
}

impl Revocations {
    /// The number of revocations until now.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Counts one more.
    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Revokes what was admitted by calls that began before `moment`.
    pub(super) fn revoke_before(&self, moment: Timestamp) {
        self.before.fetch_max(moment.0, Ordering::AcqRel);
        self.add();
    }

    /// A refusal that came at `refused` is forgotten, because there are too many. Nobody knows any
    /// more which credential it was. So nothing counts that is not later than the refusal.
    pub(super) fn forget(&self, refused: Timestamp) {
        self.revoke_before(Timestamp(refused.0.saturating_add(1)));
    }

    /// Returns whether calls that began at `asked` no longer admit.
    pub(super) fn include(&self, asked: Timestamp) -> bool {
        asked.0 < self.before.load(Ordering::Acquire)
    }
}
