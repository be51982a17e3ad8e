//! When the CRM last refused a credential.
//!
//! Any number of made-up credentials may be refused. That must neither hide a refusal that counts,
//! nor cost other credentials their trust. So each verification holds the last refusal of its
//! credential as long as it is remembered. All other refusals only matter for calls that are under
//! way, and if Redis has not taken them. Of those, the least recently used one is forgotten first.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::retention::{Remembered, Retention};
use crate::domain::{AuthTag, Timestamp};

/// The last refusals that verifications hold.
type Held = Mutex<HashMap<AuthTag, Weak<LastRefusal>, foldhash::fast::RandomState>>;

/// Clones share everything.
#[derive(Clone)]
pub(super) struct Refusals {
    held: Arc<Held>,
    recent: Remembered<AuthTag, Timestamp>,
}

/// When the CRM last refused one credential.
pub(super) struct LastRefusal {
    auth: AuthTag,
    /// Milliseconds; 0 if it did not.
    at: AtomicU64,
    held: Arc<Held>,
}

impl fmt::Debug for LastRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LastRefusal").field(&self.at).finish()
    }
}

impl Drop for LastRefusal {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        // A new one may have taken its place already.
        let is_own = |it: &Weak<Self>| it.strong_count() == 0;
        if held.get(&self.auth).is_some_and(is_own) {
            held.remove(&self.auth);
        }
    }
}

impl LastRefusal {
    /// Returns whether the refusal came after a call that began at `asked`.
    pub(super) fn is_after(&self, asked: Timestamp) -> bool {
        let at = self.latest();
        at != 0 && at >= asked.0
    }

    /// When it came, in milliseconds; 0 if there was none.
    pub(super) fn latest(&self) -> u64 {
        self.at.load(Ordering::Acquire)
    }

    fn refuse(&self, refused: Timestamp) {
        self.at.fetch_max(refused.0, Ordering::AcqRel);
    }
}

impl Refusals {
    pub(super) fn new(retention: Retention) -> Self {
        let recent = retention.cache();
        Self {
            held: Arc::default(),
            recent: recent.build_with_hasher(foldhash::fast::RandomState::default()),
        }
    }

    /// The last refusal of a credential. It learns of later ones as long as somebody holds it.
    pub(super) fn of(&self, auth: AuthTag) -> Arc<LastRefusal> {
        let last = self.hold(auth);
        // Only now: a refusal in between is either here already, or finds the one that is held.
        if let Some(refused) = self.recent.get(&auth) {
            last.refuse(refused);
        }
        last
    }

    fn hold(&self, auth: AuthTag) -> Arc<LastRefusal> {
        let mut held = self.held.lock();
        if let Some(last) = held.get(&auth).and_then(Weak::upgrade) {
            return last;
        }
        let last = Arc::new(LastRefusal {
            auth,
            at: AtomicU64::default(),
            held: Arc::clone(&self.held),
        });
        held.insert(auth, Arc::downgrade(&last));
        last
    }

    /// The latest refusal counts, whatever the order in which they arrive.
    pub(super) fn refuse(&self, auth: AuthTag, refused: Timestamp) {
        self.recent.entry(auth).and_upsert_with(|known| {
            known.map_or(refused, |known| known.into_value().max(refused))
        });
        // Not dropped while the lock is held: it takes the lock if it is the last one.
        let last = self.held.lock().get(&auth).and_then(Weak::upgrade);
        if let Some(last) = last {
            last.refuse(refused);
        }
    }

    /// The recent refusals, the oldest first.
    pub(super) fn recent(&self) -> Vec<(AuthTag, Timestamp)> {
        let recent = self.recent.iter();
        let mut recent: Vec<_> = recent.map(|(auth, refused)| (*auth, refused)).collect();
        recent.sort_unstable_by_key(|(_, refused)| *refused);
        recent
    }

    /// The number of credentials whose last refusal is held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.lock().len()
    }
}
