//! Single flight: one load per key, however many callers ask.
//!
//! The load is a task of its own, not a part of the first caller's future. So a caller that leaves, the first one
//! included, breaks nothing: the load ends by itself and its answer is stored. Callers wait for the same result, each
//! for as long as it likes. A load that panics is reported to its callers and leaves no trace. Only a batch's load that
//! still stands in line for its first call when the batch is gone is given up.
//!
//! A caller that is in more of a hurry than those before makes the whole flight hurry: a call pop that joins a
//! prefetch's flight must not inherit its wait.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::pin;
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
    landing: Arc<watch::Sender<Option<Landing>>>,
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
    landing: watch::Receiver<Option<Landing>>,
    span: Span,
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
            flight.urgency.join(lane, deadline);
            return Seat { landing: flight.landing.subscribe(), span: flight.span.clone(), joined: true };
        }
        if open.len() >= self.most {
            let (_, landing) = watch::channel(Some(Err(LookupError::Overloaded)));
            return Seat { landing, span: Span::default(), joined: false };
        }
        let (land, landing) = watch::channel(None);
        let span = begin();
        let urgency = Arc::new(Urgency::new(lane, deadline));
        let flight = Flight { landing: Arc::new(land), span: span.clone(), urgency: Arc::clone(&urgency) };
        open.insert(key, flight.clone());
        drop(open);

        let mut listing = Listing { open: Arc::clone(&self.open), key, flight, withdrawn: false };
        let load = load(span.clone(), urgency);
        self.tasks.spawn(async move {
            let load = pin!(load);
            let result = tokio::select! {
                biased;
                () = listing.deserted() => return listing.flight.span.set("outcome", "given_up"),
                result = load => result,
            };
            // Off the board before anybody hears of the result: whoever asks after that finds the stored answer, or
            // tries again where there is none.
            let land = Arc::clone(&listing.flight.landing);
            drop(listing);
            land.send_replace(Some(result));
        });
        Seat { landing, span, joined: false }
    }
}

/// Keeps the flight on the board; takes it off when it is dropped, also when its load panics.
struct Listing {
    open: Arc<Mutex<HashMap<FlightKey, Flight>>>,
    key: FlightKey,
    flight: Flight,
    withdrawn: bool,
}

impl Listing {
    /// Ends, with the flight off the board, once nobody waits for a load that may be given up.
    async fn deserted(&mut self) {
        while self.flight.urgency.is_needless_alone() {
            self.flight.landing.closed().await;
            if self.withdraw() {
                return;
            }
        }
        pending::<()>().await;
    }

    /// Takes the flight off the board, unless somebody has come meanwhile or its answer is wanted by now.
    fn withdraw(&mut self) -> bool {
        let mut open = self.open.lock();
        self.withdrawn = self.flight.landing.receiver_count() == 0 && self.flight.urgency.is_needless_alone();
        if self.withdrawn {
            open.remove(&self.key);
        }
        self.withdrawn
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        // A later flight may stand in the place of one that was withdrawn.
        if !self.withdrawn {
            self.open.lock().remove(&self.key);
        }
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
        &self.span
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The load's error; [`LookupError::Internal`] where it panicked.
    pub async fn wait(mut self) -> Landing {
        match self.landing.wait_for(Option::is_some).await {
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
        assert!(!board(&flights, key("Bearer a", false), || slow(loads)).joined(), "the flight is off the board");
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

    /// A load of a batch; the batch is gone at once where it holds no seat.
    fn of_a_batch(flights: &Flights, loads: &Arc<AtomicU32>, spends: bool) -> Seat {
        let loads = Arc::clone(loads);
        flights.join_or_lead(key("Bearer a", false), Lane::Prefetch, None, Span::default, |_, urgency| async move {
            if spends {
                urgency.spend();
            }
            slow(loads).await
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_batchs_load_is_given_up_with_the_batch_while_it_stands_in_line_for_its_first_call() {
        let (flights, loads) = (Flights::new(100, TaskTracker::new()), Arc::new(AtomicU32::new(0)));
        drop(of_a_batch(&flights, &loads, false));
        pause(Duration::from_millis(100)).await;
        let next = of_a_batch(&flights, &loads, false);
        assert!(!next.joined(), "the one before is off the board");
        assert!(next.wait().await.is_ok());
        pause(Duration::from_secs(1)).await;
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batchs_load_that_has_spent_a_call_or_is_wanted_by_others_goes_on_without_the_batch() {
        let (flights, loads) = (Flights::new(100, TaskTracker::new()), Arc::new(AtomicU32::new(0)));
        let seat = of_a_batch(&flights, &loads, true);
        tokio::task::yield_now().await;
        drop(seat);
        pause(Duration::from_secs(1)).await;
        assert_eq!(loads.load(Ordering::Relaxed), 1, "it has spent a call");

        let seat = of_a_batch(&flights, &loads, false);
        let other = of_a_batch(&flights, &loads, false);
        drop(seat);
        assert!(other.joined() && other.wait().await.is_ok(), "another batch waits for it");

        let seat = of_a_batch(&flights, &loads, false);
        let ringing = board(&flights, key("Bearer a", false), || async { Ok(nobody()) });
        drop((seat, ringing));
        pause(Duration::from_secs(1)).await;
        assert_eq!(loads.load(Ordering::Relaxed), 3, "a phone rang for it, and may again");
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
