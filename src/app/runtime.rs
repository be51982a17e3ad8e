//! The runtime that calls CRMs and parses their replies.
//!
//! It is separate from the runtime of the ports. What a CRM sends slows down only look-ups that
//! call a CRM. The system divides the cores between the two runtimes. A memory hit does not wait
//! behind a reply of several megabytes.
//!
//! Measured on two cores, in a debug build, during floods: the p99 latency of another user's memory
//! hits with and without this runtime. Replies of many records: 6 ms with it, 15 to 21 ms without.
//! A CRM that hangs: 4 to 9 ms with it, 17 ms without. Early hints: 3 ms with it, 7 ms without.
//! `fairness::attacks` checks how much a thread works before such a hit is answered.

use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// Ends with its owner, without waiting for what still runs on it.
#[derive(Debug)]
pub(super) struct CrmRuntime(Option<Runtime>);

impl CrmRuntime {
    /// Uses half as many threads as the machine has cores, so that the ports get the larger part if
    /// all are busy.
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads())
            .thread_name("contactd-crm")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn handle(&self) -> Handle {
        self.0
            .as_ref()
            .map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for CrmRuntime {
    fn drop(&mut self) {
        // Without waiting: it may be dropped on a thread that must not block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One for every two cores.
fn threads() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}
