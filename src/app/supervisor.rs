//! The parts of the daemon: tasks that run until it stops.
//!
//! If a part ends early, by itself or by a panic, that is logged and the daemon stops. A daemon
//! that served without it would only look healthy.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::SetOnce;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts parts, and knows whether all of them run. Clones share this.
#[derive(Debug, Clone, Default)]
pub(super) struct Supervisor {
    pub(super) tasks: TaskTracker,
    /// Cancelled when everything ends.
    pub(super) stop: CancellationToken,
    /// The first part that ended early.
    broken: Arc<SetOnce<&'static str>>,
    #[cfg(test)]
    pub(super) breaks: super::tests::Breaks,
}

impl Supervisor {
    /// Runs a part until everything ends.
    pub(super) fn spawn(
        &self,
        part: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn_until(
            &self.stop,
            part,
            self.stop.clone().run_until_cancelled_owned(work),
        );
    }

    /// Runs a part that ends by itself once `end` is cancelled.
    pub(super) fn spawn_until<T: Send + 'static>(
        &self,
        end: &CancellationToken,
        part: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.spawn_until_on(&Handle::current(), end, part, work)
    }

    /// As [`spawn_until`](Self::spawn_until), on another runtime.
    pub(super) fn spawn_until_on<T: Send + 'static>(
        &self,
        runtime: &Handle,
        end: &CancellationToken,
        part: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        #[cfg(test)]
        let work = self.breaks.within(part, work);
        let guard = PartGuard {
            part,
            end: end.clone(),
            broken: Arc::clone(&self.broken),
        };
        let guarded = async move {
            let _guard = guard;
            work.await
        };
        self.tasks.spawn_on(guarded, runtime)
    }

    /// Waits until a part has ended early, and returns its name.
    pub(super) async fn broken(&self) -> &'static str {
        self.broken.wait().await
    }

    /// Returns an error with the name of the first part that ended early, if one did.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.broken.get() {
            Some(part) => Err(anyhow::anyhow!(
                "{part} ended before it should have; the log says more"
            )),
            None => Ok(()),
        }
    }
}

/// Dropped with its part, however the part ends.
struct PartGuard {
    part: &'static str,
    end: CancellationToken,
    broken: Arc<SetOnce<&'static str>>,
}

impl Drop for PartGuard {
    fn drop(&mut self) {
        if !self.end.is_cancelled() {
            let panicked = std::thread::panicking();
            tracing::error!(
                part = self.part,
                panicked,
                "a part of the daemon has ended: the daemon stops"
            );
            // Only the first one counts.
            let _ = self.broken.set(self.part);
        }
    }
}
