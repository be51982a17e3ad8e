//! The progress of a batch as events, with running totals.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::error::ApiError;
use super::parse::ParsedBatch;
use crate::domain::{LookupError, Party};
use crate::metrics::{Metrics, PrefetchLabels};
use crate::pb::v1 as pb;
use crate::pb::v1::prefetch_contacts_response::Event;
use crate::resolver::{CutShort, PrefetchEvent, PrefetchEvents};

/// Turns what happens in a job into the events of the contract.
pub(super) struct ProgressStream {
    platform: String,
    metrics: Arc<Metrics>,
    requested: u32,
    total: u32,
    done: u32,
    sums: pb::PrefetchFinished,
    /// Texts that are no number, with the reason, until they are reported.
    invalid: Vec<(String, String)>,
    pending: VecDeque<Result<Event, ApiError>>,
    /// `None` after the last event.
    job: Option<PrefetchEvents>,
}

impl ProgressStream {
    /// The progress of `job`, which looks up the valid part of `parsed`.
    pub(super) fn new(
        platform: String,
        metrics: Arc<Metrics>,
        parsed: ParsedBatch,
        job: Option<PrefetchEvents>,
    ) -> Self {
        let mut stream = Self {
            platform,
            metrics,
            requested: count(parsed.requested),
            total: count(parsed.distinct),
            done: 0,
            sums: pb::PrefetchFinished::default(),
            invalid: parsed.invalid,
            pending: VecDeque::new(),
            job,
        };
        if stream.job.is_none() {
            stream.start(0);
            stream.pending.push_back(Ok(Event::Finished(stream.sums)));
        }
        stream
    }

    /// Queues the first event, and those that need no job.
    fn start(&mut self, already_cached: usize) {
        let started = pb::PrefetchStarted {
            requested: self.requested,
            distinct: self.total,
            already_cached: count(already_cached),
        };
        self.pending.push_back(Ok(Event::Started(started)));
        for (text, wrong) in std::mem::take(&mut self.invalid) {
            self.settle(text, pb::PrefetchOutcome::InvalidNumber, 0, wrong);
        }
    }

    /// The next event; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Result<Event, ApiError>> {
        if let Some(event) = self.pending.pop_front() {
            return Some(event);
        }
        match self.job.as_mut()?.recv().await {
            Some(progress) => self.apply(progress),
            // A job ends with its last event. Without one it broke off.
            None => self.fail(LookupError::Internal),
        }
        self.pending.pop_front()
    }

    fn apply(&mut self, progress: PrefetchEvent) {
        match progress {
            PrefetchEvent::Started { already_cached } => self.start(already_cached),
            PrefetchEvent::Cached(party, found) => self.settle(
                party.to_string(),
                pb::PrefetchOutcome::AlreadyCached,
                found,
                String::new(),
            ),
            PrefetchEvent::Loaded(party, loaded) => self.loaded(party, loaded),
            PrefetchEvent::Ended {
                crm_requests,
                elapsed,
                cut_short,
            } => self.ended(crm_requests, elapsed, cut_short),
        }
    }

    fn loaded(&mut self, party: Party, loaded: Result<u32, LookupError>) {
        let (outcome, found, reason) = match loaded {
            Ok(0) => (pb::PrefetchOutcome::NotFound, 0, String::new()),
            Ok(found) => (pb::PrefetchOutcome::Found, found, String::new()),
            Err(error) => (pb::PrefetchOutcome::Failed, 0, error.reason().to_owned()),
        };
        self.settle(party.to_string(), outcome, found, reason);
    }

    fn ended(&mut self, crm_requests: u32, elapsed: Duration, cut_short: Option<CutShort>) {
        self.sums.crm_requests = crm_requests;
        self.sums.elapsed = prost_types::Duration::try_from(elapsed).ok();
        let finished = Ok(Event::Finished(self.sums));
        match cut_short {
            Some(CutShort::Doomed(error)) => return self.fail(error),
            None => self.pending.push_back(finished),
            Some(CutShort::Stopping) => {
                self.pending.extend([finished, Err(ApiError::Stopping)]);
            }
        }
        self.job = None;
    }

    fn fail(&mut self, error: LookupError) {
        let platform = self.platform.clone();
        let failed = ApiError::LookupFailed { error, platform };
        self.pending.push_back(Err(failed));
        self.job = None;
    }

    /// Counts one more finished number.
    fn settle(
        &mut self,
        phone_number: String,
        outcome: pb::PrefetchOutcome,
        match_count: u32,
        reason: String,
    ) {
        self.count(outcome);
        let result = pb::PrefetchResult {
            phone_number,
            outcome: outcome.into(),
            match_count,
            reason,
            done: self.done,
            total: self.total,
        };
        self.pending.push_back(Ok(Event::Result(result)));
    }

    fn count(&mut self, outcome: pb::PrefetchOutcome) {
        let sums = &mut self.sums;
        let (label, sum) = match outcome {
            pb::PrefetchOutcome::Found => ("found", &mut sums.found),
            pb::PrefetchOutcome::NotFound => ("not_found", &mut sums.not_found),
            pb::PrefetchOutcome::AlreadyCached => ("already_cached", &mut sums.already_cached),
            pb::PrefetchOutcome::InvalidNumber => ("invalid_number", &mut sums.invalid),
            pb::PrefetchOutcome::Failed | pb::PrefetchOutcome::Unspecified => {
                ("failed", &mut sums.failed)
            }
        };
        *sum += 1;
        self.done += 1;
        let labels = PrefetchLabels {
            platform: self.platform.clone(),
            outcome: label,
        };
        self.metrics.prefetch_numbers.get_or_create(&labels).inc();
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_job_that_breaks_off_ends_the_stream_with_one_failure() {
        let parsed = ParsedBatch {
            requested: 3,
            distinct: 2,
            batch: None,
            invalid: Vec::new(),
        };
        let (events, job) = mpsc::channel(1);
        events
            .send(PrefetchEvent::Started { already_cached: 1 })
            .await
            .unwrap();
        let mut stream =
            ProgressStream::new("example".to_owned(), Arc::default(), parsed, Some(job));
        let Some(Ok(Event::Started(started))) = stream.next().await else {
            panic!("it starts")
        };
        assert_eq!(
            (started.requested, started.distinct, started.already_cached),
            (3, 2, 1)
        );
        drop(events);
        let broken = stream.next().await.unwrap().unwrap_err();
        assert_eq!(broken.reason(), "INTERNAL");
        assert!(stream.next().await.is_none());
    }
}
