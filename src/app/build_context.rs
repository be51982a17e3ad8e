//! What all modules are built from.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::supervisor::Supervisor;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;

/// See the header.
pub(super) struct BuildContext<'a> {
    pub(super) config: &'a Config,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) supervisor: &'a Supervisor,
    /// Loads and jobs.
    pub(super) loads: TaskTracker,
    pub(super) stopping: CancellationToken,
}

impl<'a> BuildContext<'a> {
    pub(super) fn new(
        config: &'a Config,
        clock: &'a Arc<dyn Clock>,
        metrics: &'a Arc<Metrics>,
        supervisor: &'a Supervisor,
    ) -> Self {
        Self {
            config,
            clock,
            metrics,
            supervisor,
            loads: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }
}
