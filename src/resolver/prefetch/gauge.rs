//! How many jobs run.

use prometheus_client::metrics::gauge::Gauge;

/// Counts a job until it is dropped.
pub(super) struct JobGauge(Gauge);

impl JobGauge {
    pub(super) fn start(jobs: Gauge) -> Self {
        jobs.inc();
        Self(jobs)
    }
}

impl Drop for JobGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
