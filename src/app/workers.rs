//! The threads that serve connections. Each has a runtime, connections and servers of its own.
//!
//! A connection stays on one thread, from its first byte to its end. So a call that is answered
//! from memory wakes no other thread and shares no queue with another thread. A new connection goes
//! to the thread with the fewest active ones. What takes long runs elsewhere: loads and batches
//! with their calls to CRMs, and the reading of long requests (on threads that may block).

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clients::Origin;
use crate::clock::{self, Instant};

/// Most threads of one worker that may block: they read long requests.
const BLOCKING: usize = 16;

/// A connection that is silent for this long does not count as load. Otherwise a client that opens
/// many connections and sends nothing could crowd everybody else onto one thread.
const SILENT: Duration = Duration::from_secs(10);

/// How often the loads are counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

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
    /// Those that were handed to it.
    connections: Arc<Mutex<Vec<Weak<Origin>>>>,
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

    /// Counts one more connection while it is open.
    pub(super) fn enter(&self, origin: &Arc<Origin>) {
        self.connections.lock().push(Arc::downgrade(origin));
    }

    /// The number of open connections whose peers sent something lately.
    pub(super) fn load(&self) -> usize {
        let mut connections = self.connections.lock();
        connections.retain(|connection| connection.strong_count() > 0);
        let open = connections.iter().filter_map(Weak::upgrade);
        open.filter(|origin| origin.silent_for() < SILENT).count()
    }
}

/// Which worker gets the next connection.
pub(super) struct Spread {
    workers: Vec<Worker>,
    /// The load of each when it was counted, and what was handed over since.
    loads: Vec<usize>,
    counted: Option<Instant>,
}

impl Spread {
    pub(super) fn over(workers: Vec<Worker>) -> Self {
        Self {
            workers,
            loads: Vec::new(),
            counted: None,
        }
    }

    /// Hands a connection to the worker with the fewest, and returns its index.
    pub(super) fn next(&mut self, origin: &Arc<Origin>) -> Option<usize> {
        let now = clock::now();
        let is_old = |counted: Instant| now.duration_since(counted) >= COUNT_EVERY;
        if self.counted.is_none_or(is_old) {
            self.loads = self.workers.iter().map(Worker::load).collect();
            self.counted = Some(now);
        }
        let loads = self.loads.iter_mut().enumerate();
        let (index, load) = loads.min_by_key(|(_, load)| **load)?;
        *load += 1;
        self.workers.get(index)?.enter(origin);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_that_send_nothing_do_not_decide_where_others_are_served() {
        let workers = Workers::start(2).unwrap();
        let opened = clock::now();
        let origin = |n| Arc::new(Origin::new(Ipv4Addr::LOCALHOST.into(), n, opened));
        let mut spread = Spread::over(workers.each().to_vec());
        let mut open = Vec::new();
        let connect = |spread: &mut Spread, n| {
            let origin = origin(n);
            let index = spread.next(&origin).unwrap();
            (index, origin)
        };
        for n in 0..40 {
            open.push(connect(&mut spread, n));
        }
        let on = |open: &[(usize, Arc<Origin>)], index| {
            open.iter().filter(|(on, _)| *on == index).count()
        };
        assert_eq!((on(&open, 0), on(&open, 1)), (20, 20));
        // All that are left are on one worker.
        open.retain(|(index, _)| *index == 0);
        clock::sleep(SILENT).await;
        let later: Vec<_> = (40..50).map(|n| connect(&mut spread, n)).collect();
        assert_eq!((on(&later, 0), on(&later, 1)), (5, 5));
    }
}
