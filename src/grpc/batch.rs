//! `PrefetchContacts`: a job's progress as a stream of events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::admit::JobPlace;
use super::convert::Log;
use super::platform_replies::count_refused;
use super::status;
use crate::clock;
use crate::domain::{LookupError, Party};
use crate::metrics::{Metrics, PrefetchLabels};
use crate::pb::v1 as pb;
use crate::pb::v1::prefetch_contacts_response::Event;
use crate::resolver::{CutShort, Job, Progress, Resolver};

pub(super) type Events = BoxStream<'static, Result<pb::PrefetchContactsResponse, Status>>;

/// Events that wait for a slow client. What else it holds up is with the job, which ends where
/// nothing moves.
const BACKLOG: usize = 16;

/// How long the next event waits to be taken before the batch is given up: a client that stops
/// reading would hold its place for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells what happens, one event at a time: a client that reads slowly slows the job down, one that
/// leaves or stops reading ends it and gives the `place` back.
pub(super) fn told_by(
    mut teller: ProgressStream,
    place: Option<JobPlace>,
    tasks: &TaskTracker,
) -> Events {
    let (tell, told) = mpsc::channel(BACKLOG);
    let (give_up, given_up) = oneshot::channel();
    tasks.spawn(async move {
        let _place = place;
        loop {
            let event = tokio::select! {
                biased;
                () = tell.closed() => return,
                event = teller.next() => event,
            };
            let Some(event) = event else { return };
            let event = event.map(|event| pb::PrefetchContactsResponse { event: Some(event) });
            match clock::timeout(PATIENCE, tell.send(event)).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return,
                None => {
                    // Heard when the client reads on. The rest of the batch is gone by then.
                    let _ = give_up.send(status::read_too_slowly());
                    return;
                }
            }
        }
    });
    let end =
        stream::once(given_up).filter_map(|gave_up| std::future::ready(gave_up.ok().map(Err)));
    Box::pin(ReceiverStream::new(told).chain(end))
}

/// Starts the job of `log`, if there is a place for it.
pub(super) async fn teller(
    resolver: &Resolver,
    log: Log,
    requested: usize,
    platform: String,
    metrics: Arc<Metrics>,
) -> Result<ProgressStream, Status> {
    let distinct = log.invalid.len() + log.batch.as_ref().map_or(0, |batch| batch.parties.len());
    let job = match log.batch {
        Some(batch) => Some(resolver.prefetch(batch).await.map_err(|error| {
            count_refused(&metrics, &error);
            status::failed(&error, &platform)
        })?),
        None => None,
    };
    let started = pb::PrefetchStarted {
        requested: count(requested),
        distinct: count(distinct),
        already_cached: count(job.as_ref().map_or(0, |job| job.already_cached)),
    };
    let mut teller = ProgressStream {
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
    Ok(teller)
}

/// Knows what is to be told next.
pub(super) struct ProgressStream {
    platform: String,
    metrics: Arc<Metrics>,
    total: u32,
    done: u32,
    tally: pb::PrefetchFinished,
    pending: VecDeque<Result<Event, Status>>,
    job: Option<Job>,
}

impl ProgressStream {
    async fn next(&mut self) -> Option<Result<Event, Status>> {
        if let Some(event) = self.pending.pop_front() {
            return Some(event);
        }
        match self.job.as_mut()?.progress.recv().await {
            Some(progress) => self.hear(progress),
            // The job ends with its last event; without one it broke off.
            None => self
                .pending
                .push_back(Err(status::failed(&LookupError::Internal, &self.platform))),
        }
        self.pending.pop_front()
    }

    fn hear(&mut self, progress: Progress) {
        match progress {
            Progress::Cached(party, found) => {
                self.settle(
                    party.to_string(),
                    pb::PrefetchOutcome::AlreadyCached,
                    found,
                    String::new(),
                );
            }
            Progress::Loaded(party, loaded) => self.loaded(party, loaded),
            Progress::Ended {
                crm_requests,
                elapsed,
                cut_short,
            } => {
                self.tally.crm_requests = crm_requests;
                self.tally.elapsed = prost_types::Duration::try_from(elapsed).ok();
                self.pending.extend(match cut_short {
                    None => vec![Ok(Event::Finished(self.tally))],
                    Some(CutShort::Doomed(error)) => {
                        vec![Err(status::failed(&error, &self.platform))]
                    }
                    Some(CutShort::Stopping) => {
                        vec![Ok(Event::Finished(self.tally)), Err(status::stopping())]
                    }
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
    fn settle(
        &mut self,
        phone_number: String,
        outcome: pb::PrefetchOutcome,
        match_count: u32,
        reason: String,
    ) {
        let tally = &mut self.tally;
        let (label, count) = match outcome {
            pb::PrefetchOutcome::Found => ("found", &mut tally.found),
            pb::PrefetchOutcome::NotFound => ("not_found", &mut tally.not_found),
            pb::PrefetchOutcome::AlreadyCached => ("already_cached", &mut tally.already_cached),
            pb::PrefetchOutcome::InvalidNumber => ("invalid_number", &mut tally.invalid),
            pb::PrefetchOutcome::Failed | pb::PrefetchOutcome::Unspecified => {
                ("failed", &mut tally.failed)
            }
        };
        *count += 1;
        self.done += 1;
        let labels = PrefetchLabels {
            platform: self.platform.clone(),
            outcome: label,
        };
        self.metrics.prefetch_numbers.get_or_create(&labels).inc();
        let (done, total) = (self.done, self.total);
        let result = pb::PrefetchResult {
            phone_number,
            outcome: outcome.into(),
            match_count,
            reason,
            done,
            total,
        };
        self.pending.push_back(Ok(Event::Result(result)));
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_gives_its_place_back_and_hears_why_when_it_reads_on() {
        let mut teller = ProgressStream {
            platform: "example".to_owned(),
            metrics: Arc::default(),
            total: 100,
            done: 0,
            tally: pb::PrefetchFinished::default(),
            pending: VecDeque::new(),
            job: None,
        };
        for n in 0..100 {
            teller.settle(
                n.to_string(),
                pb::PrefetchOutcome::InvalidNumber,
                0,
                String::new(),
            );
        }
        let tasks = TaskTracker::new();
        let events = told_by(teller, None, &tasks);
        tasks.close();
        clock::sleep(PATIENCE / 2).await;
        assert_eq!(tasks.len(), 1, "a slow client is waited for");
        clock::timeout(PATIENCE, tasks.wait())
            .await
            .expect("the task ends, and with it the place");
        let events: Vec<_> = events.collect().await;
        assert_eq!(events.len(), BACKLOG + 1);
        assert_eq!(
            events.last().unwrap().as_ref().unwrap_err().code(),
            tonic::Code::Aborted
        );
    }
}
