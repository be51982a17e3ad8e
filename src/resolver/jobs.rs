//! The running batches and their progress. Does not know whose they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Stopwatch;

/// The progress of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobProgress {
    /// The connector's name.
    pub(crate) platform: String,
    /// Finished numbers.
    pub(crate) done: usize,
    /// All numbers.
    pub(crate) total: usize,
    /// Time since it began.
    pub(crate) since: Duration,
}

/// All running jobs, in the order in which they began.
#[derive(Debug, Clone, Default)]
pub(super) struct Jobs(Arc<Mutex<JobTable>>);

#[derive(Debug, Default)]
struct JobTable {
    begun: u64,
    under_way: BTreeMap<u64, Arc<RunningJob>>,
}

#[derive(Debug)]
struct RunningJob {
    platform: String,
    total: usize,
    done: AtomicUsize,
    since: Stopwatch,
}

impl RunningJob {
    fn progress(&self) -> JobProgress {
        JobProgress {
            platform: self.platform.clone(),
            done: self.done.load(Ordering::Relaxed),
            total: self.total,
            since: self.since.elapsed(),
        }
    }
}

/// A job's entry in the table, removed on drop.
#[derive(Debug)]
pub(super) struct JobEntry {
    jobs: Jobs,
    number: u64,
    job: Arc<RunningJob>,
}

impl Jobs {
    /// Adds a job over this many numbers.
    pub(super) fn enter(&self, platform: &str, total: usize) -> JobEntry {
        let job = RunningJob {
            platform: platform.to_owned(),
            total,
            done: AtomicUsize::new(0),
            since: Stopwatch::start(),
        };
        let job = Arc::new(job);
        let mut table = self.0.lock();
        let number = table.begun;
        table.begun += 1;
        table.under_way.insert(number, Arc::clone(&job));
        JobEntry {
            jobs: self.clone(),
            number,
            job,
        }
    }

    /// The progress of each, the oldest first.
    pub(super) fn progress(&self) -> Vec<JobProgress> {
        let jobs: Vec<Arc<RunningJob>> = self.0.lock().under_way.values().map(Arc::clone).collect();
        jobs.iter().map(|job| job.progress()).collect()
    }
}

impl JobEntry {
    /// Counts one more finished number.
    pub(super) fn settle(&self) {
        self.job.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for JobEntry {
    fn drop(&mut self) {
        self.jobs.0.lock().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_seen_while_it_runs() {
        let jobs = Jobs::default();
        let first = jobs.enter("a", 3);
        let second = jobs.enter("b", 5);
        second.settle();
        second.settle();
        let seen = |jobs: &Jobs| {
            jobs.progress()
                .into_iter()
                .map(|job| (job.platform, job.done, job.total))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            seen(&jobs),
            [("a".to_owned(), 0, 3), ("b".to_owned(), 2, 5)]
        );
        drop(first);
        assert_eq!(seen(&jobs), [("b".to_owned(), 2, 5)]);
        drop(second);
        assert!(jobs.progress().is_empty());
    }
}
