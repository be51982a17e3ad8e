//! Limits background refreshes: one at a time per key, a few at once per scope, and none for a
//! while after a failure, because a CRM in trouble needs no more requests. Failing refreshes hold
//! up only their own scope.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::{ScopeTag, Timestamp};
use crate::share::one_less;

/// Refreshes of one scope running at once. Further ones are left to the next caller.
pub(crate) const OF_A_SCOPE: usize = 8;

/// How long a key rests after its refresh failed.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// How often keys that have rested are removed.
const SWEEP: Duration = Duration::from_secs(1);

/// Keys that are being refreshed, or rest after a failure: up to a limit in each scope.
#[derive(Debug)]
pub(crate) struct BackgroundLimit<K, S = ScopeTag> {
    at_once: usize,
    keys: Mutex<LimitedKeys<K, S>>,
}

#[derive(Debug)]
struct LimitedKeys<K, S> {
    states: HashMap<K, KeyState>,
    under_way: HashMap<S, usize>,
    swept: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyState {
    UnderWay,
    RestingSince(Timestamp),
}

impl<K: Copy + Eq + Hash, S: Copy + Eq + Hash> BackgroundLimit<K, S> {
    pub(crate) fn new(at_once: usize) -> Self {
        let (states, under_way) = (HashMap::new(), HashMap::new());
        Self {
            at_once,
            keys: Mutex::new(LimitedKeys {
                states,
                under_way,
                swept: Timestamp::default(),
            }),
        }
    }

    /// Returns whether a refresh of `key` failed a moment ago.
    pub(crate) fn rests(&self, key: &K, now: Timestamp) -> bool {
        let state = self.keys.lock().states.get(key).copied();
        state.is_some_and(|state| state != KeyState::UnderWay && !state.has_rested(now))
    }

    /// Returns whether `key` may be refreshed now, and if so marks it as being refreshed. This runs
    /// on each stale hit, so it looks at one key only, and at all of them once a second.
    pub(crate) fn take(&self, key: K, scope: S, now: Timestamp) -> bool {
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
            keys.states.insert(key, KeyState::UnderWay);
            *keys.under_way.entry(scope).or_default() += 1;
        }
        free
    }

    pub(crate) fn ended(&self, key: K, scope: S, failed_at: Option<Timestamp>) {
        let mut keys = self.keys.lock();
        one_less(&mut keys.under_way, scope);
        match failed_at {
            Some(now) => keys.states.insert(key, KeyState::RestingSince(now)),
            None => keys.states.remove(&key),
        };
    }
}

impl KeyState {
    fn has_rested(self, now: Timestamp) -> bool {
        matches!(self, Self::RestingSince(then) if now.since(then) >= COOL_DOWN)
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
        let (limit, scope) = (BackgroundLimit::<u64>::new(OF_A_SCOPE), scope(1));
        assert!(limit.take(1, scope, Timestamp(0)));
        assert!(!limit.take(1, scope, Timestamp(0)));
        limit.ended(1, scope, None);
        assert!(limit.take(1, scope, Timestamp(0)));
        limit.ended(1, scope, Some(Timestamp(1_000)));
        assert!(limit.rests(&1, Timestamp(30_000)) && !limit.take(1, scope, Timestamp(30_000)));
        assert!(!limit.rests(&2, Timestamp(30_000)));
        assert!(limit.take(1, scope, Timestamp(31_000)));
    }

    #[test]
    fn no_more_than_the_limit_are_under_way_in_a_scope_and_others_are_not_held_up() {
        let limit = BackgroundLimit::<u64>::new(OF_A_SCOPE);
        let taken = |scope, keys: std::ops::Range<u64>| {
            keys.filter(|key| limit.take(*key, scope, Timestamp(0)))
                .collect::<Vec<_>>()
        };
        let first = taken(scope(1), 0..100);
        assert_eq!(
            (first.len(), taken(scope(2), 100..200).len()),
            (OF_A_SCOPE, OF_A_SCOPE)
        );
        for key in first {
            limit.ended(key, scope(1), None);
        }
        assert_eq!(taken(scope(1), 0..100).len(), OF_A_SCOPE);
    }
}
