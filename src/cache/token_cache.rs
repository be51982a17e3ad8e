//! The user tokens that were recently read from Redis.
//!
//! A table of fixed size. A token is known for no longer than [`LIFE`], the time in which an
//! invalidation must be known everywhere. It is also dropped as soon as this process knows that the
//! user was invalidated: the watermarks that invalidate answers in memory apply here as well. Saves
//! one key of a command, and decides nothing.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

use super::invalidations::{Invalidations, Watermark};
use crate::clock::Stopwatch;
use crate::domain::UserTag;
use crate::redis_link::user::UserToken;

/// After this the token is read again. That also shows Redis, which evicts the least read keys,
/// that it is in use.
const LIFE: Duration = Duration::from_secs(1);

/// Slots of about 60 bytes each. If two users have the same slot, they replace each other, which
/// costs one more key in a command. The models (tests/models) use few, because they make a new
/// table for each schedule.
const SLOTS: usize = if cfg!(models) { 16 } else { 1 << 14 };

/// The token that was read last in each slot.
pub(super) struct UserTokenCache(Box<[Mutex<Option<SeenToken>>]>);

#[derive(Clone, Copy)]
struct SeenToken {
    user: UserTag,
    user_token: UserToken,
    watermark: Watermark,
    since: Stopwatch,
}

impl SeenToken {
    fn is_valid_for(&self, user: UserTag) -> bool {
        self.user == user && self.since.elapsed() < LIFE
    }
}

impl fmt::Debug for UserTokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserTokenCache")
    }
}

impl Default for UserTokenCache {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| Mutex::default()).collect())
    }
}

impl UserTokenCache {
    /// The user's token, unless an invalidation has ended it since.
    pub(super) fn get(&self, user: UserTag, invalidations: &Invalidations) -> Option<UserToken> {
        let tokens = (*self.slot(user).lock()).filter(|tokens| tokens.is_valid_for(user))?;
        let is_current = invalidations.is_user_current(tokens.watermark, user);
        is_current.then_some(tokens.user_token)
    }

    /// Remembers the result of a read that began at `watermark`; nothing if there is no token.
    pub(super) fn put(&self, user: UserTag, user_token: Option<UserToken>, watermark: Watermark) {
        let tokens = user_token.map(|user_token| SeenToken {
            user,
            user_token,
            watermark,
            since: Stopwatch::start(),
        });
        *self.slot(user).lock() = tokens;
    }

    fn slot(&self, user: UserTag) -> &Mutex<Option<SeenToken>> {
        // The tag is a keyed hash, so any of its bytes will do.
        let [.., a, b] = user.to_bytes();
        &self.0[usize::from(u16::from_be_bytes([a, b])) % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sleep;
    use crate::redis_link::PartyHash;

    fn user(slot: u8, other: u8) -> UserTag {
        let mut bytes = [other; 16];
        bytes[14..].copy_from_slice(&[0, slot]);
        UserTag::from_bytes(bytes)
    }

    fn user_token(byte: u8) -> Option<UserToken> {
        UserToken::read(&[byte; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_is_known_for_a_second() {
        let (tokens, invalidations) = (UserTokenCache::default(), Invalidations::default());
        tokens.put(user(1, 0), user_token(1), invalidations.watermark());
        sleep(Duration::from_millis(999)).await;
        assert_eq!(tokens.get(user(1, 0), &invalidations), user_token(1));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(tokens.get(user(1, 0), &invalidations), None);
    }

    #[test]
    fn what_was_read_is_known_until_the_user_is_invalidated() {
        let (tokens, invalidations) = (UserTokenCache::default(), Invalidations::default());
        let (ann, bob) = (user(1, 0), user(2, 0));
        assert_eq!(tokens.get(ann, &invalidations), None);
        tokens.put(ann, user_token(1), invalidations.watermark());
        tokens.put(bob, user_token(2), invalidations.watermark());
        invalidations.invalidate_number(ann, PartyHash([0; 16]));
        assert_eq!(tokens.get(ann, &invalidations), user_token(1));
        let before = invalidations.watermark();
        invalidations.invalidate_user(ann);
        assert_eq!(tokens.get(ann, &invalidations), None);
        assert_eq!(tokens.get(bob, &invalidations), user_token(2));
        tokens.put(ann, user_token(1), before);
        assert_eq!(
            tokens.get(ann, &invalidations),
            None,
            "a read that began before comes too late"
        );
        tokens.put(ann, user_token(3), invalidations.watermark());
        assert_eq!(tokens.get(ann, &invalidations), user_token(3));
        tokens.put(ann, None, invalidations.watermark());
        assert_eq!(tokens.get(ann, &invalidations), None);
        invalidations.clear();
        assert_eq!(tokens.get(bob, &invalidations), None);
    }

    #[test]
    fn users_on_one_place_push_each_other_out_and_are_not_mixed_up() {
        let (tokens, invalidations) = (UserTokenCache::default(), Invalidations::default());
        let (ann, bob) = (user(1, 0), user(1, 7));
        tokens.put(ann, user_token(1), invalidations.watermark());
        assert_eq!(tokens.get(bob, &invalidations), None);
        tokens.put(bob, user_token(2), invalidations.watermark());
        assert_eq!(
            (
                tokens.get(ann, &invalidations),
                tokens.get(bob, &invalidations)
            ),
            (None, user_token(2))
        );
    }
}
