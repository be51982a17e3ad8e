//! Invalidation: some numbers of a user, or everything stored for the user.
//!
//! If Redis does not confirm an invalidation in time, it is repeated once, because it must not be
//! lost and a second one does no harm.

use std::time::Duration;

use super::Resolver;
use crate::clock::{self, Instant};
use crate::connector::Platform;
use crate::domain::{Party, UserTag};
use crate::redis_link::LinkError;

/// The longest wait for a Redis that does not answer. The wait ends earlier once Redis counts as
/// down.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to invalidate.
#[derive(Debug, Clone)]
pub(crate) enum InvalidationScope {
    /// The answers about these parties, whatever formats, host and settings they were asked with.
    Parties(Vec<Party>),
    /// Everything: answers, and which credentials are verified.
    Everything,
}

impl Resolver {
    /// Invalidates on all replicas within a second. A load that began earlier never fills any tier
    /// afterwards. If Redis does not answer, waits a moment for it, but not after the `deadline`.
    ///
    /// # Errors
    /// If Redis cannot be reached. This process has invalidated the answers then; other replicas
    /// may not have.
    pub(crate) async fn invalidate(
        &self,
        platform: &Platform,
        account: &str,
        user: &str,
        scope: &InvalidationScope,
        deadline: Option<Instant>,
    ) -> Result<(), LinkError> {
        let user = self.deps.keys.user(platform.name(), account, user);
        let first = self.invalidate_once(user, scope).await;
        let patience = deadline.map_or(PATIENCE, |deadline| {
            PATIENCE.min(deadline.saturating_duration_since(clock::now()))
        });
        let again = first.as_ref().is_err_and(LinkError::is_silence)
            && clock::timeout(patience, self.deps.cache.redis_answers()).await == Some(true);
        if again {
            self.invalidate_once(user, scope).await
        } else {
            first
        }
    }

    async fn invalidate_once(
        &self,
        user: UserTag,
        scope: &InvalidationScope,
    ) -> Result<(), LinkError> {
        match scope {
            InvalidationScope::Parties(parties) => {
                self.deps.cache.invalidate_numbers(user, parties).await
            }
            InvalidationScope::Everything => {
                self.deps.admissions.invalidate_user_here(user);
                let invalidated = self.deps.cache.invalidate_user(user).await;
                // Again, for what was read from Redis in between.
                self.deps.admissions.invalidate_user_here(user);
                invalidated
            }
        }
    }
}
