//! Which answers have been invalidated, as this process knows it.
//!
//! Keeps notes of invalidations, of this replica and of others. What began before an invalidation
//! never counts as begun after it, whatever the order of events. A load takes a [`Watermark`] when
//! it begins, and its answer keeps that. Every reader checks whether the watermark is current. No
//! note is lost, and their number is bounded. Many notes of one user are merged into one for the
//! whole user. If there are too many notes in all, the notes of the user who was invalidated
//! longest ago are merged into the note of that user's slot. The note of a slot applies to all
//! users of that slot: one user in 65,536. Merging costs loads, not correctness, and mostly loads
//! of the user whose numbers were invalidated. Knows nothing of tiers, tasks or time.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::domain::UserTag;
use crate::redis_link::PartyHash;

/// The most notes of all users: about 10 MB.
const MOST: usize = 100_000;

/// The most notes of one user before they are merged into one for the whole user.
const OF_A_USER: usize = 1_000;

/// The number of slots that share the notes of users without a note of their own.
const SLOTS: usize = 1 << 16;

/// A moment between two invalidations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Watermark(u64);

/// Counts invalidations and remembers what they apply to.
#[derive(Debug)]
pub(crate) struct Invalidations {
    count: AtomicU64,
    notes: RwLock<InvalidationNotes>,
    most: usize,
}

/// For each user and number, the count when it was last invalidated.
#[derive(Debug, Default)]
struct InvalidationNotes {
    everything: u64,
    users: HashMap<UserTag, UserNotes>,
    /// The users in the order of their last note, the oldest first.
    order: BTreeMap<u64, UserTag>,
    /// Merged notes of users without a note of their own. Empty until the first one.
    slots: Vec<u64>,
    len: usize,
}

#[derive(Debug, Default)]
struct UserNotes {
    everything: u64,
    parties: HashMap<PartyHash, u64>,
    last: u64,
}

impl Default for Invalidations {
    fn default() -> Self {
        Self::with_most(MOST)
    }
}

impl Invalidations {
    fn with_most(most: usize) -> Self {
        Self {
            count: AtomicU64::new(0),
            notes: RwLock::default(),
            most,
        }
    }

    /// The watermark of this moment.
    #[must_use]
    pub(crate) fn watermark(&self) -> Watermark {
        Watermark(self.count.load(Ordering::Acquire))
    }

    /// Invalidates a party of this user.
    pub(crate) fn invalidate_number(&self, user: UserTag, party: PartyHash) {
        self.note(|notes, count| {
            notes.change(user, count, |of_user| {
                of_user.parties.insert(party, count);
                if of_user.parties.len() > OF_A_USER {
                    *of_user = UserNotes {
                        everything: count,
                        ..UserNotes::default()
                    };
                }
            });
        });
    }

    /// Invalidates everything of this user.
    pub(crate) fn invalidate_user(&self, user: UserTag) {
        self.note(|notes, count| {
            notes.change(user, count, |of_user| {
                *of_user = UserNotes {
                    everything: count,
                    ..UserNotes::default()
                }
            });
        });
    }

    /// Invalidates everything.
    pub(crate) fn clear(&self) {
        self.note(|notes, count| {
            *notes = InvalidationNotes {
                everything: count,
                ..InvalidationNotes::default()
            }
        });
    }

    /// Invalidates nothing: only separates what began before from what begins from now on. Returns
    /// the first watermark of the latter.
    pub(crate) fn divide(&self) -> Watermark {
        self.note(|_, _| ());
        self.watermark()
    }

    /// Returns whether what began at `watermark` is still valid. `party` is called only if it
    /// matters, because a hash takes longer than everything else here.
    #[must_use]
    pub(crate) fn is_current(
        &self,
        watermark: Watermark,
        user: UserTag,
        party: impl FnOnce() -> PartyHash,
    ) -> bool {
        if self.watermark() == watermark {
            return true; // nothing at all was invalidated since
        }
        let notes = self.notes.read();
        if notes.last_for_user(user) > watermark.0 {
            return false;
        }
        notes
            .users
            .get(&user)
            .is_none_or(|UserNotes { parties, .. }| {
                parties.is_empty()
                    || parties
                        .get(&party())
                        .is_none_or(|&count| count <= watermark.0)
            })
    }

    /// Returns whether what was known of the whole user at `watermark` is still valid.
    /// Invalidations of single numbers do not affect it.
    #[must_use]
    pub(crate) fn is_user_current(&self, watermark: Watermark, user: UserTag) -> bool {
        self.watermark() == watermark || self.notes.read().last_for_user(user) <= watermark.0
    }

    /// The last invalidation of a party of this user; 0 if there is none.
    #[must_use]
    pub(crate) fn last_for(&self, user: UserTag, party: impl FnOnce() -> PartyHash) -> u64 {
        if self.watermark() == Watermark(0) {
            return 0; // nothing was ever invalidated
        }
        let notes = self.notes.read();
        notes
            .last_for_user(user)
            .max(notes.last_for_party(user, party))
    }

    fn note(&self, write: impl FnOnce(&mut InvalidationNotes, u64)) {
        let mut notes = self.notes.write();
        let count = self.count.load(Ordering::Relaxed) + 1;
        write(&mut notes, count);
        while notes.len > self.most && notes.merge_oldest() {}
        // Raised while the notes are locked, so that a reader that sees the new count finds the
        // note.
        self.count.store(count, Ordering::Release);
    }
}

impl InvalidationNotes {
    /// The last invalidation of this party alone; 0 if there is none.
    fn last_for_party(&self, user: UserTag, party: impl FnOnce() -> PartyHash) -> u64 {
        let of_user = self.users.get(&user);
        let of_party = of_user.and_then(|of_user| of_user.parties.get(&party()));
        of_party.copied().unwrap_or(0)
    }

    /// The last invalidation of the whole user; 0 if there is none.
    fn last_for_user(&self, user: UserTag) -> u64 {
        let of_user = self.users.get(&user);
        let own = of_user.map_or(0, |of_user| of_user.everything);
        let shared = self.slots.get(slot(user)).copied().unwrap_or(0);
        self.everything.max(own).max(shared)
    }

    fn change(&mut self, user: UserTag, count: u64, change: impl FnOnce(&mut UserNotes)) {
        let of_user = self.users.entry(user).or_default();
        self.order.remove(&of_user.last);
        let before = of_user.len();
        change(of_user);
        of_user.last = count;
        self.len = self.len + of_user.len() - before;
        self.order.insert(count, user);
    }

    /// Merges the notes of the user with the oldest last note into the user's slot.
    fn merge_oldest(&mut self) -> bool {
        let Some((last, user)) = self.order.pop_first() else {
            return false;
        };
        self.len -= self.users.remove(&user).map_or(0, |of_user| of_user.len());
        self.slots.resize(SLOTS, 0);
        if let Some(shared) = self.slots.get_mut(slot(user)) {
            *shared = last.max(*shared);
        }
        true
    }
}

/// The slot of a user. A tag is a hash under a secret, so nobody can choose another user's slot.
fn slot(user: UserTag) -> usize {
    let [.., high, low] = user.to_bytes();
    usize::from(u16::from_be_bytes([high, low]))
}

impl UserNotes {
    fn len(&self) -> usize {
        self.parties.len() + usize::from(self.everything > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Watermark(u8, u8),
        Number(u8, u8),
        User(u8),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u8..3, 0u8..3).prop_map(|(user, party)| Step::Watermark(user, party)),
            3 => (0u8..3, 0u8..3).prop_map(|(user, party)| Step::Number(user, party)),
            2 => (0u8..3).prop_map(Step::User),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..40)
    }

    fn user(n: u8) -> UserTag {
        UserTag::from_bytes([n; 16])
    }

    fn party(n: u8) -> PartyHash {
        PartyHash([n; 16])
    }

    /// Runs the steps against a plain list; `exact` if nothing may be invalidated beyond what was
    /// said.
    fn check(
        invalidations: &Invalidations,
        steps: &[Step],
        exact: bool,
    ) -> Result<(), TestCaseError> {
        let mut begun: Vec<(Watermark, u8, u8, bool, bool)> = Vec::new();
        for &step in steps {
            let hit: Box<dyn Fn(u8, u8) -> bool> = match step {
                Step::Watermark(u, p) => {
                    begun.push((invalidations.watermark(), u, p, true, true));
                    Box::new(|_, _| false)
                }
                Step::Number(u, p) => {
                    invalidations.invalidate_number(user(u), party(p));
                    Box::new(move |of, about| (of, about) == (u, p))
                }
                Step::User(u) => {
                    invalidations.invalidate_user(user(u));
                    Box::new(move |of, _| of == u)
                }
                Step::Clear => {
                    invalidations.clear();
                    Box::new(|_, _| true)
                }
            };
            for (watermark, u, p, holds, user_holds) in &mut begun {
                *holds &= !hit(*u, *p);
                *user_holds &= matches!(step, Step::Number(..)) || !hit(*u, *p);
                let current = invalidations.is_current(*watermark, user(*u), || party(*p));
                let user_current = invalidations.is_user_current(*watermark, user(*u));
                for (current, holds) in [(current, *holds), (user_current, *user_holds)] {
                    let allowed = if exact {
                        current == holds
                    } else {
                        holds || !current
                    };
                    prop_assert!(allowed);
                }
            }
            let notes = invalidations.notes.read();
            prop_assert_eq!(
                notes.len,
                notes.users.values().map(UserNotes::len).sum::<usize>()
            );
            prop_assert!(notes.len <= invalidations.most);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn what_was_begun_before_is_void_and_nothing_else(steps in steps()) {
            check(&Invalidations::default(), &steps, true)?;
        }

        #[test]
        fn too_many_notes_make_more_void_never_less(steps in steps()) {
            check(&Invalidations::with_most(2), &steps, false)?;
        }
    }

    #[test]
    fn many_notes_of_one_user_are_that_users_alone() {
        let invalidations = Invalidations::default();
        let watermark = invalidations.watermark();
        let parties = (0..110_000_u64).map(|n| PartyHash((u128::from(n) << 64).to_be_bytes()));
        parties.for_each(|party| invalidations.invalidate_number(user(1), party));
        assert!(
            !invalidations.is_current(watermark, user(1), || party(9)),
            "all of the user is void"
        );
        assert!(invalidations.is_current(watermark, user(2), || party(9)));
        assert!(invalidations.notes.read().len <= OF_A_USER);
    }

    #[test]
    fn many_users_make_few_others_void() {
        let invalidations = Invalidations::default();
        let keys = crate::domain::KeyMaker::new([1; 16]);
        let tag = |n: u64| keys.user("example", "", &n.to_string());
        let others: Vec<UserTag> = (1_000_000..1_001_000).map(tag).collect();
        let watermark = invalidations.watermark();
        (1..102_001).for_each(|n| invalidations.invalidate_user(tag(n)));
        let void = others
            .iter()
            .filter(|user| !invalidations.is_user_current(watermark, **user))
            .count();
        assert!(void < 100, "{void} of 1,000");
        assert!((1..102_001).all(|n| !invalidations.is_user_current(watermark, tag(n))));
        assert_eq!(invalidations.notes.read().len, MOST);
    }

    #[test]
    fn other_users_do_not_pay_for_a_hash() {
        let invalidations = Invalidations::default();
        let watermark = invalidations.watermark();
        invalidations.invalidate_number(user(1), party(1));
        assert!(
            invalidations.is_current(watermark, user(2), || unreachable!(
                "no note is about this user"
            ))
        );
    }
}
