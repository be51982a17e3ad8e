//! Parses large replies on separate threads, in turns.
//!
//! However many replies arrive, parsing them takes only a few threads from the rest of the daemon.
//! One reply at a time is parsed for each scope, and for each host that a user names. So a user
//! with many or long replies waits for one after the other. A call that is given up leaves the
//! queue.

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

/// Bytes that are parsed on the current thread: this takes a fraction of a millisecond.
const READ_AT_ONCE: usize = 32 * 1024;

/// How many larger replies of one connector are parsed at the same time.
const AT_ONCE: usize = 2;

/// Limits who parses when; see the module's header. A reply first waits in its scope's queue, then
/// in its host's, then for a thread. So each scope has one place in its host's queue, and each host
/// one in the last queue.
#[derive(Debug)]
pub(super) struct Readers {
    scopes: OneEach<ScopeTag>,
    hosts: OneEach<String>,
    threads: Arc<Semaphore>,
}

/// Whose turn a reply takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadingTurn<'a> {
    pub(super) scope: ScopeTag,
    /// The host, if a user named it.
    pub(super) host: Option<&'a str>,
}

/// A reply's turn, held until it is dropped.
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
            // Held until the thread is done, even if nobody waits for it any more.
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
        // Fails if the semaphore is closed, which never happens.
        let thread = Arc::clone(&self.threads).acquire_owned().await.ok();
        (scope, host, thread)
    }
}

/// One at a time for each key, first come, first served.
struct OneEach<K: Key>(Arc<Mutex<HashMap<K, Line>>>);

trait Key: Clone + Eq + Hash {}
impl<K: Clone + Eq + Hash> Key for K {}

/// The queue of a key, and how many wait in it or have reached its front.
struct Line {
    turn: Arc<Semaphore>,
    count: usize,
}

/// A place in the queue of a key, held until it is dropped.
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
        // Made before the wait, so that a place that is given up while it waits is no longer
        // counted.
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
