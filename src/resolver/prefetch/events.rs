//! What a batch is, and what is reported of it while it runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::domain::{LookupError, Party};
use crate::resolver::asker::Asker;
use crate::trace::Span;

/// Many numbers of one asker, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Who asks.
    pub(crate) asker: Arc<Asker>,
    /// Whom to look up, each once, most recent first.
    pub(crate) parties: Vec<Party>,
    /// The request's span, if it is traced.
    pub(crate) span: Span,
}

/// Where a job's events arrive. Dropping it ends the job: what is being asked ends, what stands in
/// line is given up.
pub(crate) type PrefetchEvents = mpsc::Receiver<PrefetchEvent>;

/// One event of a job.
#[derive(Debug, Clone)]
pub(crate) enum PrefetchEvent {
    /// The first event.
    Started {
        /// How many of the parties have a fresh answer already.
        already_cached: usize,
    },
    /// A stored answer is fresh; so many contacts it has.
    Cached(Party, u32),
    /// The CRM was asked.
    Loaded(Party, Result<u32, LookupError>),
    /// The job is done, or was stopped; the last event.
    Ended {
        /// HTTP calls to the CRM made for this job.
        crm_requests: u32,
        /// How long it took.
        elapsed: Duration,
        /// Why it ended before all was done.
        cut_short: Option<CutShort>,
    },
}

/// Why a job ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CutShort {
    /// A failure that every further number would meet too: for good, or because the CRM's trouble
    /// lasts.
    Doomed(LookupError),
    /// The daemon is stopping.
    Stopping,
}
