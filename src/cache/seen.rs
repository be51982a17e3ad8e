//! Which generation a user had in Redis when it was last read.
//!
//! Owns a table of fixed size. Promises that what was seen before the user was forgotten is not known any more, by the
//! same stamps that make answers in memory void: what comes of a remembered generation is no worse than what memory
//! holds. Saves a command, decides nothing.

use std::fmt;

use parking_lot::Mutex;

use super::generation::{Generations, Stamp};
use crate::domain::UserTag;
use crate::link::user::Generation;

/// Places, of some 60 bytes each. Users who fall on the same one push each other out, at the price of a command.
const PLACES: usize = 1 << 14;

/// What was seen last on each place.
pub(super) struct SeenGenerations(Box<[Mutex<Option<Seen>>]>);

#[derive(Clone, Copy)]
struct Seen {
    user: UserTag,
    generation: Generation,
    stamp: Stamp,
}

impl fmt::Debug for SeenGenerations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeenGenerations")
    }
}

impl Default for SeenGenerations {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Mutex::default()).collect())
    }
}

impl SeenGenerations {
    /// The generation that the user had, if nothing was heard since that ended it.
    pub(super) fn get(&self, user: UserTag, generations: &Generations) -> Option<Generation> {
        let seen = (*self.place(user).lock()).filter(|seen| seen.user == user)?;
        generations.is_user_current(seen.stamp, user).then_some(seen.generation)
    }

    /// Remembers what a read brought that began at `stamp`.
    pub(super) fn put(&self, user: UserTag, generation: Generation, stamp: Stamp) {
        *self.place(user).lock() = Some(Seen { user, generation, stamp });
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
    use crate::link::PartyHash;

    fn user(place: u8, other: u8) -> UserTag {
        let mut bytes = [other; 16];
        bytes[14..].copy_from_slice(&[0, place]);
        UserTag::from_bytes(bytes)
    }

    fn generation(byte: u8) -> Generation {
        Generation::read(&[byte; 16]).unwrap()
    }

    #[test]
    fn what_was_seen_is_known_until_the_user_is_forgotten() {
        let (seen, generations) = (SeenGenerations::default(), Generations::default());
        let (ann, bob) = (user(1, 0), user(2, 0));
        assert_eq!(seen.get(ann, &generations), None);
        seen.put(ann, generation(1), generations.stamp());
        seen.put(bob, generation(2), generations.stamp());
        generations.forget_number(ann, PartyHash([0; 16]));
        assert_eq!(seen.get(ann, &generations), Some(generation(1)));
        let before = generations.stamp();
        generations.forget_user(ann);
        assert_eq!(seen.get(ann, &generations), None);
        assert_eq!(seen.get(bob, &generations), Some(generation(2)));
        seen.put(ann, generation(1), before);
        assert_eq!(seen.get(ann, &generations), None, "a read that began before comes too late");
        seen.put(ann, generation(3), generations.stamp());
        assert_eq!(seen.get(ann, &generations), Some(generation(3)));
        generations.clear();
        assert_eq!(seen.get(bob, &generations), None);
    }

    #[test]
    fn users_on_one_place_push_each_other_out_and_are_not_mixed_up() {
        let (seen, generations) = (SeenGenerations::default(), Generations::default());
        let (ann, bob) = (user(1, 0), user(1, 7));
        seen.put(ann, generation(1), generations.stamp());
        assert_eq!(seen.get(bob, &generations), None);
        seen.put(bob, generation(2), generations.stamp());
        assert_eq!((seen.get(ann, &generations), seen.get(bob, &generations)), (None, Some(generation(2))));
    }
}
