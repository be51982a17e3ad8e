//! The last five minutes: the counters, sampled every two seconds.
//!
//! Holds the ring of samples and calculates sums over it. A sample is a copy of counters: the
//! difference of two is what happened in between, and nothing is counted twice. Bounded: about 1
//! KiB per sample, and 300 bytes for each connector.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{self, Instant};
use crate::metrics::{HistogramBuckets, Metrics, MetricsReading};

/// Time between two samples.
pub(super) const STEP: Duration = Duration::from_secs(2);
/// Steps that are remembered: five minutes.
const STEPS: usize = 150;
/// The steps that count as "now": ten seconds.
const NOW: usize = 5;

/// The sources of answers, in the order in which a look-up asks them.
pub(super) const SOURCES: [&str; 4] = ["memory", "redis", "crm", "none"];
/// Tiers, in the same order.
pub(super) const TIERS: [&str; 2] = ["memory", "redis"];
/// The results of a tier.
pub(super) const RESULTS: [&str; 4] = ["hit", "stale", "miss", "error"];

/// The counters at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    at: Instant,
    /// By [`SOURCES`].
    pub(crate) lookups: [HistogramBuckets; SOURCES.len()],
    /// Look-ups by outcome.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// The outcomes of the look-ups whose source is "none".
    pub(crate) without_source: BTreeMap<String, u64>,
    pub(crate) shared: u64,
    /// By connector.
    pub(crate) crm: BTreeMap<String, CrmSample>,
    /// By [`TIERS`], then by [`RESULTS`].
    pub(crate) tiers: [[u64; RESULTS.len()]; TIERS.len()],
    /// Numbers of batches by outcome.
    pub(crate) prefetch: BTreeMap<String, u64>,
}

/// The calls to one CRM.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CrmSample {
    pub(crate) calls: u64,
    /// Calls without a 2xx or 3xx reply.
    pub(crate) failed: u64,
    pub(crate) duration: HistogramBuckets,
}

impl Sample {
    fn take(metrics: &Metrics) -> Self {
        let reading = metrics.read();
        let duration =
            |source| reading.histogram("contactd_lookup_duration_seconds", &[("source", source)]);
        let tier = |tier| {
            RESULTS.map(|result| {
                reading.count(
                    "contactd_cache_requests_total",
                    &[("tier", tier), ("result", result)],
                )
            })
        };
        let names = reading
            .counts_by("contactd_crm_request_duration_seconds_count", "platform")
            .into_keys();
        Self {
            at: clock::now(),
            lookups: SOURCES.map(duration),
            outcomes: reading.counts_by("contactd_lookups_total", "outcome"),
            without_source: reading.counts_among(
                "contactd_lookups_total",
                &[("source", "none")],
                "outcome",
            ),
            shared: reading.count("contactd_lookups_shared_total", &[]),
            crm: names
                .map(|name| (name.clone(), CrmSample::read(&reading, &name)))
                .collect(),
            tiers: TIERS.map(tier),
            prefetch: reading.counts_by("contactd_prefetch_numbers_total", "outcome"),
        }
    }
}

impl CrmSample {
    fn read(reading: &MetricsReading, name: &str) -> Self {
        let calls = |status| {
            reading.count(
                "contactd_crm_requests_total",
                &[("platform", name), ("status", status)],
            )
        };
        let failed = calls("4xx") + calls("5xx") + calls("error");
        let duration = reading.histogram(
            "contactd_crm_request_duration_seconds",
            &[("platform", name)],
        );
        Self {
            calls: calls("2xx") + calls("3xx") + failed,
            failed,
            duration,
        }
    }
}

/// The samples of the last five minutes.
#[derive(Debug, Clone)]
pub(super) struct History {
    metrics: Arc<Metrics>,
    ring: Arc<Mutex<VecDeque<Arc<Sample>>>>,
}

impl History {
    /// A history that begins now.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let first = Arc::new(Sample::take(&metrics));
        Self {
            metrics,
            ring: Arc::new(Mutex::new(VecDeque::from([first]))),
        }
    }

    /// Takes samples for as long as it runs.
    pub(super) async fn record(self) {
        loop {
            clock::sleep(STEP).await;
            self.sample();
        }
    }

    fn sample(&self) {
        let sample = Arc::new(Sample::take(&self.metrics));
        let mut ring = self.ring.lock();
        ring.push_back(sample);
        if ring.len() > STEPS + 1 {
            ring.pop_front();
        }
    }

    /// The remembered samples.
    pub(super) fn window(&self) -> HistoryWindow {
        HistoryWindow(self.ring.lock().iter().map(Arc::clone).collect())
    }
}

/// A period of history.
#[derive(Debug)]
pub(super) struct HistoryWindow(Vec<Arc<Sample>>);

impl HistoryWindow {
    /// The time from its first sample to its last.
    pub(super) fn length(&self) -> Duration {
        self.between(0, self.0.len().saturating_sub(1))
    }

    /// The last sample: the counts since the start of the process.
    pub(super) fn last(&self) -> Option<&Sample> {
        self.0.last().map(Arc::as_ref)
    }

    /// The increase of a counter over the whole window.
    pub(super) fn rise(&self, counter: impl Fn(&Sample) -> u64) -> u64 {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) => counter(last).saturating_sub(counter(first)),
            _ => 0,
        }
    }

    /// The observations of the whole window.
    pub(super) fn observed(
        &self,
        histogram: impl Fn(&Sample) -> HistogramBuckets,
    ) -> HistogramBuckets {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) => histogram(last).since(&histogram(first)),
            _ => HistogramBuckets::default(),
        }
    }

    /// The increase of a counter per second, over the last ten seconds.
    pub(super) fn rate(&self, counter: impl Fn(&Sample) -> u64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.rate_between(last.saturating_sub(NOW), last, &counter)
    }

    /// The same for each step, the oldest first.
    pub(super) fn rates(&self, counter: impl Fn(&Sample) -> u64) -> Vec<f64> {
        (1..self.0.len())
            .map(|step| self.rate_between(step - 1, step, &counter))
            .collect()
    }

    /// A quantile for each step, over the ten seconds that end with it. `None` if nothing was
    /// observed.
    pub(super) fn quantiles(
        &self,
        q: f64,
        histogram: impl Fn(&Sample) -> HistogramBuckets,
    ) -> Vec<Option<f64>> {
        let of = |step: usize| {
            let from = histogram(&self.0[step.saturating_sub(NOW)]);
            histogram(&self.0[step]).since(&from).quantile(q)
        };
        (1..self.0.len()).map(of).collect()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of calls are far below 2^52"
    )]
    fn rate_between(&self, from: usize, to: usize, counter: impl Fn(&Sample) -> u64) -> f64 {
        let seconds = self.between(from, to).as_secs_f64();
        if seconds <= 0.0 {
            return 0.0;
        }
        counter(&self.0[to]).saturating_sub(counter(&self.0[from])) as f64 / seconds
    }

    fn between(&self, from: usize, to: usize) -> Duration {
        match (self.0.get(from), self.0.get(to)) {
            (Some(from), Some(to)) => to.at.saturating_duration_since(from.at),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CacheLabels;

    fn hits(sample: &Sample) -> u64 {
        sample.tiers[0][0]
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_those_of_their_time_and_the_ring_is_bounded() {
        let metrics = Arc::new(Metrics::default());
        let history = History::new(Arc::clone(&metrics));
        assert_eq!(
            (history.window().rate(hits), history.window().length()),
            (0.0, Duration::ZERO)
        );
        let labels = CacheLabels {
            tier: "memory",
            result: "hit",
        };
        for step in 0..2 * STEPS as u64 {
            metrics
                .cache_requests
                .get_or_create(&labels)
                .inc_by(if step < 290 { 2 } else { 20 });
            clock::sleep(STEP).await;
            history.sample();
        }
        let window = history.window();
        assert_eq!(window.length(), Duration::from_secs(300));
        assert_eq!(window.rates(hits).len(), STEPS);
        assert_eq!(
            (
                window.rates(hits)[0],
                window.rates(hits)[149],
                window.rate(hits)
            ),
            (1.0, 10.0, 10.0)
        );
        assert_eq!(window.rise(hits), 140 * 2 + 10 * 20);
        assert_eq!(window.last().map(hits), Some(290 * 2 + 10 * 20));
    }
}
