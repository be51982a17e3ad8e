//! Single flight: one load per key, however many callers ask.
//!
//! The load is a task of its own, not a part of the first caller's future. So a caller that leaves,
//! the first one included, breaks nothing: the load ends by itself and its answer is stored.
//! Callers wait for the same result, each for as long as it likes. A load may show the main part of
//! its result before it ends; whoever waits may take that. A load that panics is reported to its
//! callers and leaves no trace. Given up once nobody waits for it is only a load that a batch alone
//! asked for and that has made no call, and one whose credential has not been accepted: it ends
//! before it would make another call.
//!
//! A caller that is in more of a hurry than those before makes the whole flight hurry: a call pop
//! that joins a prefetch's flight must not inherit its wait.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, pending};
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::domain::LookupError;
use crate::trace::Span;
use crate::urgency::{Asker, Urgency};

/// The result of a load, shared by its callers.
pub(crate) type LoadResult<T> = Result<T, LookupError>;

/// How far a load is.
#[derive(Debug, Clone)]
enum Stage<T> {
    Waiting,
    /// The main part is there.
    Early(T),
    Done(LoadResult<T>),
}

/// Shows the main part of a result before the load ends.
#[derive(Debug, Clone)]
pub(crate) struct Early<T>(Arc<watch::Sender<Stage<T>>>);

impl<T> Early<T> {
    /// Shows it to whoever waits now or later.
    pub(crate) fn show(&self, part: T) {
        self.0.send_replace(Stage::Early(part));
    }
}

/// A flight on the board.
#[derive(Debug)]
struct Flight<T> {
    stage: Arc<watch::Sender<Stage<T>>>,
    span: Span,
    urgency: Arc<Urgency>,
}

impl<T> Clone for Flight<T> {
    fn clone(&self) -> Self {
        Self {
            stage: Arc::clone(&self.stage),
            span: self.span.clone(),
            urgency: Arc::clone(&self.urgency),
        }
    }
}

type Board<K, T> = Arc<Mutex<HashMap<K, Flight<T>>>>;

/// The loads under way, each under its key. Clones share them.
pub(crate) struct Flights<K, T> {
    open: Board<K, T>,
    tasks: TaskTracker,
    runtime: Handle,
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self {
            open: Arc::clone(&self.open),
            tasks: self.tasks.clone(),
            runtime: self.runtime.clone(),
        }
    }
}

impl<K, T> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights")
            .field("open", &self.open.lock().len())
            .finish_non_exhaustive()
    }
}

/// Which loads a caller may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Any that is under way.
    Any,
    /// One that has made no call yet: what the CRM has answered before may be from before what the
    /// person just changed.
    NotCalledYet,
}

/// A place on a flight.
#[derive(Debug)]
pub(crate) struct Seat<T> {
    stage: watch::Receiver<Stage<T>>,
    span: Span,
    urgency: Arc<Urgency>,
    joined: bool,
}

impl<K, T> Flights<K, T>
where
    K: Copy + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// No loads yet; they will belong to `tasks` and run on `runtime`.
    #[must_use]
    pub(crate) fn new(tasks: TaskTracker, runtime: Handle) -> Self {
        Self {
            open: Arc::default(),
            tasks,
            runtime,
        }
    }

    /// A seat on the flight for `key`: the one under way, if it may be joined, which from now on is
    /// at least as urgent as this caller, or a new one. For that `begin` takes a place, held as
    /// long as the load lasts, and makes the span in which `load` runs. If there is no place, no
    /// load begins, and whoever waits in the seat hears [`LookupError::Overloaded`] at once.
    pub(crate) fn join_or_lead<P, F>(
        &self,
        key: K,
        join: Join,
        asker: Asker,
        begin: impl FnOnce() -> Option<(P, Span)>,
        load: impl FnOnce(Span, Arc<Urgency>, Early<T>) -> F,
    ) -> Seat<T>
    where
        P: Send + 'static,
        F: Future<Output = LoadResult<T>> + Send + 'static,
    {
        let mut open = self.open.lock();
        if let Some(flight) = open
            .get(&key)
            .filter(|flight| join == Join::Any || !flight.urgency.has_called())
        {
            if asker.trusted {
                flight.urgency.set_proven(true);
            }
            flight.urgency.join(asker.lane, asker.deadline);
            return flight.seat(true);
        }
        let urgency = Arc::new(Urgency::of(asker));
        let Some((place, span)) = begin() else {
            let (_, stage) = watch::channel(Stage::Done(Err(LookupError::Overloaded)));
            return Seat {
                stage,
                span: Span::default(),
                urgency,
                joined: false,
            };
        };
        let stage = Arc::new(watch::Sender::new(Stage::Waiting));
        let flight = Flight {
            stage: Arc::clone(&stage),
            span: span.clone(),
            urgency: Arc::clone(&urgency),
        };
        let seat = flight.seat(false);
        // In the place of one that may not be joined, which ends off the board.
        open.insert(key, flight.clone());
        drop(open);

        let mut listing = BoardEntry {
            open: Arc::clone(&self.open),
            key,
            flight,
        };
        let load = load(span, urgency, Early(stage));
        let flown = async move {
            let _place = place;
            let load = pin!(load);
            let result = tokio::select! {
                biased;
                () = listing.abandoned() => return listing.flight.span.set("outcome", "given_up"),
                result = load => result,
            };
            // Off the board before anybody hears of the result: whoever asks after that finds the
            // stored answer, or tries again where there is none.
            let stage = Arc::clone(&listing.flight.stage);
            drop(listing);
            stage.send_replace(Stage::Done(result));
        };
        self.tasks.spawn_on(flown, &self.runtime);
        seat
    }
}

impl<T> Flight<T> {
    fn seat(&self, joined: bool) -> Seat<T> {
        let urgency = Arc::clone(&self.urgency);
        Seat {
            stage: self.stage.subscribe(),
            span: self.span.clone(),
            urgency,
            joined,
        }
    }
}

/// Keeps the flight on the board; takes it off when it is dropped, also when its load panics.
struct BoardEntry<K: Eq + Hash + Copy, T> {
    open: Board<K, T>,
    key: K,
    flight: Flight<T>,
}

impl<K: Eq + Hash + Copy, T> BoardEntry<K, T> {
    /// Ends, with the flight off the board, once nobody waits for a load that may be given up.
    async fn abandoned(&mut self) {
        let urgency = Arc::clone(&self.flight.urgency);
        loop {
            // Before the urgency is read, so that no change is missed between reading and waiting.
            let changed = urgency.changed();
            if urgency.is_wanted() {
                return pending().await;
            }
            if urgency.may_be_abandoned() {
                tokio::select! {
                    () = self.flight.stage.closed() => {}
                    () = changed => continue,
                }
                if self.withdraw() {
                    return;
                }
            } else {
                changed.await;
            }
        }
    }

    /// Takes the flight off the board, unless somebody has come meanwhile or its answer is wanted
    /// by now.
    fn withdraw(&mut self) -> bool {
        let mut open = self.open.lock();
        let withdrawn =
            self.flight.stage.receiver_count() == 0 && self.flight.urgency.may_be_abandoned();
        if withdrawn {
            self.remove_from(&mut open);
        }
        withdrawn
    }

    /// A later flight may stand in the place of this one.
    fn remove_from(&self, open: &mut HashMap<K, Flight<T>>) {
        if open
            .get(&self.key)
            .is_some_and(|flight| Arc::ptr_eq(&flight.stage, &self.flight.stage))
        {
            open.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Copy, T> Drop for BoardEntry<K, T> {
    fn drop(&mut self) {
        self.remove_from(&mut self.open.lock());
    }
}

impl<T: Clone> Seat<T> {
    /// Whether another caller leads this flight.
    #[must_use]
    pub(crate) fn joined(&self) -> bool {
        self.joined
    }

    /// The load's span.
    #[must_use]
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The load's urgency, which says when it first called the CRM.
    #[must_use]
    pub(crate) fn urgency(&self) -> &Arc<Urgency> {
        &self.urgency
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The load's error; [`LookupError::Internal`] where it panicked.
    pub(crate) async fn wait(mut self) -> LoadResult<T> {
        self.done().await
    }

    /// As [`Seat::wait`], for a seat that is used further.
    ///
    /// # Errors
    /// As [`Seat::wait`].
    pub(crate) async fn done(&mut self) -> LoadResult<T> {
        match self
            .stage
            .wait_for(|stage| matches!(stage, Stage::Done(_)))
            .await
            .as_deref()
        {
            Ok(Stage::Done(result)) => result.clone(),
            _ => Err(LookupError::Internal),
        }
    }

    /// Waits for the main part; `None` if the result came without one.
    pub(crate) async fn early(&mut self) -> Option<T> {
        match self
            .stage
            .wait_for(|stage| !matches!(stage, Stage::Waiting))
            .await
            .as_deref()
        {
            Ok(Stage::Early(part)) => Some(part.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
