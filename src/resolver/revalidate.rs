//! Stale answers are refreshed behind the caller's back: one at a time per key, a bounded number at once, and not again
//! for a while after a failure, because a CRM in trouble needs no more questions.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::identity::Whose;
use super::{Asked, Resolver, Trip};
use crate::domain::{Identity, Lane, QuestionKey, Timestamp};

/// Refreshes under way at once. More are left to the next caller.
const AT_ONCE: usize = 32;

/// How long a key rests after a refresh of it failed.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// How often keys that have rested are swept out.
const SWEEP: Duration = Duration::from_secs(1);

/// Keys that are being refreshed or resting.
#[derive(Debug)]
pub(super) struct Cap<K>(Mutex<Keys<K>>);

#[derive(Debug)]
struct Keys<K> {
    states: HashMap<K, State>,
    under_way: usize,
    swept: Timestamp,
}

impl<K> Default for Cap<K> {
    fn default() -> Self {
        Self(Mutex::new(Keys { states: HashMap::new(), under_way: 0, swept: Timestamp::default() }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    RestingSince(Timestamp),
}

impl<K: Copy + Eq + Hash> Cap<K> {
    /// Whether a refresh of `key` failed a moment ago.
    pub(super) fn rests(&self, key: &K, now: Timestamp) -> bool {
        let state = self.0.lock().states.get(key).copied();
        state.is_some_and(|state| state != State::UnderWay && !state.has_rested(now))
    }

    /// Whether `key` may be refreshed now; if so it is under way. Called for each stale hit, so it looks at one key.
    pub(super) fn take(&self, key: K, now: Timestamp) -> bool {
        let mut keys = self.0.lock();
        if now.since(keys.swept) >= SWEEP {
            keys.swept = now;
            keys.states.retain(|_, state| !state.has_rested(now));
        }
        let free = keys.under_way < AT_ONCE && keys.states.get(&key).is_none_or(|state| state.has_rested(now));
        if free {
            keys.states.insert(key, State::UnderWay);
            keys.under_way += 1;
        }
        free
    }

    pub(super) fn ended(&self, key: K, failed_at: Option<Timestamp>) {
        let mut keys = self.0.lock();
        keys.under_way = keys.under_way.saturating_sub(1);
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
        let (key, clock) = (asked.key, &self.rooms.clock);
        if !self.refreshing.take(key, clock.now()) {
            return;
        }
        let trip = self.trip(asked, Whose::Settled(identity));
        let seat = self.board(asked, Trip { lane: Lane::Revalidate, deadline: None, ..trip });
        let (cap, clock) = (Arc::clone(&self.refreshing), Arc::clone(clock));
        self.rooms.tasks.spawn(async move {
            let failed = seat.wait().await.is_err();
            cap.ended(key, failed.then(|| clock.now()));
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

    #[test]
    fn a_key_is_refreshed_once_at_a_time_and_rests_after_a_failure() {
        let cap = Cap::<u64>::default();
        assert!(cap.take(1, Timestamp(0)));
        assert!(!cap.take(1, Timestamp(0)));
        cap.ended(1, None);
        assert!(cap.take(1, Timestamp(0)));
        cap.ended(1, Some(Timestamp(1_000)));
        assert!(cap.rests(&1, Timestamp(30_000)) && !cap.take(1, Timestamp(30_000)));
        assert!(!cap.rests(&2, Timestamp(30_000)));
        assert!(cap.take(1, Timestamp(31_000)));
    }

    #[test]
    fn no_more_than_the_cap_are_under_way() {
        let cap = Cap::<u64>::default();
        let taken = (0..100).filter(|n| cap.take(*n, Timestamp(0))).count();
        assert_eq!(taken, AT_ONCE);
    }
}
