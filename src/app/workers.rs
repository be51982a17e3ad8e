//! The threads that serve connections. Each has a runtime, connections and servers of its own.
//!
//! A connection stays on one thread, from its first byte to its end. So a call that is answered
//! from memory wakes no other thread and shares no queue with one. A new connection goes to the
//! thread with the fewest. What takes long runs elsewhere: loads and batches with the calls to
//! CRMs, the reading of long requests on threads that may block.

use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most threads of one worker that may block: they read long requests.
const BLOCKING: usize = 16;

/// The threads end with it, without waiting for what still runs on them.
#[derive(Debug)]
pub(super) struct Workers {
    each: Vec<Worker>,
    _end: DropGuard,
}

/// One thread. Clones mean the same one.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) handle: Handle,
    /// One clone for each open connection.
    connections: Arc<()>,
}

/// Held by a connection while it is open.
#[derive(Debug)]
pub(super) struct OnWorker {
    _connection: Arc<()>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// If the system gives no thread or no file descriptor.
    pub(super) fn start(count: usize) -> std::io::Result<Self> {
        let end = CancellationToken::new();
        let each: std::io::Result<_> = (0..count).map(|_| Worker::start(end.clone())).collect();
        Ok(Self {
            each: each?,
            _end: end.drop_guard(),
        })
    }

    pub(super) fn each(&self) -> &[Worker] {
        &self.each
    }
}

impl Worker {
    fn start(end: CancellationToken) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(BLOCKING)
            .thread_name("contactd-read")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("contactd-port".to_owned())
            .spawn(move || {
                runtime.block_on(end.cancelled());
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            connections: Arc::default(),
        })
    }

    /// Counts one more connection.
    pub(super) fn enter(&self) -> OnWorker {
        OnWorker {
            _connection: Arc::clone(&self.connections),
        }
    }

    /// The number of open connections.
    pub(super) fn load(&self) -> usize {
        Arc::strong_count(&self.connections)
    }
}
