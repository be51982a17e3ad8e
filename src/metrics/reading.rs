//! Figures read from the metric families, for the status page.
//!
//! prometheus-client gives the values of a histogram or a family only to its text encoder. So the
//! text for Prometheus is parsed again. Everything that is exported can be shown, and counting does
//! not become slower.

use std::collections::BTreeMap;

use super::SECONDS;

/// Buckets of a histogram, including the one without an upper bound.
pub(super) const BUCKETS: usize = 17;

/// Observations of one or several histograms, by bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HistogramBuckets([u64; BUCKETS]);

impl HistogramBuckets {
    /// How many there are.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The observations after `earlier`.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut later = *self;
        for (count, before) in later.0.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(before);
        }
        later
    }

    /// Adds the observations of `others`.
    pub(crate) fn add(&mut self, others: &Self) {
        for (count, other) in self.0.iter_mut().zip(others.0) {
            *count += other;
        }
    }

    /// The quantile `q` in seconds, interpolated within its bucket as in PromQL's
    /// `histogram_quantile`. If the quantile lies beyond the highest bound, that bound is returned.
    /// `None` if there are no observations.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of calls are far below 2^52"
    )]
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count() as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (count, upper) in self.0.iter().zip(SECONDS) {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / count));
            }
            (below, lower) = (below + count, upper);
        }
        (self.count() > 0).then_some(lower)
    }
}

/// One exported line.
#[derive(Debug)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Series {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(label, _)| label == name)
            .map(|(_, value)| value.as_str())
    }

    fn matches(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let mut labels = labels.iter();
        self.name == name && labels.all(|(label, value)| self.label(label) == Some(value))
    }
}

/// All figures of one moment.
#[derive(Debug)]
pub(crate) struct MetricsReading(Vec<Series>);

impl MetricsReading {
    pub(super) fn parse(page: &str) -> Self {
        Self(
            page.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(series)
                .collect(),
        )
    }

    /// The sum of all series of a counter, by its exported name, with these labels.
    #[must_use]
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let series = self.0.iter();
        let matching = series.filter(|series| series.matches(name, labels));
        whole(matching.map(|series| series.value).sum())
    }

    /// The sums of a counter for each value of one label.
    #[must_use]
    pub(crate) fn counts_by(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        self.counts_among(name, &[], label)
    }

    /// The same of the series with these labels.
    #[must_use]
    pub(crate) fn counts_among(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        label: &str,
    ) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for series in self.0.iter().filter(|series| series.matches(name, labels)) {
            if let Some(value) = series.label(label) {
                *counts.entry(value.to_owned()).or_default() += whole(series.value);
            }
        }
        counts
    }

    /// The observations of all series of a histogram, by its exported name, with these labels.
    #[must_use]
    pub(crate) fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> HistogramBuckets {
        let (name, mut buckets) = (format!("{name}_bucket"), HistogramBuckets::default());
        // The lines of one series are consecutive, and each bucket includes all below it.
        let mut below = 0;
        for series in self.0.iter().filter(|series| series.matches(&name, labels)) {
            let bound = series
                .label("le")
                .and_then(|bound| bound.parse::<f64>().ok())
                .unwrap_or(f64::INFINITY);
            let bucket = SECONDS
                .iter()
                .position(|seconds| *seconds >= bound)
                .unwrap_or(SECONDS.len());
            let so_far = whole(series.value);
            buckets.0[bucket] += so_far.saturating_sub(if bucket == 0 { 0 } else { below });
            below = so_far;
        }
        buckets
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole and not negative"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

/// Reads `name{label="value",…} value`.
fn series(line: &str) -> Option<Series> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while let Some((label, quoted)) = rest.split_once("=\"") {
            let (value, after) = unquote(quoted)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
            if rest.starts_with('}') {
                break;
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Series {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let (mut text, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => text.push('\n'),
                other => text.push(other),
            },
            _ => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::metrics::{CacheLabels, Metrics, SourceLabels};

    const NAME: &str = "contactd_lookup_duration_seconds";

    fn took(metrics: &Metrics, platform: &str, source: &'static str, micros: u64) {
        let labels = SourceLabels {
            platform: platform.to_owned(),
            source,
        };
        let durations = metrics.lookup_duration.get_or_create(&labels);
        durations.observe(Duration::from_micros(micros));
    }

    #[test]
    fn what_was_counted_is_read_back_whatever_a_platform_is_called() {
        let (metrics, odd) = (Metrics::default(), "a \"b\"\\c,d=\"e\"} {f");
        for (platform, source, micros) in [
            (odd, "memory", 50),
            (odd, "memory", 60),
            ("other", "memory", 300),
            (odd, "crm", 80_000_000),
        ] {
            took(&metrics, platform, source, micros);
        }
        metrics
            .cache_requests
            .get_or_create(&CacheLabels {
                tier: "memory",
                result: "hit",
            })
            .inc_by(7);
        metrics
            .cache_requests
            .get_or_create(&CacheLabels {
                tier: "redis",
                result: "hit",
            })
            .inc_by(2);

        let reading = metrics.read();
        assert_eq!(reading.count("contactd_cache_requests_total", &[]), 9);
        assert_eq!(
            reading.count("contactd_cache_requests_total", &[("tier", "redis")]),
            2
        );
        let by_tier = reading.counts_by("contactd_cache_requests_total", "tier");
        assert_eq!(
            by_tier.into_iter().collect::<Vec<_>>(),
            [("memory".to_owned(), 7), ("redis".to_owned(), 2)]
        );
        assert_eq!(reading.histogram(NAME, &[("platform", odd)]).count(), 3);
        let memory = reading.histogram(NAME, &[("source", "memory")]);
        assert_eq!((memory.0[0], memory.0[2], memory.count()), (2, 1, 3));
        let crm = reading.histogram(NAME, &[("source", "crm")]);
        assert_eq!(
            (crm.count(), crm.quantile(0.5)),
            (1, Some(10.0)),
            "beyond the highest bound"
        );
        assert_eq!(
            reading
                .histogram(NAME, &[("source", "redis")])
                .quantile(0.5),
            None
        );
    }

    #[test]
    fn quantiles_are_those_of_the_time_between() {
        let metrics = Metrics::default();
        for _ in 0..100 {
            took(&metrics, "a", "memory", 50);
        }
        let before = metrics.read().histogram(NAME, &[]);
        for micros in [700; 98].into_iter().chain([400_000; 2]) {
            took(&metrics, "a", "memory", micros);
        }
        let between = metrics.read().histogram(NAME, &[]).since(&before);
        assert_eq!(between.count(), 100);
        let median = between.quantile(0.5).unwrap();
        assert!((0.0005..=0.001).contains(&median), "{median}");
        let p99 = between.quantile(0.99).unwrap();
        assert!((0.25..=0.5).contains(&p99), "{p99}");
    }
}
