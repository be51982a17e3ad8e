//! Counters and histograms without a shared cache line or lock.
//!
//! Each thread counts in one of several parts, and the parts are summed when they are exported. So
//! counting costs the same however many threads serve hits. `prometheus-client` has a lock for each
//! histogram and one atomic for each counter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::SECONDS;
use super::reading::BUCKETS;

/// More threads share parts.
const PARTS: usize = 16;

const NANOS_IN_A_SECOND: f64 = 1e9;

/// One part, on cache lines of its own. Processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part<T>(T);

/// The part in which this thread counts.
fn own<T>(parts: &[Part<T>; PARTS]) -> &T {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PART: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
    }
    // A thread that is ending has no part any more.
    let part = PART.try_with(|part| *part).unwrap_or(0);
    &parts[part].0
}

/// A counter. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Arc<[Part<AtomicU64>; PARTS]>);

impl Count {
    /// Counts one more.
    pub(crate) fn inc(&self) {
        self.inc_by(1);
    }

    /// Counts `more`.
    pub(crate) fn inc_by(&self, more: u64) {
        own(&self.0).fetch_add(more, Ordering::Relaxed);
    }

    fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|part| part.0.load(Ordering::Relaxed))
            .sum()
    }
}

impl TypedMetric for Count {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Count {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, _, f64>(&self.sum(), None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A histogram of durations, with the buckets of this program. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations(Arc<[Part<Observed>; PARTS]>);

#[derive(Debug, Default)]
struct Observed {
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Durations {
    /// Records a duration.
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = SECONDS.iter().take_while(|bound| seconds > **bound).count();
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let observed = own(&self.0);
        observed.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        observed.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn in_bucket(&self, bucket: usize) -> u64 {
        let parts = self.0.iter().map(|part| &part.0.buckets[bucket]);
        parts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum of times for people")]
    fn seconds(&self) -> f64 {
        let parts = self.0.iter().map(|part| &part.0.nanos);
        let nanos: u64 = parts.map(|nanos| nanos.load(Ordering::Relaxed)).sum();
        nanos as f64 / NANOS_IN_A_SECOND
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .enumerate()
            .map(|(bucket, bound)| (bound, self.in_bucket(bucket)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.seconds(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use prometheus_client::encoding::text;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::{Metric, Registry};

    use super::*;

    fn exported(metric: impl Metric) -> String {
        let (mut registry, mut page) = (Registry::default(), String::new());
        registry.register("a", "b", metric);
        text::encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn what_many_threads_count_is_exported_as_one_sum() {
        let count = Count::default();
        thread::scope(|threads| {
            for _ in 0..40 {
                threads.spawn(|| (0..1_000).for_each(|_| count.inc()));
            }
        });
        assert!(exported(count).contains("a_total 40000\n"));
    }

    #[test]
    fn a_histogram_is_exported_as_that_of_the_library() {
        let (own, library) = (Durations::default(), Histogram::new(SECONDS));
        // Binary fractions, which both can sum without rounding; bounds of buckets among them.
        for millis in [0, 125, 250, 500, 1_000, 2_500, 10_000, 15_000] {
            let duration = Duration::from_millis(millis);
            own.observe(duration);
            library.observe(duration.as_secs_f64());
        }
        assert_eq!(exported(own), exported(library));
    }
}
