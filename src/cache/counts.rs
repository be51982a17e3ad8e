//! How often each tier had an answer.

use crate::domain::Freshness;
use crate::metrics::{CacheLabels, Count, Metrics};

/// The metrics of one tier.
#[derive(Debug, Clone)]
pub(super) struct TierCounters {
    hit: Count,
    stale: Count,
    miss: Count,
    pub(super) error: Count,
}

impl TierCounters {
    pub(super) fn new(metrics: &Metrics, tier: &'static str) -> Self {
        let counter = |result| {
            metrics
                .cache_requests
                .get_or_create(&CacheLabels { tier, result })
                .clone()
        };
        Self {
            hit: counter("hit"),
            stale: counter("stale"),
            miss: counter("miss"),
            error: counter("error"),
        }
    }

    pub(super) fn count(&self, stored: Option<Freshness>) {
        match stored {
            Some(Freshness::Fresh) => self.hit.inc(),
            Some(Freshness::Stale) => self.stale.inc(),
            _ => self.miss.inc(),
        }
    }
}
