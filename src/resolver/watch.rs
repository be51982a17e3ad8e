//! Watchers of a question: they see what is known before the look-up answers, and what comes after.
//!
//! The walk is that of every look-up, so a watch calls the CRM as the same look-up does. If the
//! walk waits although something is known, it shows that. If it leaves a load to the background,
//! it keeps a seat on it for the watcher.

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
    /// Not bounded, because a look-up shows a handful of things.
    shown: mpsc::UnboundedSender<LookupProgress>,
    /// A seat on the load that continues behind the answer.
    behind: Arc<Mutex<Option<Seat<Loaded>>>>,
}

impl Watcher {
    /// Shows something.
    pub(super) fn show(&self, watched: LookupProgress) {
        // A client that has left misses it.
        let _ = self.shown.send(watched);
    }

    /// Keeps a seat on a load that continues behind the answer.
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
