//! Forgetting: some numbers of a user, or everything stored for the user.

use super::Resolver;
use crate::connector::Platform;
use crate::domain::{Party, UserTag};
use crate::redis_link::LinkError;

/// What to forget.
#[derive(Debug, Clone)]
pub(crate) enum Forgotten {
    /// The answers about these parties, whatever formats, host and settings they were asked with.
    Parties(Vec<Party>),
    /// Everything: answers, and which credentials are verified.
    Everything,
}

impl Resolver {
    /// Forgets on all replicas within a second. A load that began earlier never fills any tier
    /// afterwards.
    ///
    /// # Errors
    /// If Redis cannot be reached. This process has forgotten then; other replicas may not have.
    pub(crate) async fn forget(
        &self,
        platform: &Platform,
        account: &str,
        user: &str,
        what: &Forgotten,
    ) -> Result<(), LinkError> {
        let user: UserTag = self.deps.keys.user(platform.name(), account, user);
        match what {
            Forgotten::Parties(parties) => self.deps.cache.invalidate_numbers(user, parties).await,
            Forgotten::Everything => {
                self.deps.admissions.forget_user_here(user);
                let forgotten = self.deps.cache.invalidate_user(user).await;
                // Again, for what was read from Redis in between.
                self.deps.admissions.forget_user_here(user);
                forgotten
            }
        }
    }
}
