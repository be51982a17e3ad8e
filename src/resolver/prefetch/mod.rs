//! The first-run batch: looks up many numbers, at a lower priority than call pops.
//!
//! Fresh answers are found first, with one round trip for each 500 numbers. The rest are looked up
//! in the given order, most recent calls first, a limited number at a time. Each goes through the
//! same flights as a ringing call, but in the prefetch lane. An error of one number is a result; an
//! error that every number would meet ends the job. If a CRM is in trouble, the batch waits, but
//! not for long ([`trouble`](super::trouble)).

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Resolver;
use super::trouble::Trouble;
use crate::domain::LookupError;
use crate::metrics::PlatformLabels;

mod events;
mod gauge;
mod plan;
mod run;

pub(crate) use events::{Batch, CutShort, PrefetchEvent, PrefetchEvents};
use gauge::JobGauge;
use run::BatchRun;

/// Results that may wait for a slow client before the job waits too.
const BACKLOG: usize = 64;

impl Resolver {
    /// Starts a job. Unless the credential is verified, the CRM is first asked whose it is. If it
    /// does not say, one search verifies the credential. Until then nothing is reported, not even
    /// how many answers are stored.
    ///
    /// # Errors
    /// [`LookupError::Overloaded`] if the owner of the quota, or all users of the CRM together,
    /// already have as many jobs as are allowed.
    pub(crate) fn prefetch(&self, batch: Batch) -> Result<PrefetchEvents, LookupError> {
        let place = self.job_place(&batch.asker)?;
        let platform = batch.asker.platform().name().to_owned();
        let (events, progress) = mpsc::channel(BACKLOG);
        let jobs = &self.deps.metrics.prefetch_jobs;
        let labels = PlatformLabels {
            platform: platform.clone(),
        };
        let run = BatchRun {
            resolver: self.clone(),
            entry: self.jobs.enter(&platform, batch.parties.len()),
            batch,
            events,
            spent: Arc::default(),
            trouble: Trouble::none_yet(),
            _place: place,
            _gauge: JobGauge::start(jobs.get_or_create_owned(&labels)),
        };
        self.deps.tasks.spawn_on(run.run(), &self.deps.runtime);
        Ok(progress)
    }
}
