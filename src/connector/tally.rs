//! Counts, measures and traces each call to a CRM.

use std::sync::Arc;

use http::StatusCode;

use crate::clock::Stopwatch;
use crate::metrics::{CrmLabels, Durations, Metrics, PlatformLabels, SearchLabels};
use crate::trace::Span;

/// The metrics of one connector.
pub(super) struct CallMetrics {
    metrics: Arc<Metrics>,
    platform: String,
    duration: Durations,
}

impl CallMetrics {
    /// The metrics of the connector called `platform`.
    pub(crate) fn new(metrics: &Arc<Metrics>, platform: &str) -> Self {
        let labels = PlatformLabels {
            platform: platform.to_owned(),
        };
        let duration = metrics.crm_request_duration.get_or_create(&labels).clone();
        Self {
            metrics: Arc::clone(metrics),
            platform: platform.to_owned(),
            duration,
        }
    }

    /// The search of this number, from 1, found contacts.
    pub(super) fn found_by(&self, search: usize) {
        let labels = SearchLabels {
            platform: self.platform.clone(),
            search: match search {
                1 => "1",
                2 => "2",
                3 => "3",
                _ => "4+",
            },
        };
        self.metrics.found_by_search.get_or_create(&labels).inc();
    }

    fn count(&self, status: &'static str) {
        let labels = CrmLabels {
            platform: self.platform.clone(),
            status,
        };
        self.metrics.crm_requests.get_or_create(&labels).inc();
    }
}

/// Counts and measures one call when it ends, even if it is given up. The label is the status of
/// the reply, or an error.
pub(super) struct CallTally<'a> {
    counts: &'a CallMetrics,
    pub(crate) span: Span,
    began: Stopwatch,
    status: &'static str,
    /// Bytes of the reply's body that were read.
    pub(super) bytes: usize,
}

impl<'a> CallTally<'a> {
    /// A call begins, traced as this step.
    pub(crate) fn begin(counts: &'a CallMetrics, span: Span) -> Self {
        span.set("platform", counts.platform.clone());
        Self {
            counts,
            span,
            began: Stopwatch::start(),
            status: "error",
            bytes: 0,
        }
    }

    /// The reply has this status.
    pub(crate) fn replied(&mut self, status: StatusCode) {
        self.status = class(status);
    }
}

impl Drop for CallTally<'_> {
    fn drop(&mut self) {
        self.counts.count(self.status);
        self.counts.duration.observe(self.began.elapsed());
        self.span.set("status", self.status);
        self.span.end();
    }
}

/// The label of a status.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
