//! Stale answers are refreshed behind the caller's back: one at a time per key, a few at once for
//! each scope, and not again for a while after a failure, because a CRM in trouble needs no more
//! questions. A scope that rests holds up its own refreshes and no others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::identity::Whose;
use super::{Asked, LoadRequest, Resolver};
use crate::domain::{Identity, Lane, QuestionKey, ScopeTag, Timestamp};
use crate::share::one_less;

/// Refreshes of one scope under way at once. More are left to the next caller.
pub(super) const OF_A_SCOPE: usize = 8;

/// How long a key rests after a refresh of it failed.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// How often keys that have rested are swept out.
const SWEEP: Duration = Duration::from_secs(1);

/// Keys that are being refreshed or resting, so many at once in each scope.
#[derive(Debug)]
pub(super) struct Cap<K, S = ScopeTag> {
    at_once: usize,
    keys: Mutex<Keys<K, S>>,
}

#[derive(Debug)]
struct Keys<K, S> {
    states: HashMap<K, State>,
    under_way: HashMap<S, usize>,
    swept: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    RestingSince(Timestamp),
}

impl<K: Copy + Eq + Hash, S: Copy + Eq + Hash> Cap<K, S> {
    pub(super) fn new(at_once: usize) -> Self {
        let (states, under_way) = (HashMap::new(), HashMap::new());
        Self {
            at_once,
            keys: Mutex::new(Keys {
                states,
                under_way,
                swept: Timestamp::default(),
            }),
        }
    }

    /// Whether a refresh of `key` failed a moment ago.
    pub(super) fn rests(&self, key: &K, now: Timestamp) -> bool {
        let state = self.keys.lock().states.get(key).copied();
        state.is_some_and(|state| state != State::UnderWay && !state.has_rested(now))
    }

    /// Whether `key` may be refreshed now; if so it is under way. Called for each stale hit, so it
    /// looks at one key.
    pub(super) fn take(&self, key: K, scope: S, now: Timestamp) -> bool {
        let mut keys = self.keys.lock();
        if now.since(keys.swept) >= SWEEP {
            keys.swept = now;
            keys.states.retain(|_, state| !state.has_rested(now));
        }
        let has_room = keys
            .under_way
            .get(&scope)
            .is_none_or(|of_scope| *of_scope < self.at_once);
        let free = has_room
            && keys
                .states
                .get(&key)
                .is_none_or(|state| state.has_rested(now));
        if free {
            keys.states.insert(key, State::UnderWay);
            *keys.under_way.entry(scope).or_default() += 1;
        }
        free
    }

    pub(super) fn ended(&self, key: K, scope: S, failed_at: Option<Timestamp>) {
        let mut keys = self.keys.lock();
        one_less(&mut keys.under_way, scope);
        match failed_at {
            Some(now) => keys.states.insert(key, State::RestingSince(now)),
            None => keys.states.remove(&key),
        };
    }
}

impl State {
    fn has_rested(self, now: Timestamp) -> bool {
        matches!(self, Self::RestingSince(then) if now.since(then) >= COOL_DOWN)
    }
}

impl Resolver {
    /// Refreshes a stale answer; a flight that runs already is enough.
    pub(super) fn revalidate(&self, asked: Asked<'_>, identity: Identity) {
        let (key, scope, clock) = (asked.key, asked.scope(Some(&identity)), &self.rooms.clock);
        if !self.refreshing.take(key, scope, clock.now()) {
            return;
        }
        let trip = self.trip(asked, Whose::Settled(identity));
        let seat = self.board(
            asked,
            LoadRequest {
                lane: Lane::Revalidate,
                deadline: None,
                ..trip
            },
        );
        let (cap, clock) = (Arc::clone(&self.refreshing), Arc::clone(clock));
        self.rooms.tasks.spawn(async move {
            let failed = seat.wait().await.is_err();
            cap.ended(key, scope, failed.then(|| clock.now()));
        });
    }

    /// Whether a refresh of this question failed a moment ago.
    pub(super) fn rests(&self, key: &QuestionKey) -> bool {
        self.refreshing.rests(key, self.rooms.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::KeyMaker;

    fn scope(n: u8) -> ScopeTag {
        KeyMaker::new([1; 16]).scope(&[&[n]])
    }

    #[test]
    fn a_key_is_refreshed_once_at_a_time_and_rests_after_a_failure() {
        let (cap, scope) = (Cap::<u64>::new(OF_A_SCOPE), scope(1));
        assert!(cap.take(1, scope, Timestamp(0)));
        assert!(!cap.take(1, scope, Timestamp(0)));
        cap.ended(1, scope, None);
        assert!(cap.take(1, scope, Timestamp(0)));
        cap.ended(1, scope, Some(Timestamp(1_000)));
        assert!(cap.rests(&1, Timestamp(30_000)) && !cap.take(1, scope, Timestamp(30_000)));
        assert!(!cap.rests(&2, Timestamp(30_000)));
        assert!(cap.take(1, scope, Timestamp(31_000)));
    }

    #[test]
    fn no_more_than_the_cap_are_under_way_in_a_scope_and_others_are_not_held_up() {
        let cap = Cap::<u64>::new(OF_A_SCOPE);
        let taken = |scope, keys: std::ops::Range<u64>| {
            keys.filter(|key| cap.take(*key, scope, Timestamp(0)))
                .collect::<Vec<_>>()
        };
        let first = taken(scope(1), 0..100);
        assert_eq!(
            (first.len(), taken(scope(2), 100..200).len()),
            (OF_A_SCOPE, OF_A_SCOPE)
        );
        for key in first {
            cap.ended(key, scope(1), None);
        }
        assert_eq!(taken(scope(1), 0..100).len(), OF_A_SCOPE);
    }
}
