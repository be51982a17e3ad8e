//! A stand-in for metrics, which count nothing.

use std::time::Duration;

/// See the daemon's.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) cache_requests: Family<Count>,
    pub(crate) quota_wait: Family<Durations>,
}

#[derive(Debug, Default)]
pub(crate) struct Family<T>(T);

impl<T> Family<T> {
    pub(crate) fn get_or_create<L>(&self, _: &L) -> &T {
        &self.0
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Count;

impl Count {
    pub(crate) fn inc(&self) {}
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Durations;

impl Durations {
    pub(crate) fn observe(&self, _: Duration) {}
}

#[derive(Debug)]
pub(crate) struct CacheLabels {
    pub(crate) tier: &'static str,
    pub(crate) result: &'static str,
}

#[derive(Debug)]
pub(crate) struct QuotaLabels {
    pub(crate) platform: String,
    pub(crate) lane: &'static str,
}
