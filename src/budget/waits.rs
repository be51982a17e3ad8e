//! How long calls wait for their turn, as the metrics show it.

use std::time::Duration;

use crate::domain::lane::Lane;
use crate::metrics::{Durations, Metrics, QuotaLabels};

/// Histograms of `contactd_quota_wait_seconds`.
pub(super) struct WaitHistograms([Durations; Lane::ALL.len()]);

impl WaitHistograms {
    pub(super) fn new(platform: &str, metrics: &Metrics) -> Self {
        Self(Lane::ALL.map(|lane| histogram(platform, lane, metrics)))
    }

    /// A call has waited this long in this lane.
    pub(super) fn observe(&self, lane: Lane, waited: Duration) {
        self.of(lane).observe(waited);
    }

    fn of(&self, lane: Lane) -> &Durations {
        let [call_pop, revalidate, prefetch] = &self.0;
        match lane {
            Lane::CallPop => call_pop,
            Lane::Revalidate => revalidate,
            Lane::Prefetch => prefetch,
        }
    }
}

fn histogram(platform: &str, lane: Lane, metrics: &Metrics) -> Durations {
    let labels = QuotaLabels {
        platform: platform.to_owned(),
        lane: lane.label(),
    };
    metrics.quota_wait.get_or_create(&labels).clone()
}
