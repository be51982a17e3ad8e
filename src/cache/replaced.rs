//! Replaced answers that the other replicas do not know of yet.
//!
//! Every replacement reaches the log, with its latest time: within a fraction of a second while
//! Redis answers, later if it does not. A batch that replaces thousands of answers of one user adds
//! only a few events to the log. Many replacements of one user become one event for the whole user.
//! If there are more users than the log can keep events, they become one event for everybody. Knows
//! nothing of the answers' content.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::log::{InvalidationLog, ReplicaEvent};
use crate::clock;
use crate::domain::{SharedTime, SlotKey, UserTag};

/// How long replacements are collected: other replicas read the log ten times a second.
const COLLECT: Duration = Duration::from_millis(50);

/// How long to wait before the log is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Answers of one user that are published one by one. Beyond this, all older answers of the user
/// are dropped.
const SINGLE: usize = 8;

/// Users with waiting replacements. They collect while the log is unavailable. If more than this
/// were published at once afterwards, its readers would miss some and forget everything anyway.
const MOST: usize = 10_000;

/// Waiting replacements. Clones share them.
#[derive(Clone)]
pub(super) struct Outbox {
    log: InvalidationLog,
    tasks: TaskTracker,
    waiting: Arc<Mutex<PendingReplacements>>,
}

#[derive(Debug, Clone, Default)]
struct PendingReplacements {
    users: HashMap<UserTag, UserReplacements>,
    /// How often there were too many users, and how many of these times were published.
    overfull: u64,
    published: u64,
}

/// The replacements of one user.
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
    /// An outbox for `log`, which sends in tasks of `tasks`.
    pub(super) fn new(log: InvalidationLog, tasks: TaskTracker) -> Self {
        Self {
            log,
            tasks,
            waiting: Arc::default(),
        }
    }

    /// An answer was replaced by one loaded at `asked`.
    pub(super) fn push(&self, slot: SlotKey, asked: SharedTime) {
        let first = {
            let mut waiting = self.waiting.lock();
            let first = waiting.is_empty();
            waiting.add(slot.user(), UserReplacements::Some(vec![(slot, asked)]));
            first
        };
        if first {
            self.tasks.spawn(self.clone().send());
        }
    }

    /// Sends until nothing is left. The next replacement after that starts another task.
    async fn send(self) {
        clock::sleep(COLLECT).await;
        loop {
            // They stay in the map while they are sent, so that no second task starts meanwhile.
            let sending = self.waiting.lock().clone();
            let all_sent = self.publish_overflow(&sending).await && self.publish(&sending).await;
            if all_sent && self.settle(&sending) {
                return;
            }
            clock::sleep(if all_sent { COLLECT } else { AGAIN }).await;
        }
    }

    /// Publishes that there were too many users. Does so only once, because readers then drop
    /// everything.
    async fn publish_overflow(&self, sending: &PendingReplacements) -> bool {
        if !sending.is_overfull() {
            return true;
        }
        let is_published = self.log.publish(ReplicaEvent::Lost).await.is_ok();
        if is_published {
            self.waiting.lock().overflow_published(sending);
        }
        is_published
    }

    async fn publish(&self, sending: &PendingReplacements) -> bool {
        let events = sending.events();
        let sent = join_all(events.map(|event| self.log.publish(event))).await;
        sent.iter().all(Result::is_ok)
    }

    /// Takes out what was sent. True if nothing is left.
    fn settle(&self, sent: &PendingReplacements) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.settle(sent);
        waiting.is_empty()
    }
}

impl PendingReplacements {
    fn is_empty(&self) -> bool {
        self.users.is_empty() && !self.is_overfull()
    }

    /// Whether there were too many users and readers do not know it yet.
    fn is_overfull(&self) -> bool {
        self.published < self.overfull
    }

    fn overflow_published(&mut self, sent: &Self) {
        self.published = sent.overfull;
    }

    fn events(&self) -> impl Iterator<Item = ReplicaEvent> {
        let of_users = self.users.iter();
        of_users.flat_map(|(user, of_user)| of_user.events(*user))
    }

    /// Adds replacements of a user, each answer once.
    fn add(&mut self, user: UserTag, new: UserReplacements) {
        if let Some(known) = self.users.get_mut(&user) {
            return known.add(new);
        }
        if self.users.len() >= MOST {
            self.users = HashMap::new();
            self.overfull += 1;
            return;
        }
        self.users.insert(user, new);
    }

    /// Removes what was sent, unless the user has newer ones by now.
    fn settle(&mut self, sent: &Self) {
        self.users
            .retain(|user, now| sent.users.get(user) != Some(now));
    }
}

impl UserReplacements {
    fn events(&self, user: UserTag) -> Vec<ReplicaEvent> {
        match self {
            Self::Some(slots) => slots
                .iter()
                .map(|(slot, asked)| ReplicaEvent::Replaced(*slot, *asked))
                .collect(),
            Self::Many(asked) => vec![ReplicaEvent::ReplacedMany(user, *asked)],
        }
    }

    fn add(&mut self, new: Self) {
        let latest = self.latest().max(new.latest());
        if let (Self::Some(slots), Self::Some(more)) = (&mut *self, new) {
            for (slot, asked) in more {
                slots.retain(|(known, _)| *known != slot);
                slots.push((slot, asked));
            }
            if slots.len() <= SINGLE {
                return;
            }
        }
        *self = Self::Many(latest);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(user: u8, n: u8) -> SlotKey {
        SlotKey::from_bytes(UserTag::from_bytes([user; 16]), [n; 16])
    }

    fn events(replaced: impl IntoIterator<Item = (u8, u8, u64)>) -> Vec<ReplicaEvent> {
        let mut waiting = PendingReplacements::default();
        for (user, n, at) in replaced {
            let slot = slot(user, n);
            waiting.add(
                slot.user(),
                UserReplacements::Some(vec![(slot, SharedTime(at))]),
            );
        }
        let mut events: Vec<ReplicaEvent> = waiting.events().collect();
        events.sort_by_key(|event| format!("{event:?}"));
        events
    }

    #[test]
    fn a_few_are_published_one_by_one_each_once_with_its_latest_time() {
        let published = events([(1, 1, 10), (1, 2, 11), (1, 1, 12), (2, 1, 5)]);
        let replaced = |user, n, at| ReplicaEvent::Replaced(slot(user, n), SharedTime(at));
        let mut expected = vec![replaced(1, 2, 11), replaced(1, 1, 12), replaced(2, 1, 5)];
        expected.sort_by_key(|event| format!("{event:?}"));
        assert_eq!(published, expected);
    }

    #[test]
    fn many_of_one_user_become_one_event_with_the_latest_time() {
        let published = events((0..200).map(|n| (1, n, 1_000 - u64::from(n))));
        assert_eq!(
            published,
            [ReplicaEvent::ReplacedMany(
                slot(1, 0).user(),
                SharedTime(1_000)
            )]
        );
    }

    #[test]
    fn those_of_too_many_users_become_one_event_for_everybody_until_the_log_has_it() {
        let mut waiting = PendingReplacements::default();
        let push = |waiting: &mut PendingReplacements, user: usize| {
            let mut tag = [0; 16];
            tag[..8].copy_from_slice(&user.to_be_bytes());
            let slot = SlotKey::from_bytes(UserTag::from_bytes(tag), [1; 16]);
            waiting.add(
                slot.user(),
                UserReplacements::Some(vec![(slot, SharedTime(1))]),
            );
        };
        for user in 0..3 * MOST {
            push(&mut waiting, user);
            assert!(waiting.users.len() <= MOST);
        }
        let sent = waiting.clone();
        assert!(sent.is_overfull());
        (0..2 * MOST).for_each(|user| push(&mut waiting, user));
        waiting.overflow_published(&sent);
        assert!(
            waiting.is_overfull(),
            "there were too many once more while it was sent"
        );
        let sent = waiting.clone();
        waiting.overflow_published(&sent);
        assert!(!waiting.is_overfull() && !waiting.is_empty());
        waiting.settle(&sent);
        assert!(waiting.is_empty() && waiting.events().next().is_none());
    }
}
