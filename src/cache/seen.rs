//! Which generation a user had in Redis when it was last read.
//!
//! Owns a table of fixed size. Promises that nothing is known for longer than [`LIFE`], within
//! which an invalidation has to be known everywhere, nor after this process has heard that the user
//! was forgotten: the same stamps make this void that make answers in memory void. Saves a key of a
//! command, decides nothing.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

use super::invalidations::{Invalidations, Stamp};
use crate::clock::Stopwatch;
use crate::domain::UserTag;
use crate::redis_link::user::UserToken;

/// After this the generation is read again. Redis, which evicts what is read least, sees by that
/// that it is in use.
const LIFE: Duration = Duration::from_secs(1);

/// Places, of some 60 bytes each. Users who fall on the same one push each other out, at the price
/// of a command.
const PLACES: usize = 1 << 14;

/// What was seen last on each place.
pub(super) struct SeenTokens(Box<[Mutex<Option<Seen>>]>);

#[derive(Clone, Copy)]
struct Seen {
    user: UserTag,
    generation: UserToken,
    stamp: Stamp,
    since: Stopwatch,
}

impl fmt::Debug for SeenTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeenGenerations")
    }
}

impl Default for SeenTokens {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::default()).collect())
    }
}

impl SeenTokens {
    /// The generation that the user had, if nothing was heard since that ended it.
    pub(super) fn get(&self, user: UserTag, generations: &Invalidations) -> Option<UserToken> {
        let seen = (*self.place(user).lock())
            .filter(|seen| seen.user == user && seen.since.elapsed() < LIFE)?;
        generations
            .is_user_current(seen.stamp, user)
            .then_some(seen.generation)
    }

    /// Remembers what a read brought that began at `stamp`; nothing where there is no generation.
    pub(super) fn put(&self, user: UserTag, generation: Option<UserToken>, stamp: Stamp) {
        let seen = generation.map(|generation| Seen {
            user,
            generation,
            stamp,
            since: Stopwatch::start(),
        });
        *self.place(user).lock() = seen;
    }

    fn place(&self, user: UserTag) -> &Mutex<Option<Seen>> {
        // The tag is a keyed hash, so any of its bytes will do.
        let [.., a, b] = user.to_bytes();
        &self.0[usize::from(u16::from_be_bytes([a, b])) % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sleep;
    use crate::redis_link::PartyHash;

    fn user(place: u8, other: u8) -> UserTag {
        let mut bytes = [other; 16];
        bytes[14..].copy_from_slice(&[0, place]);
        UserTag::from_bytes(bytes)
    }

    fn generation(byte: u8) -> Option<UserToken> {
        UserToken::read(&[byte; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_is_known_for_a_second() {
        let (seen, generations) = (SeenTokens::default(), Invalidations::default());
        seen.put(user(1, 0), generation(1), generations.stamp());
        sleep(Duration::from_millis(999)).await;
        assert_eq!(seen.get(user(1, 0), &generations), generation(1));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(seen.get(user(1, 0), &generations), None);
    }

    #[test]
    fn what_was_seen_is_known_until_the_user_is_forgotten() {
        let (seen, generations) = (SeenTokens::default(), Invalidations::default());
        let (ann, bob) = (user(1, 0), user(2, 0));
        assert_eq!(seen.get(ann, &generations), None);
        seen.put(ann, generation(1), generations.stamp());
        seen.put(bob, generation(2), generations.stamp());
        generations.forget_number(ann, PartyHash([0; 16]));
        assert_eq!(seen.get(ann, &generations), generation(1));
        let before = generations.stamp();
        generations.forget_user(ann);
        assert_eq!(seen.get(ann, &generations), None);
        assert_eq!(seen.get(bob, &generations), generation(2));
        seen.put(ann, generation(1), before);
        assert_eq!(
            seen.get(ann, &generations),
            None,
            "a read that began before comes too late"
        );
        seen.put(ann, generation(3), generations.stamp());
        assert_eq!(seen.get(ann, &generations), generation(3));
        seen.put(ann, None, generations.stamp());
        assert_eq!(seen.get(ann, &generations), None);
        generations.clear();
        assert_eq!(seen.get(bob, &generations), None);
    }

    #[test]
    fn users_on_one_place_push_each_other_out_and_are_not_mixed_up() {
        let (seen, generations) = (SeenTokens::default(), Invalidations::default());
        let (ann, bob) = (user(1, 0), user(1, 7));
        seen.put(ann, generation(1), generations.stamp());
        assert_eq!(seen.get(bob, &generations), None);
        seen.put(bob, generation(2), generations.stamp());
        assert_eq!(
            (seen.get(ann, &generations), seen.get(bob, &generations)),
            (None, generation(2))
        );
    }
}
