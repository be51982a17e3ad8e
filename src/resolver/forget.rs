//! Forgetting: some numbers of a user, or all that is kept for the user.

use super::Resolver;
use crate::connector::Platform;
use crate::domain::{Party, UserTag};
use crate::redis_link::LinkError;

/// What is to be forgotten.
#[derive(Debug, Clone)]
pub(crate) enum Forgotten {
    /// The answers about these parties, whatever formats, host and settings they were asked with.
    Parties(Vec<Party>),
    /// Everything: answers, and which credentials have proved themselves.
    Everything,
}

impl Resolver {
    /// Forgets, on all replicas within a second. A load that began before never fills any tier
    /// afterwards.
    ///
    /// # Errors
    /// Where Redis could not be told: this process has forgotten, other replicas may not have.
    pub(crate) async fn forget(
        &self,
        platform: &Platform,
        account: &str,
        user: &str,
        what: &Forgotten,
    ) -> Result<(), LinkError> {
        let user: UserTag = self.rooms.keys.user(platform.name(), account, user);
        match what {
            Forgotten::Parties(parties) => self.rooms.cache.invalidate_numbers(user, parties).await,
            Forgotten::Everything => {
                self.rooms.admissions.forget_user_here(user);
                let forgotten = self.rooms.cache.invalidate_user(user).await;
                // Once more, for what was taken from Redis in between.
                self.rooms.admissions.forget_user_here(user);
                forgotten
            }
        }
    }
}
