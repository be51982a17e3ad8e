//! Revokes a credential that the CRM has refused, on all replicas.
//!
//! This process stops trusting the credential at once. Redis and the other replicas learn of it
//! now, or as soon as they can be reached. At most 32 revocations wait for that at once, and they
//! are lost if this process ends.

use std::time::Duration;

use super::Resolver;
use crate::cache::ReplicaEvent;
use crate::clock;
use crate::domain::{AuthTag, Timestamp};

/// Revocations that wait at once.
pub(super) const AT_ONCE: usize = 32;

/// How long to wait before a revocation is published again.
const AGAIN: Duration = Duration::from_millis(500);

impl Resolver {
    /// Revokes the trust in a credential for all users. Returns once Redis and the other replicas
    /// know it, or cannot be reached.
    pub(super) async fn revoke(&self, auth: AuthTag) {
        let refused = self.deps.clock.now();
        self.deps.admissions.revoke_here(auth);
        let resolver = self.clone();
        // A task of its own: a load whose callers have left may be dropped here.
        let published = self.deps.tasks.spawn(async move {
            if !resolver.revoke_elsewhere(auth, refused).await {
                resolver.revoke_elsewhere_later(auth, refused);
            }
        });
        // It fails only if the task panicked, which is logged.
        let _ = published.await;
    }

    /// Publishes a revocation as soon as Redis can be reached.
    fn revoke_elsewhere_later(self, auth: AuthTag, refused: Timestamp) {
        if !self.revoking.take(auth, (), refused) {
            return;
        }
        let tasks = self.deps.tasks.clone();
        tasks.spawn(async move {
            let published = async {
                clock::sleep(AGAIN).await;
                while !self.revoke_elsewhere(auth, refused).await {
                    clock::sleep(AGAIN).await;
                }
            };
            self.deps.stopping.run_until_cancelled(published).await;
            self.revoking.ended(auth, (), None);
        });
    }

    /// Returns whether both Redis and the log for the other replicas have it.
    async fn revoke_elsewhere(&self, auth: AuthTag, refused: Timestamp) -> bool {
        let event = ReplicaEvent::Revoke(auth);
        self.deps.admissions.revoke_elsewhere(auth, refused).await
            && self.deps.cache.publish(event).await.is_ok()
    }
}
