//! Large replies are read aside, in turns.
//!
//! Promises that however many come, they compete with the rest of the daemon for the cores as a few
//! threads; that of one scope, and of one host that a user names, one reply is read at a time, so
//! that whoever brings many or long ones waits for its own; and that whoever gives up leaves the
//! line.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use encoding_rs::Encoding;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::reply;
use crate::domain::{LookupError, ScopeTag};

/// Bytes that are read without leaving the thread: a fraction of a millisecond.
const READ_AT_ONCE: usize = 32 * 1024;

/// Larger replies of one connector that are read at once.
const AT_ONCE: usize = 2;

/// See the header. Who waits for a thread is the first of its host, and before that of its scope;
/// so a scope has one place in its host's line, and a host one in the last.
#[derive(Debug)]
pub(super) struct Readers {
    scopes: OneEach<ScopeTag>,
    hosts: OneEach<String>,
    threads: Arc<Semaphore>,
}

/// ReadingTurn reply it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadingTurn<'a> {
    pub(super) scope: ScopeTag,
    /// The host, if a user named it.
    pub(super) host: Option<&'a str>,
}

/// A reply's turn, until it is dropped.
type Held = (
    One<ScopeTag>,
    Option<One<String>>,
    Option<OwnedSemaphorePermit>,
);

impl Default for Readers {
    fn default() -> Self {
        Self {
            scopes: OneEach::default(),
            hosts: OneEach::default(),
            threads: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Readers {
    /// As [`reply::read`].
    pub(super) async fn read(
        &self,
        whose: ReadingTurn<'_>,
        body: Vec<u8>,
        declared: Option<&'static Encoding>,
        limit: usize,
    ) -> Result<Value, LookupError> {
        if body.len() <= READ_AT_ONCE {
            return reply::read(body, declared, limit).map_err(LookupError::CrmBadReply);
        }
        let turn = self.turn(whose).await;
        let reading = spawn_blocking(move || {
            // Until the thread is done, whoever still waits for it.
            let _turn = turn;
            reply::read(body, declared, limit)
        });
        reading
            .await
            .map_err(|_| LookupError::Internal)?
            .map_err(LookupError::CrmBadReply)
    }

    async fn turn(&self, whose: ReadingTurn<'_>) -> Held {
        let scope = self.scopes.enter(whose.scope).await;
        let host = match whose.host {
            Some(host) => Some(self.hosts.enter(host.to_owned()).await),
            None => None,
        };
        // Fails if the semaphore is closed, which nobody does.
        let thread = Arc::clone(&self.threads).acquire_owned().await.ok();
        (scope, host, thread)
    }
}

/// One at a time of each key, in their order.
struct OneEach<K: Key>(Arc<Mutex<HashMap<K, Line>>>);

trait Key: Clone + Eq + Hash {}
impl<K: Clone + Eq + Hash> Key for K {}

/// The line of a key, and how many stand in it or are at its end.
struct Line {
    turn: Arc<Semaphore>,
    count: usize,
}

/// A place in the line of a key, until it is dropped.
struct One<K: Key> {
    all: Arc<Mutex<HashMap<K, Line>>>,
    key: K,
    turn: Option<OwnedSemaphorePermit>,
}

impl<K: Key> Default for OneEach<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Key> fmt::Debug for OneEach<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneEach")
            .field("lines", &self.0.lock().len())
            .finish()
    }
}

impl<K: Key> OneEach<K> {
    async fn enter(&self, key: K) -> One<K> {
        let turn = {
            let mut lines = self.0.lock();
            let line = lines.entry(key.clone()).or_insert_with(|| Line {
                turn: Arc::new(Semaphore::new(1)),
                count: 0,
            });
            line.count += 1;
            Arc::clone(&line.turn)
        };
        // Counted out also if it is given up while it waits.
        let mut one = One {
            all: Arc::clone(&self.0),
            key,
            turn: None,
        };
        one.turn = turn.acquire_owned().await.ok();
        one
    }
}

impl<K: Key> Drop for One<K> {
    fn drop(&mut self) {
        drop(self.turn.take());
        let mut lines = self.all.lock();
        if let Some(line) = lines.get_mut(&self.key) {
            line.count -= 1;
            if line.count == 0 {
                lines.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::KeyMaker;

    fn whose(scope: u8, host: Option<&str>) -> ReadingTurn<'_> {
        let scope = KeyMaker::new([1; 16]).scope(&[&[scope]]);
        ReadingTurn { scope, host }
    }

    #[tokio::test]
    async fn a_scope_and_a_named_host_read_one_reply_at_a_time() {
        let readers = Readers::default();
        let first = readers.turn(whose(1, None)).now_or_never().unwrap();
        let mut waits = Box::pin(readers.turn(whose(1, None)));
        assert!(waits.as_mut().now_or_never().is_none());
        let other = readers.turn(whose(2, None)).now_or_never();
        assert!(other.is_some(), "another scope has its turn meanwhile");
        drop((first, other));
        assert!(waits.now_or_never().is_some());

        let first = readers.turn(whose(1, Some("a"))).now_or_never().unwrap();
        let mut waits: Vec<_> = (2..9)
            .map(|scope| Box::pin(readers.turn(whose(scope, Some("a")))))
            .collect();
        for waits in &mut waits {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        let other = readers.turn(whose(9, Some("b"))).now_or_never();
        assert!(other.is_some(), "another host has its turn meanwhile");
        drop((first, other, waits));
        assert!(readers.scopes.0.lock().is_empty() && readers.hosts.0.lock().is_empty());
    }
}
