//! Single flight: one load per key, however many callers ask.
//!
//! The load is a task of its own, not a part of the first caller's future. So no harm is done if a
//! caller leaves, even the first one: the load ends by itself and its answer is stored. All callers
//! wait for the same result, each with its own time limit. A load may publish the main part of its
//! result before it ends, and waiting callers may take that. A load that panics is reported to its
//! callers and leaves no trace. Once nobody waits, two kinds of loads are given up. One is a load
//! that only batches asked for and that has made no call. The other is a load whose credential has
//! not been accepted: it ends before its next call.
//!
//! A more urgent caller makes the whole flight more urgent: a call pop that joins a prefetch's
//! flight must not wait as long as the prefetch.

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
use crate::urgency::{Demand, Urgency};

/// The result of a load, shared by its callers.
pub(crate) type LoadResult<T> = Result<T, LookupError>;

/// The state of a load.
#[derive(Debug, Clone)]
enum Stage<T> {
    Waiting,
    /// The main part is there.
    Early(T),
    Done(LoadResult<T>),
}

/// Publishes the main part of a result before the load ends.
#[derive(Debug, Clone)]
pub(crate) struct EarlyResult<T>(Arc<watch::Sender<Stage<T>>>);

impl<T> EarlyResult<T> {
    /// Publishes it to all callers that wait now or later.
    pub(crate) fn show(&self, part: T) {
        self.0.send_replace(Stage::Early(part));
    }

    /// Returns whether a caller waits for the load.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.receiver_count() > 0
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

/// The running loads by key. Clones share them.
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
    /// Any running load.
    Any,
    /// None: a new load begins.
    Nobody,
    /// A load that has made no call yet: an answer that the CRM gave earlier may lack what the
    /// person just changed.
    NotCalledYet,
}

/// A load to start.
#[derive(Debug)]
pub(crate) struct NewLoad<P, F> {
    /// Held as long as the load runs.
    pub(crate) place: P,
    /// The span in which the load runs.
    pub(crate) span: Span,
    /// The load itself.
    pub(crate) load: F,
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
    /// No loads yet. They will run on `runtime` and be tracked by `tasks`.
    #[must_use]
    pub(crate) fn new(tasks: TaskTracker, runtime: Handle) -> Self {
        Self {
            open: Arc::default(),
            tasks,
            runtime,
        }
    }

    /// A seat on the flight for `key`. A running flight is used if it may be joined, and becomes at
    /// least as urgent as this caller. Otherwise `begin` makes a new load and takes a place for it.
    /// If there is no place, no load begins, and whoever waits in the seat gets
    /// [`LookupError::Overloaded`] at once.
    pub(crate) fn join_or_lead<P, F>(
        &self,
        key: K,
        join: Join,
        demand: Demand,
        begin: impl FnOnce(Arc<Urgency>, EarlyResult<T>) -> Option<NewLoad<P, F>>,
    ) -> Seat<T>
    where
        P: Send + 'static,
        F: Future<Output = LoadResult<T>> + Send + 'static,
    {
        let mut open = self.open.lock();
        let joinable = |flight: &&Flight<T>| flight.may_be_joined(join);
        if let Some(flight) = open.get(&key).filter(joinable) {
            return flight.join(demand);
        }
        let mut flight = Flight::new(demand);
        let Some(NewLoad { place, span, load }) = begin(flight.urgency(), flight.early()) else {
            return Seat::refused(flight.urgency);
        };
        flight.span = span;
        let seat = flight.seat(false);
        // Replaces the flight that may not be joined, if there is one. That flight ends without an
        // entry on the board.
        open.insert(key, flight.clone());
        drop(open);
        let entry = BoardEntry {
            open: Arc::clone(&self.open),
            key,
            flight,
        };
        self.tasks.spawn_on(entry.run(place, load), &self.runtime);
        seat
    }
}

impl<K: Eq + Hash, T> Flights<K, T> {
    /// A seat on the running flight for `key`, if there is one. Its urgency stays as it is.
    pub(crate) fn running(&self, key: &K) -> Option<Seat<T>> {
        let open = self.open.lock();
        open.get(key).map(|flight| flight.seat(true))
    }

    /// Marks the flights with these keys as verified: the CRM has accepted their credential. Misses
    /// a flight that a later one has replaced on the board.
    pub(crate) fn verify(&self, is_meant: impl Fn(&K) -> bool) {
        let open = self.open.lock();
        for (_, flight) in open.iter().filter(|(key, _)| is_meant(key)) {
            flight.urgency.set_verified(true);
        }
    }
}

impl<T> Flight<T> {
    fn new(demand: Demand) -> Self {
        Self {
            stage: Arc::new(watch::Sender::new(Stage::Waiting)),
            span: Span::default(),
            urgency: Arc::new(Urgency::of(demand)),
        }
    }

    fn urgency(&self) -> Arc<Urgency> {
        Arc::clone(&self.urgency)
    }

    fn early(&self) -> EarlyResult<T> {
        EarlyResult(Arc::clone(&self.stage))
    }

    /// A seat for one more caller, who may make the flight more urgent.
    fn join(&self, demand: Demand) -> Seat<T> {
        if demand.verified {
            self.urgency.set_verified(true);
        }
        self.urgency.join(demand.lane, demand.deadline);
        self.seat(true)
    }

    fn may_be_joined(&self, join: Join) -> bool {
        match join {
            Join::Any => true,
            Join::Nobody => false,
            Join::NotCalledYet => !self.urgency.has_called(),
        }
    }

    fn seat(&self, joined: bool) -> Seat<T> {
        Seat {
            stage: self.stage.subscribe(),
            span: self.span.clone(),
            urgency: Arc::clone(&self.urgency),
            joined,
        }
    }
}

/// The flight's entry on the board, removed on drop, even if its load panics.
struct BoardEntry<K: Eq + Hash + Copy, T> {
    open: Board<K, T>,
    key: K,
    flight: Flight<T>,
}

impl<K: Eq + Hash + Copy, T> BoardEntry<K, T> {
    /// Runs the load and gives its result to all waiting callers, unless it is abandoned first.
    async fn run<P>(mut self, place: P, load: impl Future<Output = LoadResult<T>>) {
        let _place = place;
        let load = pin!(load);
        let result = tokio::select! {
            biased;
            () = self.abandoned() => return self.flight.span.set("outcome", "given_up"),
            result = load => result,
        };
        // Removed from the board before anybody gets the result: a later caller finds the stored
        // answer, or tries again if there is none.
        let stage = Arc::clone(&self.flight.stage);
        drop(self);
        stage.send_replace(Stage::Done(result));
    }

    /// Removes the flight from the board and returns, once nobody waits for a load that may be
    /// given up.
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

    /// Removes the flight from the board, unless a caller has joined meanwhile or its answer is now
    /// wanted. Returns whether it did.
    fn withdraw(&mut self) -> bool {
        let mut open = self.open.lock();
        let withdrawn =
            self.flight.stage.receiver_count() == 0 && self.flight.urgency.may_be_abandoned();
        if withdrawn {
            self.remove_from(&mut open);
        }
        withdrawn
    }

    /// A later flight may have replaced this one.
    fn remove_from(&self, open: &mut HashMap<K, Flight<T>>) {
        let own = &self.flight.stage;
        let is_own = |flight: &Flight<T>| Arc::ptr_eq(&flight.stage, own);
        if open.get(&self.key).is_some_and(is_own) {
            open.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Copy, T> Drop for BoardEntry<K, T> {
    fn drop(&mut self) {
        self.remove_from(&mut self.open.lock());
    }
}

impl<T> Seat<T> {
    /// The seat of a caller whose load has no place.
    fn refused(urgency: Arc<Urgency>) -> Self {
        let (_, stage) = watch::channel(Stage::Done(Err(LookupError::Overloaded)));
        Self {
            stage,
            span: Span::default(),
            urgency,
            joined: false,
        }
    }
}

impl<T: Clone> Seat<T> {
    /// One more seat, for the same caller.
    #[must_use]
    pub(crate) fn another(&self) -> Self {
        Self {
            stage: self.stage.clone(),
            span: self.span.clone(),
            urgency: Arc::clone(&self.urgency),
            joined: self.joined,
        }
    }

    /// Returns whether another caller leads this flight.
    #[must_use]
    pub(crate) fn joined(&self) -> bool {
        self.joined
    }

    /// The load's span.
    #[must_use]
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The load's urgency, which records when it first called the CRM.
    #[must_use]
    pub(crate) fn urgency(&self) -> &Arc<Urgency> {
        &self.urgency
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The load's error; [`LookupError::Internal`] if it panicked.
    pub(crate) async fn wait(mut self) -> LoadResult<T> {
        self.done().await
    }

    /// As [`Seat::wait`], for a seat that is used again.
    ///
    /// # Errors
    /// As [`Seat::wait`].
    pub(crate) async fn done(&mut self) -> LoadResult<T> {
        let is_done = |stage: &Stage<T>| matches!(stage, Stage::Done(_));
        match self.stage.wait_for(is_done).await.as_deref() {
            Ok(Stage::Done(result)) => result.clone(),
            _ => Err(LookupError::Internal),
        }
    }

    /// Waits for the main part; `None` if the result came without one.
    pub(crate) async fn early(&mut self) -> Option<T> {
        let has_part = |stage: &Stage<T>| !matches!(stage, Stage::Waiting);
        match self.stage.wait_for(has_part).await.as_deref() {
            Ok(Stage::Early(part)) => Some(part.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
