//! One platform's desk: what its replies are made of and where they are counted, so that a hit
//! looks nothing up.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::codec::Reply;
use super::convert::Ask;
use super::messages::{Messages, Quality, unusable};
use crate::clock::Stopwatch;
use crate::connector::Platform;
use crate::domain::{Extension, Freshness, LookupError, MatchQuality};
use crate::metrics::{
    LookupLabels, Metrics, PlatformLabels, QualityLabels, RefusalLabels, SourceLabels, observe,
};
use crate::pb::v1 as pb;
use crate::resolver::{Answer, Source, Trigger};

/// The label for a request that names no platform of ours, or was not read.
pub(super) const NO_PLATFORM: &str = "unknown";

const TRIGGERS: [Trigger; 3] = [
    Trigger::IncomingCall,
    Trigger::ManualRefresh,
    Trigger::InitialMatch,
];

#[derive(Debug)]
pub(super) struct PlatformReplies {
    platform: String,
    messages: Messages,
    /// By trigger, then by outcome: not found, found.
    memory_hits: [[Counter; 2]; 3],
    memory_duration: Histogram,
    /// By best quality, in the order of [`MatchQuality::ALL`].
    qualities: [Counter; 3],
}

impl PlatformReplies {
    pub(super) fn new(platform: &Platform, metrics: &Metrics) -> Self {
        let name = platform.name();
        // Series that nothing has touched yet should read 0, not be missing.
        drop(metrics.lookups_shared.get_or_create(&PlatformLabels {
            platform: name.to_owned(),
        }));
        drop(metrics.prefetch_jobs.get_or_create(&PlatformLabels {
            platform: name.to_owned(),
        }));
        let counter = |trigger: Trigger, outcome| {
            metrics
                .lookups
                .get_or_create(&lookup_labels(name, trigger, "memory", outcome))
                .clone()
        };
        let quality = |quality: MatchQuality| {
            let labels = QualityLabels {
                platform: name.to_owned(),
                quality: quality.label(),
            };
            metrics.answers_by_quality.get_or_create(&labels).clone()
        };
        let labels = SourceLabels {
            platform: name.to_owned(),
            source: "memory",
        };
        Self {
            platform: name.to_owned(),
            messages: Messages::new(name, platform.create_option()),
            memory_hits: TRIGGERS
                .map(|trigger| [counter(trigger, "not_found"), counter(trigger, "found")]),
            qualities: MatchQuality::ALL.map(quality),
            memory_duration: metrics.lookup_duration.get_or_create(&labels).clone(),
        }
    }

    pub(super) fn count(
        &self,
        metrics: &Metrics,
        trigger: Trigger,
        answer: &Answer,
        stopwatch: Stopwatch,
    ) {
        let found = answer.entry.count() > 0;
        if let Some(best) = answer.entry.quality() {
            self.qualities[best as usize].inc();
        }
        if answer.source == Source::Memory {
            self.memory_hits[trigger as usize][usize::from(found)].inc();
            observe(&self.memory_duration, stopwatch.elapsed());
            return;
        }
        let (source, outcome) = (
            answer.source.label(),
            if found { "found" } else { "not_found" },
        );
        count_as(
            metrics,
            &lookup_labels(&self.platform, trigger, source, outcome),
            stopwatch,
        );
    }

    /// The reply to somebody who asked for this extension of the number, if for any.
    pub(super) fn reply(&self, answer: &Answer, asked: Option<Extension>) -> Reply {
        let quality = match (answer.entry.is_complete(), answer.freshness) {
            (false, _) => Quality::Partial,
            (true, Freshness::Fresh) => Quality::Good,
            (true, _) => Quality::Stale,
        };
        let freshness = if answer.freshness == Freshness::Fresh {
            pb::Freshness::Fresh
        } else {
            pb::Freshness::Stale
        };
        let source = match answer.source {
            Source::Memory => pb::Source::Memory,
            Source::Redis => pb::Source::Redis,
            Source::Crm => pb::Source::Crm,
        };
        Reply {
            stored: answer.entry.encoded_for(asked),
            create_option: self.messages.create_option(),
            message: self
                .messages
                .found(&self.platform, answer.entry.count(), quality),
            // The number and `complete` are in the stored part.
            lookup: pb::Lookup {
                source: source.into(),
                freshness: freshness.into(),
                age: prost_types::Duration::try_from(answer.age).ok(),
                shared: answer.shared,
                crm_requests: answer.crm_requests,
                ..Default::default()
            },
        }
    }

    /// The reply where there is nobody to look up: no contact, and nothing to create one from.
    pub(super) fn nobody(&self, ask: &Ask) -> Reply {
        let message = match ask {
            Ask::Withheld => self.messages.withheld(),
            Ask::ShortCode => self.messages.short_code(),
            Ask::Unusable(why) => unusable(&why.to_string()),
            Ask::NoExtensions | Ask::Find(_) => self.messages.no_extensions(),
        };
        let lookup = pb::Lookup {
            complete: true,
            ..Default::default()
        };
        Reply {
            message,
            lookup,
            ..Default::default()
        }
    }
}

/// Counts a call that was let in and found no place with its user or its CRM.
pub(super) fn count_refused(metrics: &Metrics, error: &LookupError) {
    if *error == LookupError::Overloaded {
        metrics
            .calls_refused
            .get_or_create(&RefusalLabels {
                reason: "overloaded",
            })
            .inc();
    }
}

/// Counts a look-up that no tier and no CRM answered.
pub(super) fn count_other(
    metrics: &Metrics,
    platform: &str,
    trigger: Trigger,
    outcome: &str,
    stopwatch: Stopwatch,
) {
    count_as(
        metrics,
        &lookup_labels(platform, trigger, "none", outcome),
        stopwatch,
    );
}

fn count_as(metrics: &Metrics, labels: &LookupLabels, stopwatch: Stopwatch) {
    metrics.lookups.get_or_create(labels).inc();
    let duration = SourceLabels {
        platform: labels.platform.clone(),
        source: labels.source,
    };
    observe(
        &metrics.lookup_duration.get_or_create(&duration),
        stopwatch.elapsed(),
    );
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
