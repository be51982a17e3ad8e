//! `PrefetchContacts`: a job's progress as a stream of events.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use tonic::Status;

use super::convert::Log;
use super::status;
use crate::domain::{LookupError, Party};
use crate::metrics::{Metrics, PrefetchLabels};
use crate::pb::v1 as pb;
use crate::pb::v1::prefetch_contacts_response::Event;
use crate::resolver::{CutShort, Job, Progress, Resolver};

pub(super) type Events = BoxStream<'static, Result<pb::PrefetchContactsResponse, Status>>;

/// Starts the job of `log` and tells what happens, one event at a time: a client that reads slowly slows the job down,
/// one that leaves ends it.
pub(super) async fn events(
    resolver: &Resolver,
    log: Log,
    requested: usize,
    platform: String,
    metrics: Arc<Metrics>,
) -> Events {
    let distinct = log.invalid.len() + log.batch.as_ref().map_or(0, |batch| batch.parties.len());
    let job = match log.batch {
        Some(batch) => Some(resolver.prefetch(batch).await),
        None => None,
    };
    let started = pb::PrefetchStarted {
        requested: count(requested),
        distinct: count(distinct),
        already_cached: count(job.as_ref().map_or(0, |job| job.already_cached)),
    };
    let mut teller = Teller {
        platform,
        metrics,
        total: count(distinct),
        done: 0,
        tally: pb::PrefetchFinished::default(),
        pending: VecDeque::from([Ok(Event::Started(started))]),
        job,
    };
    for (text, wrong) in log.invalid {
        teller.settle(text, pb::PrefetchOutcome::InvalidNumber, 0, wrong);
    }
    if teller.job.is_none() {
        teller.pending.push_back(Ok(Event::Finished(teller.tally)));
    }
    Box::pin(stream::unfold(teller, |mut teller| async move {
        let event = teller.next().await?;
        Some((event.map(|event| pb::PrefetchContactsResponse { event: Some(event) }), teller))
    }))
}

struct Teller {
    platform: String,
    metrics: Arc<Metrics>,
    total: u32,
    done: u32,
    tally: pb::PrefetchFinished,
    pending: VecDeque<Result<Event, Status>>,
    job: Option<Job>,
}

impl Teller {
    async fn next(&mut self) -> Option<Result<Event, Status>> {
        if let Some(event) = self.pending.pop_front() {
            return Some(event);
        }
        match self.job.as_mut()?.progress.recv().await {
            Some(progress) => self.hear(progress),
            // The job ends with its last event; without one it broke off.
            None => self.pending.push_back(Err(status::failed(&LookupError::Internal, &self.platform))),
        }
        self.pending.pop_front()
    }

    fn hear(&mut self, progress: Progress) {
        match progress {
            Progress::Cached(party, found) => {
                self.settle(party.to_string(), pb::PrefetchOutcome::AlreadyCached, found, String::new());
            }
            Progress::Loaded(party, loaded) => self.loaded(party, loaded),
            Progress::Ended { crm_requests, elapsed, cut_short } => {
                self.tally.crm_requests = crm_requests;
                self.tally.elapsed = prost_types::Duration::try_from(elapsed).ok();
                self.pending.extend(match cut_short {
                    None => vec![Ok(Event::Finished(self.tally))],
                    Some(CutShort::Doomed(error)) => vec![Err(status::failed(&error, &self.platform))],
                    Some(CutShort::Stopping) => vec![Ok(Event::Finished(self.tally)), Err(status::stopping())],
                });
                self.job = None;
            }
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

    /// One more number is settled.
    fn settle(&mut self, phone_number: String, outcome: pb::PrefetchOutcome, match_count: u32, reason: String) {
        let tally = &mut self.tally;
        let (label, count) = match outcome {
            pb::PrefetchOutcome::Found => ("found", &mut tally.found),
            pb::PrefetchOutcome::NotFound => ("not_found", &mut tally.not_found),
            pb::PrefetchOutcome::AlreadyCached => ("already_cached", &mut tally.already_cached),
            pb::PrefetchOutcome::InvalidNumber => ("invalid_number", &mut tally.invalid),
            pb::PrefetchOutcome::Failed | pb::PrefetchOutcome::Unspecified => ("failed", &mut tally.failed),
        };
        *count += 1;
        self.done += 1;
        let labels = PrefetchLabels { platform: self.platform.clone(), outcome: label };
        self.metrics.prefetch_numbers.get_or_create(&labels).inc();
        let (done, total) = (self.done, self.total);
        let result = pb::PrefetchResult { phone_number, outcome: outcome.into(), match_count, reason, done, total };
        self.pending.push_back(Ok(Event::Result(result)));
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
