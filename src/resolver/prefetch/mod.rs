//! The first-run batch: many numbers behind live calls.
//!
//! Fresh answers are found first, in one round trip for each 500. The rest goes in the order given,
//! most recent calls first, a bounded number at a time, each through the same flights as a ringing
//! call but in the prefetch lane. An error of one number is a result; one that dooms all of them
//! ends the job. A CRM in trouble is waited for, but not for long
//! ([`trouble`](super::trouble)).

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

use super::Resolver;
use super::trouble::Trouble;
use crate::domain::LookupError;
use crate::metrics::PlatformLabels;

mod events;
mod plan;
mod run;

pub(crate) use events::{Batch, CutShort, PrefetchEvent, PrefetchEvents};
use run::BatchRun;

/// Results that may wait for a slow client before the job waits too.
const BACKLOG: usize = 64;

impl Resolver {
    /// Starts a job. Unless the credential is verified, the CRM is asked first who it is; if it
    /// does not say, one search verifies the credential: not even how many answers are stored is
    /// reported before.
    ///
    /// # Errors
    /// [`LookupError::Overloaded`] if the user, or the CRM's users together, have as many jobs
    /// under way as they may.
    pub(crate) fn prefetch(&self, batch: Batch) -> Result<PrefetchEvents, LookupError> {
        let place = self.job_place(&batch.asker)?;
        let platform = batch.asker.platform().name().to_owned();
        let (events, progress) = mpsc::channel(BACKLOG);
        let run = BatchRun {
            resolver: self.clone(),
            entry: self.jobs.enter(&platform, batch.parties.len()),
            batch,
            events,
            spent: Arc::default(),
            trouble: Trouble::none_yet(),
            _place: place,
        };
        let jobs = &self.deps.metrics.prefetch_jobs;
        let running = JobGauge::start(jobs.get_or_create_owned(&PlatformLabels { platform }));
        self.deps.tasks.spawn(async move {
            let _running = running;
            run.run().await;
        });
        Ok(progress)
    }
}

/// Counts a job while it runs.
struct JobGauge(Gauge);

impl JobGauge {
    fn start(jobs: Gauge) -> Self {
        jobs.inc();
        Self(jobs)
    }
}

impl Drop for JobGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
