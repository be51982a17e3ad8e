//! The runtime on which CRMs are called and their replies are read.
//!
//! Apart from that of the ports, so that what a CRM sends takes threads from other CRMs' look-ups
//! at most, and the system shares the cores among both: a memory hit does not stand behind a reply
//! of megabytes.
//!
//! Measured by `fairness::attacks` on two cores, debug build, p99 of another user's memory hits
//! with and without it: replies of many records 6 and 15 to 21 ms, a CRM that hangs 4 to 9 and 17
//! ms, early hints 3 and 7 ms.

use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// Ends with its owner, and does not wait for what still runs on it.
#[derive(Debug)]
pub(super) struct CrmRuntime(Option<Runtime>);

impl CrmRuntime {
    /// With half as many threads as the machine has cores, so that the ports have the larger part
    /// when all are busy.
    pub(super) fn start() -> std::io::Result<Self> {
        let threads = available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
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
        // Without waiting: it may be dropped where nobody may block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
