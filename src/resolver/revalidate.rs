//! Stale answers are refreshed behind the caller's back: one at a time per key, a bounded number at once, and not again
//! for a while after a failure, because a CRM in trouble needs no more questions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Question, Resolver};
use crate::domain::{ContactKey, Lane, Timestamp};

/// Refreshes under way at once. More are left to the next caller.
const AT_ONCE: usize = 32;

/// How long a key rests after a refresh of it failed.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// How often keys that have rested are swept out.
const SWEEP: Duration = Duration::from_secs(1);

/// Keys that are being refreshed or resting.
#[derive(Debug, Default)]
pub(super) struct Cap(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    states: HashMap<ContactKey, State>,
    under_way: usize,
    swept: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    RestingSince(Timestamp),
}

impl Cap {
    /// Whether `key` may be refreshed now; if so it is under way. Called for each stale hit, so it looks at one key.
    fn take(&self, key: ContactKey, now: Timestamp) -> bool {
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

    fn ended(&self, key: ContactKey, failed_at: Option<Timestamp>) {
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
    pub(super) fn revalidate(&self, question: &Question, key: ContactKey) {
        if !self.refreshing.take(key, self.rooms.clock.now()) {
            return;
        }
        let seat = self.send(question, key, Lane::Revalidate, false, &Arc::default());
        let (cap, clock) = (Arc::clone(&self.refreshing), Arc::clone(&self.rooms.clock));
        self.rooms.tasks.spawn(async move {
            let failed = seat.wait().await.is_err();
            cap.ended(key, failed.then(|| clock.now()));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::caller::Settings;
    use crate::domain::{E164, KeyMaker, Party, User};

    fn key(n: u64) -> ContactKey {
        let party = Party::Number(E164::parse(&format!("+1650{}", 2_000_000 + n), None).unwrap());
        let user = User {
            id: "u".to_owned(),
            account: String::new(),
            host: None,
            region: None,
            settings: Settings::default(),
        };
        KeyMaker::new([1; 16]).contact("example", &user, party, &[], &[])
    }

    #[test]
    fn a_key_is_refreshed_once_at_a_time_and_rests_after_a_failure() {
        let cap = Cap::default();
        assert!(cap.take(key(1), Timestamp(0)));
        assert!(!cap.take(key(1), Timestamp(0)));
        cap.ended(key(1), None);
        assert!(cap.take(key(1), Timestamp(0)));
        cap.ended(key(1), Some(Timestamp(1_000)));
        assert!(!cap.take(key(1), Timestamp(30_000)));
        assert!(cap.take(key(1), Timestamp(31_000)));
    }

    #[test]
    fn no_more_than_the_cap_are_under_way() {
        let cap = Cap::default();
        let taken = (0..100).filter(|n| cap.take(key(*n), Timestamp(0))).count();
        assert_eq!(taken, AT_ONCE);
    }
}
