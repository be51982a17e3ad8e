//! Watchers of a question: they see what is known before the look-up answers, and what comes after.
//!
//! A watched look-up takes the same steps as any other (`walk`), so it makes the same calls to the
//! CRM. If it has to wait although something is known, the watcher is shown what is known. If it
//! leaves a load to the background, the watcher keeps a seat on that load.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::answer::Answer;
use super::load_task::Loaded;
use crate::flight::Seat;

/// What a watched look-up shows besides its answer.
#[derive(Debug)]
pub(crate) enum LookupProgress {
    /// Nothing is stored, and the CRM is asked.
    Asking,
    /// What is stored.
    Stored(Answer),
    /// The CRM's contacts, without all details.
    Names(Answer),
}

/// Who watches a question. Clones are the same watcher.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    /// Not bounded, because a look-up shows only a few things.
    shown: mpsc::UnboundedSender<LookupProgress>,
    /// A seat on the load that continues after the answer.
    behind: Arc<Mutex<Option<Seat<Loaded>>>>,
}

impl Watcher {
    /// Shows something.
    pub(super) fn show(&self, watched: LookupProgress) {
        // A client that has left misses it.
        let _ = self.shown.send(watched);
    }

    /// Keeps a seat on a load that continues after the answer.
    pub(super) fn keep(&self, seat: Option<Seat<Loaded>>) {
        *self.behind.lock() = seat;
    }

    /// The seat that was kept.
    pub(super) fn take(&self) -> Option<Seat<Loaded>> {
        self.behind.lock().take()
    }

    /// A watcher, and what it will be shown.
    #[must_use]
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<LookupProgress>) {
        let (shown, seen) = mpsc::unbounded_channel();
        let behind = Arc::default();
        (Self { shown, behind }, seen)
    }
}
