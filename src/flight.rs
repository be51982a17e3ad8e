//! Single flight: one load per key, however many callers ask.
//!
//! The load is a task of its own, not a part of the first caller's future. So a caller that leaves, the first one
//! included, breaks nothing: the load ends by itself and its answer is stored. Callers wait for the same result, each
//! for as long as it likes. A load that panics is reported to its callers and leaves no trace.
//!
//! A caller that is in more of a hurry than those before makes the whole flight hurry: a call pop that joins a
//! prefetch's flight must not inherit its wait.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::clock::Instant;
use crate::domain::{AuthTag, ContactKey, Entry, Lane, LookupError, Source};
use crate::trace::Span;
use crate::urgency::Urgency;

/// What may share a load: the same question under the same credential. A manual refresh shares only with others of
/// its kind, because a load that began earlier may not have seen what the person just changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlightKey {
    /// The question.
    pub contact: ContactKey,
    /// The credential it is asked under.
    pub auth: AuthTag,
    /// Whether the load must ask the CRM: a manual refresh, or a credential that has not proved itself.
    pub must_ask: bool,
    /// What was forgotten last of this question: a load that began before may bring what should be gone.
    pub since: u64,
}

/// What a load brought back.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The answer.
    pub entry: Arc<Entry>,
    /// The CRM, or the tier that had it by then.
    pub source: Source,
    /// HTTP calls to the CRM that it took.
    pub crm_requests: u32,
}

/// The result of a load, shared by its callers.
pub type Landing = Result<Loaded, LookupError>;

/// A flight on the board.
#[derive(Debug, Clone)]
struct Flight {
    landing: watch::Receiver<Option<Landing>>,
    span: Span,
    urgency: Arc<Urgency>,
}

/// The loads under way.
#[derive(Debug, Clone)]
pub struct Flights {
    open: Arc<Mutex<HashMap<FlightKey, Flight>>>,
    most: usize,
    tasks: TaskTracker,
}

/// A place on a flight.
#[derive(Debug)]
pub struct Seat {
    flight: Flight,
    joined: bool,
}

impl Flights {
    /// No loads yet, and never more than `most` at once; they will belong to `tasks`.
    #[must_use]
    pub fn new(most: usize, tasks: TaskTracker) -> Self {
        Self { open: Arc::default(), most, tasks }
    }

    /// A seat on the flight for `key`: the one under way, which from now on is at least as urgent as this caller, or a
    /// new one that runs `load` in the span that `begin` makes for it. Where as many are under way as may be, no load
    /// begins, and whoever waits in the seat hears [`LookupError::Overloaded`] at once.
    pub fn join_or_lead<F>(
        &self,
        key: FlightKey,
        lane: Lane,
        deadline: Option<Instant>,
        begin: impl FnOnce() -> Span,
        load: impl FnOnce(Span, Arc<Urgency>) -> F,
    ) -> Seat
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let mut open = self.open.lock();
        if let Some(flight) = open.get(&key) {
            let flight = flight.clone();
            drop(open);
            flight.urgency.join(lane, deadline);
            return Seat { flight, joined: true };
        }
        if open.len() >= self.most {
            let (_, landing) = watch::channel(Some(Err(LookupError::Overloaded)));
            let urgency = Arc::new(Urgency::new(lane, deadline));
            return Seat { flight: Flight { landing, span: Span::default(), urgency }, joined: false };
        }
        let (land, landing) = watch::channel(None);
        let flight = Flight { landing, span: begin(), urgency: Arc::new(Urgency::new(lane, deadline)) };
        open.insert(key, flight.clone());
        drop(open);

        let departed = Departed { open: Arc::clone(&self.open), key };
        let load = load(flight.span.clone(), Arc::clone(&flight.urgency));
        self.tasks.spawn(async move {
            let result = load.await;
            // Off the board before anybody hears of the result: whoever asks after that finds the stored answer, or
            // tries again where there is none.
            drop(departed);
            land.send_replace(Some(result));
        });
        Seat { flight, joined: false }
    }

    /// Whether a load for `key` is under way.
    #[must_use]
    pub fn is_open(&self, key: &FlightKey) -> bool {
        self.open.lock().contains_key(key)
    }
}

/// Takes the flight off the board, also when its load panics.
struct Departed {
    open: Arc<Mutex<HashMap<FlightKey, Flight>>>,
    key: FlightKey,
}

impl Drop for Departed {
    fn drop(&mut self) {
        self.open.lock().remove(&self.key);
    }
}

impl Seat {
    /// Whether another caller leads this flight.
    #[must_use]
    pub fn joined(&self) -> bool {
        self.joined
    }

    /// The load's span.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.flight.span
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The load's error; [`LookupError::Internal`] where it panicked.
    pub async fn wait(mut self) -> Landing {
        match self.flight.landing.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(LookupError::Internal)),
            Err(_) => Err(LookupError::Internal),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::clock::{pause, within};
    use crate::domain::{AuthHeader, E164, KeyMaker, Party, Timestamp, User};

    fn key(header: &str, must_ask: bool) -> FlightKey {
        let maker = KeyMaker::new([1; 16]);
        let user = User {
            id: "u".to_owned(),
            account: String::new(),
            host: None,
            region: None,
            settings: crate::domain::caller::Settings::default(),
        };
        let auth = maker.auth(&AuthHeader::parse(header).unwrap(), None);
        FlightKey { contact: maker.contact("example", &user, party(), &[], &[]), auth, must_ask, since: 0 }
    }

    fn party() -> Party {
        Party::Number(E164::parse("+16505551234", None).unwrap())
    }

    fn nobody() -> Loaded {
        Loaded { entry: Arc::new(Entry::new(&party(), &[], true, Timestamp(1))), source: Source::Crm, crm_requests: 1 }
    }

    async fn slow(loads: Arc<AtomicU32>) -> Landing {
        pause(Duration::from_millis(500)).await;
        loads.fetch_add(1, Ordering::Relaxed);
        Ok(nobody())
    }

    fn board<F>(flights: &Flights, key: FlightKey, load: impl FnOnce() -> F) -> Seat
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        flights.join_or_lead(key, Lane::CallPop, None, Span::default, |_, _| load())
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_in_a_hurry_makes_the_whole_flight_hurry() {
        let flights = Flights::new(100, TaskTracker::new());
        let (told, urgency) = tokio::sync::oneshot::channel();
        let flight = key("Bearer a", false);
        let prefetch = flights.join_or_lead(flight, Lane::Prefetch, None, Span::default, |_, urgency| async move {
            pause(Duration::from_millis(10)).await;
            told.send(urgency.lane()).unwrap();
            Ok(nobody())
        });
        let ringing = board(&flights, flight, || async { Ok(nobody()) });
        assert!(ringing.joined() && prefetch.wait().await.is_ok());
        assert_eq!(urgency.await.unwrap(), Lane::CallPop);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_one_load() {
        let (flights, loads) = (Flights::new(100, TaskTracker::new()), Arc::new(AtomicU32::new(0)));
        let seats: Vec<_> =
            (0..100).map(|_| board(&flights, key("Bearer a", false), || slow(Arc::clone(&loads)))).collect();
        assert_eq!(seats.iter().filter(|seat| seat.joined()).count(), 99);
        for seat in seats {
            assert!(seat.wait().await.is_ok());
        }
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert!(!flights.is_open(&key("Bearer a", false)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_leaves_breaks_nothing() {
        let (flights, loads) = (Flights::new(100, TaskTracker::new()), Arc::new(AtomicU32::new(0)));
        let leader = board(&flights, key("Bearer a", false), || slow(Arc::clone(&loads)));
        let joiner = board(&flights, key("Bearer a", false), || slow(Arc::clone(&loads)));
        assert!(within(Duration::from_millis(50), leader.wait()).await.is_none());
        assert!(joiner.wait().await.is_ok());
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn other_credentials_and_refreshes_do_not_share() {
        let (flights, loads) = (Flights::new(100, TaskTracker::new()), Arc::new(AtomicU32::new(0)));
        let keys = [key("Bearer a", false), key("Bearer b", false), key("Bearer a", true)];
        let seats = keys.map(|key| board(&flights, key, || slow(Arc::clone(&loads))));
        for seat in seats {
            assert!(!seat.joined());
            assert!(seat.wait().await.is_ok());
        }
        assert_eq!(loads.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_panics_fails_its_callers_and_the_next_one_leads_again() {
        let flights = Flights::new(100, TaskTracker::new());
        let seat = board(&flights, key("Bearer a", false), || async { panic!("a connector's bug") });
        assert_eq!(seat.wait().await.unwrap_err(), LookupError::Internal);
        let seat = board(&flights, key("Bearer a", false), || async { Ok(nobody()) });
        assert!(!seat.joined());
        assert!(seat.wait().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_most_no_load_begins_but_those_under_way_are_joined() {
        let (flights, loads) = (Flights::new(1, TaskTracker::new()), Arc::new(AtomicU32::new(0)));
        let lead = board(&flights, key("Bearer a", false), || slow(Arc::clone(&loads)));
        let refused = board(&flights, key("Bearer b", false), || slow(Arc::clone(&loads)));
        let joined = board(&flights, key("Bearer a", false), || slow(Arc::clone(&loads)));
        assert_eq!(refused.wait().await.unwrap_err(), LookupError::Overloaded);
        assert!(joined.joined() && joined.wait().await.is_ok() && lead.wait().await.is_ok());
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert!(board(&flights, key("Bearer b", false), || slow(loads)).wait().await.is_ok());
    }
}
