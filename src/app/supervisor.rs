//! The parts of the daemon: tasks that run until it stops.
//!
//! Promises that a part that ends before, by itself or by a panic, is logged and makes the daemon
//! stop: one that serves without it would only look well.

use std::sync::Arc;

use tokio::sync::SetOnce;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts parts, and knows whether all of them run. Clones share that.
#[derive(Debug, Clone, Default)]
pub(super) struct Supervisor {
    pub(super) tasks: TaskTracker,
    /// Everything ends.
    pub(super) stop: CancellationToken,
    /// The first part that ended too early.
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
        #[cfg(test)]
        let work = self.breaks.within(part, work);
        let guard = PartGuard {
            part,
            end: end.clone(),
            broken: Arc::clone(&self.broken),
        };
        self.tasks.spawn(async move {
            let _guard = guard;
            work.await
        })
    }

    /// Waits until a part has ended too early, and returns its name.
    pub(super) async fn broken(&self) -> &'static str {
        self.broken.wait().await
    }

    /// Whether all parts ran for as long as they should; else an error with the name of the first
    /// that did not.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.broken.get() {
            Some(part) => Err(anyhow::anyhow!(
                "{part} ended before it should have; the log says more"
            )),
            None => Ok(()),
        }
    }
}

/// Dropped with its part, however that ends.
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
            // The first one counts.
            let _ = self.broken.set(self.part);
        }
    }
}
