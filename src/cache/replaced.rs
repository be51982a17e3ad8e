//! Answers that were replaced, on their way to the other replicas.
//!
//! Owns what the log has not been given yet. Promises that every replacement reaches the log, the
//! latest time of each, within a fraction of a second while Redis answers, and later if it does
//! not; and that a batch that replaces thousands of answers of one user costs the log a few events:
//! many of one user become one for all of that user. Knows nothing of what the answers say.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::log::{Event, InvalidationLog};
use crate::clock;
use crate::domain::{SharedTime, SlotKey, UserTag};

/// How long replacements are collected: other replicas read the log ten times a second.
const COLLECT: Duration = Duration::from_millis(50);

/// How long to wait before the log is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Answers of one user published one by one. Beyond it all of the user's older answers are dropped.
const SINGLE: usize = 8;

/// Replacements that wait. Clones share them.
#[derive(Clone)]
pub(super) struct Outbox {
    log: InvalidationLog,
    tasks: TaskTracker,
    waiting: Arc<Mutex<PendingReplacements>>,
}

type PendingReplacements = HashMap<UserTag, UserReplacements>;

/// What was replaced of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
enum UserReplacements {
    Some(Vec<(SlotKey, SharedTime)>),
    Many(SharedTime),
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox before `log`; sending are tasks of `tasks`.
    pub(super) fn new(log: InvalidationLog, tasks: TaskTracker) -> Self {
        Self {
            log,
            tasks,
            waiting: Arc::default(),
        }
    }

    /// An answer was replaced by one that was asked for at `asked`.
    pub(super) fn push(&self, slot: SlotKey, asked: SharedTime) {
        let first = {
            let mut waiting = self.waiting.lock();
            let first = waiting.is_empty();
            add(
                &mut waiting,
                slot.user(),
                UserReplacements::Some(vec![(slot, asked)]),
            );
            first
        };
        if first {
            self.tasks.spawn(self.clone().send());
        }
    }

    /// Sends until nothing is left. Another task begins with the next replacement after that.
    async fn send(self) {
        clock::sleep(COLLECT).await;
        loop {
            // Left in the map while they are sent, so that no second task begins meanwhile.
            let sending = self.waiting.lock().clone();
            let events = sending
                .iter()
                .flat_map(|(user, of_user)| of_user.events(*user));
            let sent = join_all(events.map(|event| self.log.publish(event))).await;
            let all_sent = sent.iter().all(Result::is_ok);
            if all_sent && self.settle(&sending) {
                return;
            }
            clock::sleep(if all_sent { COLLECT } else { AGAIN }).await;
        }
    }

    /// Takes out what was sent, unless there is more of the same user by now. True if nothing is
    /// left.
    fn settle(&self, sent: &PendingReplacements) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.retain(|user, now| sent.get(user) != Some(now));
        waiting.is_empty()
    }
}

impl UserReplacements {
    fn events(&self, user: UserTag) -> Vec<Event> {
        match self {
            Self::Some(slots) => slots
                .iter()
                .map(|(slot, asked)| Event::Replaced(*slot, *asked))
                .collect(),
            Self::Many(asked) => vec![Event::ReplacedMany(user, *asked)],
        }
    }

    fn latest(&self) -> SharedTime {
        match self {
            Self::Some(slots) => slots
                .iter()
                .map(|(_, asked)| *asked)
                .max()
                .unwrap_or_default(),
            Self::Many(asked) => *asked,
        }
    }
}

/// Adds what was replaced of a user to what waits. Each answer stands there once.
fn add(waiting: &mut PendingReplacements, user: UserTag, new: UserReplacements) {
    let Some(known) = waiting.get_mut(&user) else {
        waiting.insert(user, new);
        return;
    };
    let latest = known.latest().max(new.latest());
    if let (UserReplacements::Some(slots), UserReplacements::Some(more)) = (&mut *known, new) {
        for (slot, asked) in more {
            slots.retain(|(known, _)| *known != slot);
            slots.push((slot, asked));
        }
        if slots.len() <= SINGLE {
            return;
        }
    }
    *known = UserReplacements::Many(latest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(user: u8, n: u8) -> SlotKey {
        SlotKey::from_bytes(UserTag::from_bytes([user; 16]), [n; 16])
    }

    fn events(replaced: impl IntoIterator<Item = (u8, u8, u64)>) -> Vec<Event> {
        let mut waiting = PendingReplacements::new();
        for (user, n, at) in replaced {
            let slot = slot(user, n);
            add(
                &mut waiting,
                slot.user(),
                UserReplacements::Some(vec![(slot, SharedTime(at))]),
            );
        }
        let mut events: Vec<Event> = waiting
            .iter()
            .flat_map(|(user, of_user)| of_user.events(*user))
            .collect();
        events.sort_by_key(|event| format!("{event:?}"));
        events
    }

    #[test]
    fn a_few_are_published_one_by_one_each_once_with_its_latest_time() {
        let published = events([(1, 1, 10), (1, 2, 11), (1, 1, 12), (2, 1, 5)]);
        let replaced = |user, n, at| Event::Replaced(slot(user, n), SharedTime(at));
        let mut expected = vec![replaced(1, 2, 11), replaced(1, 1, 12), replaced(2, 1, 5)];
        expected.sort_by_key(|event| format!("{event:?}"));
        assert_eq!(published, expected);
    }

    #[test]
    fn many_of_one_user_become_one_event_with_the_latest_time() {
        let published = events((0..200).map(|n| (1, n, 1_000 - u64::from(n))));
        assert_eq!(
            published,
            [Event::ReplacedMany(slot(1, 0).user(), SharedTime(1_000))]
        );
    }
}
