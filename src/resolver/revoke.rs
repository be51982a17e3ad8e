//! The CRM has refused a credential: it is revoked on all replicas.
//!
//! Promises that this process forgets it at once, and that Redis and the other replicas hear of it
//! now or as soon as they can be reached. At most 32 revocations wait for that at once, and none
//! outlives this process.

use std::time::Duration;

use super::{Asked, Resolver};
use crate::cache::Event;
use crate::clock;
use crate::domain::{AuthTag, Timestamp};

/// Revocations that wait at once.
pub(super) const AT_ONCE: usize = 32;

/// How long to wait before a revocation is published again.
const AGAIN: Duration = Duration::from_millis(500);

impl Resolver {
    /// Takes back the trust in a credential, for all users.
    pub(super) async fn revoke(&self, asked: Asked<'_>) {
        let (auth, refused) = (asked.auth, self.rooms.clock.now());
        self.rooms.admissions.revoke_here(auth);
        if self.revoke_elsewhere(auth, refused).await || !self.revoking.take(auth, (), refused) {
            return;
        }
        let resolver = self.clone();
        self.rooms.tasks.spawn(async move {
            let published = async {
                clock::sleep(AGAIN).await;
                while !resolver.revoke_elsewhere(auth, refused).await {
                    clock::sleep(AGAIN).await;
                }
            };
            resolver.rooms.stopping.run_until_cancelled(published).await;
            resolver.revoking.ended(auth, (), None);
        });
    }

    /// Returns whether both Redis and the log for the other replicas have it.
    async fn revoke_elsewhere(&self, auth: AuthTag, refused: Timestamp) -> bool {
        let event = Event::Revoke(auth);
        self.rooms.admissions.revoke_elsewhere(auth, refused).await
            && self.rooms.cache.publish(event).await.is_ok()
    }
}
