//! Sends concurrent reads as one command.
//!
//! Holds the queue of reads. So a burst of call pops takes a fraction of the commands. A single
//! read takes one command. No read waits for the reply to an earlier command, so each is answered
//! within the link's timeout. A dropped read does not end others. On a cluster each read is a
//! command of its own, because two users' keys are rarely in one hash slot. The same applies once
//! Redis has refused a shared command.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{Cmd, Value};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{Link, LinkError};

/// The most keys read by one command: all values arrive in one reply, within the timeout.
const AT_ONCE: usize = 64;

/// Reads of single keys. Clones share the queue.
#[derive(Clone)]
pub struct Reads {
    link: Link,
    tasks: TaskTracker,
    queue: Arc<ReadQueue>,
}

#[derive(Default)]
struct ReadQueue {
    pending: Mutex<Vec<PendingRead>>,
    /// Whether a shared command was refused.
    alone: AtomicBool,
}

/// A key, and the receiver of its value.
struct PendingRead {
    key: String,
    reply: oneshot::Sender<Result<Option<Vec<u8>>, LinkError>>,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Reads {
    /// Reads over a link. Shared commands run as tasks of `tasks`.
    pub fn new(link: Link, tasks: TaskTracker) -> Self {
        Self {
            link,
            tasks,
            queue: Arc::default(),
        }
    }

    /// The value of a key. If the key has another type, the result is `None` or an error, depending
    /// on the command that reads it.
    ///
    /// # Errors
    /// [`LinkError`], within the link's timeout.
    pub(crate) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, LinkError> {
        if self.link.is_sharded() || self.queue.alone.load(Ordering::Relaxed) {
            return get(&self.link, &key).await;
        }
        let (reply, value) = oneshot::channel();
        let first = {
            let mut pending = self.queue.pending.lock();
            if pending.is_empty() {
                pending.reserve(AT_ONCE);
            }
            pending.push(PendingRead { key, reply });
            pending.len() == 1
        };
        if first {
            let (link, queue) = (self.link.clone(), Arc::clone(&self.queue));
            self.tasks.spawn(send_all(link, queue));
        }
        // There is no answer if the runtime shuts down.
        value.await.unwrap_or(Err(LinkError::Down))
    }
}

/// Sends all reads of the queue. Before that, tasks that are ready to run can add theirs.
async fn send_all(link: Link, queue: Arc<ReadQueue>) {
    tokio::task::yield_now().await;
    let mut pending = mem::take(&mut *queue.pending.lock());
    if pending.len() <= AT_ONCE {
        return read(&link, &queue.alone, pending).await;
    }
    let mut commands = Vec::new();
    while !pending.is_empty() {
        commands.push(read(
            &link,
            &queue.alone,
            pending.split_off(pending.len().saturating_sub(AT_ONCE)),
        ));
    }
    join_all(commands).await;
}

/// Reads all keys with one command. If a read was dropped, its receiver is gone, which is no error.
async fn read(link: &Link, alone: &AtomicBool, pending: Vec<PendingRead>) {
    let mut mget = redis::cmd("MGET");
    for PendingRead { key, .. } in &pending {
        mget.arg(key);
    }
    match link.query::<Vec<Value>>(mget).await {
        Ok(values) => {
            for (PendingRead { reply, .. }, value) in pending.into_iter().zip(values) {
                let _ = reply.send(Ok(bulk(value)));
            }
        }
        // This happens if the URL names one node of a cluster as a single server, or if the user
        // may not use MGET.
        Err(LinkError::Failed(code)) if matches!(code.as_str(), "CROSSSLOT" | "NOPERM") => {
            alone.store(true, Ordering::Relaxed);
            let reads = pending.into_iter().map(async |PendingRead { key, reply }| {
                let _ = reply.send(get(link, &key).await);
            });
            join_all(reads).await;
        }
        Err(error) => {
            for PendingRead { reply, .. } in pending {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

fn bulk(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(value) => Some(value),
        _ => None,
    }
}

async fn get(link: &Link, key: &str) -> Result<Option<Vec<u8>>, LinkError> {
    link.query(Cmd::get(key)).await
}
