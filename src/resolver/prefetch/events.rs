//! A batch, and the events that report its progress.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::domain::{LookupError, Party};
use crate::resolver::asker::Asker;
use crate::trace::Span;

/// Many parsed numbers of one asker.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Who asks.
    pub(crate) asker: Arc<Asker>,
    /// Whom to look up, each once, most recent first.
    pub(crate) parties: Vec<Party>,
    /// The request's span, if it is traced.
    pub(crate) span: Span,
}

/// The receiver of a job's events. Dropping it ends the job: calls that have begun are completed,
/// waiting look-ups are given up.
pub(crate) type PrefetchEvents = mpsc::Receiver<PrefetchEvent>;

/// One event of a job.
#[derive(Debug, Clone)]
pub(crate) enum PrefetchEvent {
    /// The first event.
    Started {
        /// How many of the parties have a fresh answer already.
        already_cached: usize,
    },
    /// The stored answer is fresh and has this many contacts.
    Cached(Party, u32),
    /// The look-up has ended: the CRM was asked, or another load had stored an answer meanwhile.
    Loaded(Party, Result<u32, LookupError>),
    /// The last event: the job is done, or was stopped.
    Ended {
        /// HTTP calls to the CRM made for this job. Asking whose the credential is counts as one.
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
    /// Every further number would fail as well: for good, or because the CRM's trouble lasts.
    Doomed(LookupError),
    /// The daemon is stopping.
    Stopping,
}
