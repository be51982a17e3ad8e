//! Assembles the status from the history of the counters and the other sources.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{HistoryWindow, RESULTS, SOURCES, STEP, Sample, TIERS};
use super::view::{
    ConnectorView, JobView, LiveView, LookupsView, PrefetchView, QuotaView, SourceView, StatusView,
    TierView,
};
use crate::metrics::HistogramBuckets;

/// The most batches that are listed. Only the number of further ones is shown.
const MOST_JOBS: usize = 50;

/// What the metrics do not contain of this process.
#[derive(Debug)]
pub(super) struct ProcessView {
    pub(crate) ready: bool,
    pub(crate) uptime: Duration,
    /// Entries and bytes.
    pub(crate) memory: (u64, u64),
    /// The oldest first.
    pub(crate) jobs: Vec<JobView>,
}

impl StatusView {
    pub(super) fn new(window: &HistoryWindow, live: LiveView, process: ProcessView) -> Self {
        let ProcessView {
            ready,
            uptime,
            memory,
            mut jobs,
        } = process;
        let running = jobs.len();
        jobs.truncate(MOST_JOBS);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: crate::metrics::revision(),
            state: if ready { "ready" } else { "stopping" },
            uptime_seconds: uptime.as_secs(),
            memory_ceiling_bytes: live.memory_ceiling,
            replicas: live.replicas,
            window_seconds: tenths(window.length().as_secs_f64()),
            step_seconds: STEP.as_secs_f64(),
            lookups: LookupsView::new(window),
            connectors: live
                .connectors
                .into_iter()
                .map(|quota| ConnectorView::new(window, quota))
                .collect(),
            tiers: tiers(window, memory, live.memory_limit, live.redis.is_some()),
            redis: live.redis,
            prefetch: PrefetchView {
                running,
                jobs,
                numbers_in_window: rises(window, |sample| &sample.prefetch),
            },
        }
    }
}

impl LookupsView {
    fn new(window: &HistoryWindow) -> Self {
        let all = |sample: &Sample| {
            let mut all = HistogramBuckets::default();
            sample.lookups.iter().for_each(|source| all.add(source));
            all
        };
        let observed = window.observed(all);
        Self {
            per_second: rounded(window.rate(|sample| all(sample).count())),
            in_window: observed.count(),
            shared_in_window: window.rise(|sample| sample.shared),
            p50_seconds: micros(observed.quantile(0.5)),
            p99_seconds: micros(observed.quantile(0.99)),
            sources: SOURCES
                .iter()
                .enumerate()
                .map(|(n, source)| SourceView::new(window, source, n))
                .collect(),
            outcomes_in_window: rises(window, |sample| &sample.outcomes),
            without_source_in_window: rises(window, |sample| &sample.without_source),
        }
    }
}

impl SourceView {
    fn new(window: &HistoryWindow, source: &'static str, n: usize) -> Self {
        let count = |sample: &Sample| sample.lookups[n].count();
        let observed = window.observed(|sample| sample.lookups[n]);
        Self {
            name: source,
            per_second: rounded(window.rate(count)),
            in_window: observed.count(),
            p50_seconds: micros(observed.quantile(0.5)),
            p99_seconds: micros(observed.quantile(0.99)),
            history: rounded_all(window.rates(count)),
            p99_history: window
                .quantiles(0.99, |sample| sample.lookups[n])
                .into_iter()
                .map(micros)
                .collect(),
        }
    }
}

impl ConnectorView {
    fn new(window: &HistoryWindow, quota: QuotaView) -> Self {
        let crm = |sample: &Sample| sample.crm.get(&quota.name).copied().unwrap_or_default();
        let calls = |sample: &Sample| crm(sample).calls;
        let observed = window.observed(|sample| crm(sample).duration);
        let calls_per_second = window.rate(calls);
        let may_spend = quota.per_second();
        Self {
            calls_per_second: rounded(calls_per_second),
            spent: (may_spend > 0.0).then(|| rounded(calls_per_second / may_spend)),
            calls_in_window: window.rise(calls),
            failed_in_window: window.rise(|sample| crm(sample).failed),
            p50_seconds: micros(observed.quantile(0.5)),
            p99_seconds: micros(observed.quantile(0.99)),
            history: rounded_all(window.rates(calls)),
            quota,
        }
    }
}

impl QuotaView {
    /// Calls per second that the scopes in use may make together.
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 users")]
    fn per_second(&self) -> f64 {
        let kinds = self.apart.iter();
        let apart: f64 = kinds
            .map(|kind| f64::from(kind.rate) / kind.per_seconds)
            .sum();
        // If each kind has its own quota, there are no other calls.
        let all_others = if self.apart.len() == 2 {
            0.0
        } else {
            f64::from(self.rate) / self.per_seconds
        };
        (all_others + apart) * self.scopes as f64
    }
}

fn tiers(
    window: &HistoryWindow,
    (entries, bytes): (u64, u64),
    limit: u64,
    redis: bool,
) -> Vec<TierView> {
    let memory = TierView {
        entries: Some(entries),
        bytes: Some(bytes),
        limit_bytes: Some(limit),
        ..TierView::new(window, 0)
    };
    let redis = redis.then(|| TierView::new(window, 1));
    [memory].into_iter().chain(redis).collect()
}

impl TierView {
    /// The tier at this position in [`TIERS`], without its size.
    fn new(window: &HistoryWindow, n: usize) -> Self {
        let rise = |(at, result)| (result, window.rise(|sample| sample.tiers[n][at]));
        let per_second = |counter: fn(&[u64; RESULTS.len()]) -> u64| {
            rounded_all(window.rates(|sample| counter(&sample.tiers[n])))
        };
        Self {
            name: TIERS[n],
            entries: None,
            bytes: None,
            limit_bytes: None,
            per_second: rounded(window.rate(|sample| sample.tiers[n].iter().sum())),
            results_in_window: RESULTS.into_iter().enumerate().map(rise).collect(),
            history: per_second(|[hit, stale, ..]| hit + stale),
            error_history: per_second(|[.., error]| *error),
        }
    }
}

/// The increase of each counter of a family. Counters without an increase are left out.
fn rises(
    window: &HistoryWindow,
    family: impl Fn(&Sample) -> &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let names = window
        .last()
        .map(|last| family(last).keys().cloned().collect::<Vec<_>>())
        .unwrap_or_default();
    let rise = |name: String| {
        let rise = window.rise(|sample| family(sample).get(&name).copied().unwrap_or(0));
        (name, rise)
    };
    names
        .into_iter()
        .map(rise)
        .filter(|(_, rise)| *rise > 0)
        .collect()
}

/// Rounded to a thousandth, because more digits mean nothing.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn rounded_all(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(rounded).collect()
}

/// Seconds, rounded to a millionth.
fn micros(seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| (seconds * 1e6).round() / 1e6)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
