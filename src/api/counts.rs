//! Counts each look-up once, however it ends.

use super::error::ApiError;
use crate::clock::Stopwatch;
use crate::domain::MatchQuality;
use crate::metrics::{
    Count, Durations, LookupLabels, Metrics, PlatformLabels, QualityLabels, RefusalLabels,
    SourceLabels,
};
use crate::resolver::{Answer, Source, Trigger};
use crate::trace::Span;

/// The platform label if the request was not read or names no configured platform.
const NO_PLATFORM: &str = "unknown";

/// The source label of look-ups that neither a tier nor the CRM answered.
const NO_SOURCE: &str = "none";

/// The outcome of a look-up that its client cancelled.
const CANCELLED: &str = "cancelled";

/// The outcome of a look-up that an internal fault ended.
const INTERNAL: &str = "internal";

const TRIGGERS: [Trigger; 3] = [
    Trigger::IncomingCall,
    Trigger::ManualRefresh,
    Trigger::InitialMatch,
];

/// The counters of one platform that a hit increments, looked up at start.
#[derive(Debug)]
pub(super) struct PlatformCounters {
    platform: String,
    /// By trigger, then by outcome: not found, found.
    memory_hits: [[Count; 2]; 3],
    memory_duration: Durations,
    /// By best quality, in the order of [`MatchQuality::ALL`].
    qualities: [Count; 3],
}

impl PlatformCounters {
    /// Creates every series, so that those not incremented yet read 0 and are not missing.
    pub(super) fn new(platform: &str, metrics: &Metrics) -> Self {
        let labels = PlatformLabels {
            platform: platform.to_owned(),
        };
        drop(metrics.lookups_shared.get_or_create(&labels));
        drop(metrics.prefetch_jobs.get_or_create(&labels));
        let hits = |trigger, outcome| {
            let labels = lookup_labels(platform, trigger, "memory", outcome);
            metrics.lookups.get_or_create(&labels).clone()
        };
        let duration = SourceLabels {
            platform: platform.to_owned(),
            source: "memory",
        };
        Self {
            platform: platform.to_owned(),
            memory_hits: TRIGGERS
                .map(|trigger| [hits(trigger, "not_found"), hits(trigger, "found")]),
            memory_duration: metrics.lookup_duration.get_or_create(&duration).clone(),
            qualities: MatchQuality::ALL.map(|quality| quality_counter(platform, quality, metrics)),
        }
    }

    fn count_hit(&self, trigger: Trigger, found: bool, stopwatch: Stopwatch) {
        self.memory_hits[trigger as usize][usize::from(found)].inc();
        self.memory_duration.observe(stopwatch.elapsed());
    }
}

fn quality_counter(platform: &str, quality: MatchQuality, metrics: &Metrics) -> Count {
    let labels = QualityLabels {
        platform: platform.to_owned(),
        quality: quality.label(),
    };
    metrics.answers_by_quality.get_or_create(&labels).clone()
}

/// One look-up: counted, and described on its span, when it ends. If it is dropped before that, its
/// client has cancelled it.
pub(super) struct LookupTally<'a> {
    metrics: &'a Metrics,
    trigger: Trigger,
    span: Span,
    stopwatch: Stopwatch,
    platform: Option<&'a PlatformCounters>,
    is_counted: bool,
}

impl<'a> LookupTally<'a> {
    /// Starts a tally whose platform is not known yet.
    pub(super) fn start(metrics: &'a Metrics, trigger: Trigger, span: Span) -> Self {
        Self {
            metrics,
            trigger,
            span,
            stopwatch: Stopwatch::start(),
            platform: None,
            is_counted: false,
        }
    }

    pub(super) fn set_platform(&mut self, platform: &'a PlatformCounters) {
        self.platform = Some(platform);
    }

    pub(super) fn answered(&mut self, answer: &Answer) {
        let is_found = answer.entry.count() > 0;
        let (source, outcome) = (
            answer.source.label(),
            if is_found { "found" } else { "not_found" },
        );
        if let (Some(platform), Some(best)) = (self.platform, answer.entry.quality()) {
            platform.qualities[best as usize].inc();
        }
        match self.platform {
            Some(platform) if answer.source == Source::Memory => {
                self.describe(source, outcome);
                platform.count_hit(self.trigger, is_found, self.stopwatch);
            }
            _ => self.count(source, outcome),
        }
    }

    /// The request was answered without a look-up.
    pub(super) fn nobody(&mut self) {
        self.count(NO_SOURCE, "not_found");
    }

    /// The look-up failed or was refused.
    pub(super) fn failed(&mut self, error: &ApiError) {
        count_refusal(self.metrics, error);
        self.count(NO_SOURCE, &error.reason().to_ascii_lowercase());
    }

    fn count(&mut self, source: &'static str, outcome: &str) {
        self.describe(source, outcome);
        let platform = self.platform();
        let labels = lookup_labels(platform, self.trigger, source, outcome);
        self.metrics.lookups.get_or_create(&labels).inc();
        let duration = SourceLabels {
            platform: platform.to_owned(),
            source,
        };
        let durations = self.metrics.lookup_duration.get_or_create(&duration);
        durations.observe(self.stopwatch.elapsed());
    }

    /// Records on the span what the metrics count.
    fn describe(&mut self, source: &'static str, outcome: &str) {
        self.is_counted = true;
        if self.span.is_traced() {
            self.span.set("platform", self.platform().to_owned());
            self.span.set("trigger", self.trigger.label());
            self.span.set("source", source);
            self.span.set("outcome", outcome.to_owned());
        }
        self.span.end();
    }

    fn platform(&self) -> &'a str {
        self.platform
            .map_or(NO_PLATFORM, |counters| &counters.platform)
    }
}

impl Drop for LookupTally<'_> {
    fn drop(&mut self) {
        if !self.is_counted {
            let broke = std::thread::panicking();
            self.count(NO_SOURCE, if broke { INTERNAL } else { CANCELLED });
        }
    }
}

/// Counts a request that was refused without a look-up. Other failures are not counted here.
pub(super) fn count_refusal(metrics: &Metrics, error: &ApiError) {
    if let Some(reason) = error.refusal() {
        let labels = RefusalLabels { reason };
        metrics.calls_refused.get_or_create(&labels).inc();
    }
}

/// Counts a look-up that was refused before it was read: its trigger and platform are unknown.
pub(super) fn count_unread_lookup(metrics: &Metrics, error: &ApiError) {
    LookupTally::start(metrics, Trigger::IncomingCall, Span::default()).failed(error);
}

fn lookup_labels(
    platform: &str,
    trigger: Trigger,
    source: &'static str,
    outcome: &str,
) -> LookupLabels {
    LookupLabels {
        platform: platform.to_owned(),
        trigger: trigger.label(),
        source,
        outcome: outcome.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LookupError;

    fn outcomes(metrics: &Metrics) -> Vec<(String, u64)> {
        metrics
            .read()
            .counts_by("contactd_lookups_total", "outcome")
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn start(metrics: &Metrics) -> LookupTally<'_> {
        LookupTally::start(metrics, Trigger::IncomingCall, Span::default())
    }

    #[test]
    fn a_look_up_is_counted_once_whatever_becomes_of_it() {
        let metrics = Metrics::default();
        drop(start(&metrics));
        start(&metrics).nobody();
        let error = LookupError::Overloaded;
        start(&metrics).failed(&ApiError::LookupFailed {
            error,
            platform: "example".to_owned(),
        });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _tally = start(&metrics);
            panic!("as the test says");
        }));
        assert!(caught.is_err());
        let one_each = ["cancelled", "internal", "not_found", "overloaded"];
        assert_eq!(
            outcomes(&metrics),
            one_each.map(|outcome| (outcome.to_owned(), 1))
        );
        let refused = metrics.read().count("contactd_calls_refused_total", &[]);
        assert_eq!(refused, 1, "only what was refused is a refusal");
    }
}
