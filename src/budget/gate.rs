//! The line before one scope's quota.
//!
//! Owns who goes next. Only the head of the line asks the limiter, one ask at a time, so that nobody overtakes by
//! luck. A cell that comes belongs to the gate: whoever is head by then takes it. Promises that a waiter whose future
//! is dropped leaves the line and lets the next one go. Knows nothing of what the calls are for.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Exhausted;
use super::hint::{Pauses, RateHint, Rest};
use super::limiter::{Answer, Limiter, Outlook};
use super::queue::{Ahead, Queue, Ticket};
use super::usage::Usage;
use crate::clock::{self, Instant, Stopwatch, instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;
use crate::urgency::Urgency;

/// The gate of one scope.
pub(super) struct Gate {
    scope: ScopeTag,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Whether an ask is under way.
    asking: bool,
    /// A cell that was spent for a waiter who is not head any more.
    in_hand: bool,
    /// What the limiter said last.
    outlook: Option<Outlook>,
    pauses: Pauses,
}

/// How a call passed the gate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    /// The lane it passed in.
    pub lane: Lane,
    /// How long it waited in that lane.
    pub waited: Duration,
}

/// What a waiter does next.
enum Step<'a> {
    Pass,
    Refuse(Exhausted),
    Ask(Turn<'a>),
    /// Until woken, or until this moment.
    Wait(Option<Instant>),
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate with nobody before it.
    pub(super) fn new(scope: ScopeTag) -> Self {
        Self { scope, state: Mutex::default() }
    }

    /// Whose quota is behind it.
    pub(super) fn scope(&self) -> ScopeTag {
        self.scope
    }

    /// Waits for a turn and spends one cell. Once the deadline has passed nobody waits for the load any more: it goes on
    /// without one, behind the scenes, because its answer is wanted the next time.
    ///
    /// # Errors
    /// [`Exhausted`] as soon as it is known that the turn would come after the deadline; then nothing is spent.
    pub(super) async fn pass(&self, limiter: &Limiter, urgency: &Urgency) -> Result<Passed, Exhausted> {
        let mut place = Place::take(self, urgency);
        loop {
            // Before the urgency is read, so that no change is missed between reading and waiting.
            let changed = urgency.changed();
            let (now, lane, latest) = (instant(), urgency.lane(), urgency.deadline());
            let deadline = latest.filter(|deadline| now < *deadline);
            let overdue = latest.is_some() && deadline.is_none();
            let lane = if overdue { lane.max(Lane::Revalidate) } else { lane };
            match place.step(lane, deadline, now) {
                Step::Pass => return Ok(Passed { lane: place.ticket.lane, waited: place.since.elapsed() }),
                Step::Refuse(exhausted) => return Err(exhausted),
                Step::Ask(turn) => {
                    let patience = deadline.map(|deadline| deadline.saturating_duration_since(instant()));
                    let answer = limiter.ask(self.scope, turn.lane, patience).await;
                    turn.end(&answer);
                }
                Step::Wait(until) => {
                    tokio::select! {
                        () = place.wake.notified() => {}
                        () = changed => {}
                        () = wait_until(until) => {}
                    }
                }
            }
        }
    }

    /// Takes in what a reply said. Returns what the other replicas should be told.
    pub(super) fn note(&self, hint: &RateHint, granted: Instant) -> Option<Rest> {
        let mut state = self.state.lock();
        let news = state.pauses.note(hint, granted, instant());
        if news.is_some() {
            state.queue.wake_impatient();
        }
        news
    }

    /// Forgets what the limiter said, which holds no longer.
    pub(super) fn look_again(&self) {
        let mut state = self.state.lock();
        state.outlook = None;
        state.queue.wake_head();
    }

    /// Adds how it stands with this scope.
    pub(super) fn add_to(&self, usage: &mut Usage) {
        let state = self.state.lock();
        let now = instant();
        usage.scopes += 1;
        usage.resting += usize::from(!state.pauses.left(Lane::CallPop, now).is_zero());
        usage.background_resting += usize::from(!state.pauses.left(Lane::Prefetch, now).is_zero());
        for lane in state.queue.lanes() {
            usage.waiting[lane as usize] += 1;
        }
    }

    /// Whether nobody waits and nothing is lost by forgetting this gate.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.queue.is_empty() && state.pauses.are_over(instant())
    }
}

impl State {
    /// Time until it is this waiter's turn, as far as known.
    fn ready_in(&self, ticket: Ticket, ahead: Ahead, now: Instant) -> Duration {
        let cell = self.outlook.map_or(Duration::ZERO, |outlook| outlook.wait(ticket.lane, ahead, now));
        cell.max(self.pauses.left(ticket.lane, now))
    }
}

/// A place in the line; left when dropped.
struct Place<'a> {
    gate: &'a Gate,
    ticket: Ticket,
    wake: Arc<Notify>,
    /// Since it came to its lane.
    since: Stopwatch,
    /// Whether it has asked the limiter in its lane.
    asked: bool,
}

impl<'a> Place<'a> {
    fn take(gate: &'a Gate, urgency: &Urgency) -> Self {
        let wake = Arc::new(Notify::new());
        let ticket = gate.state.lock().queue.enter(urgency.lane(), urgency.began(), Arc::clone(&wake));
        Self { gate, ticket, wake, since: Stopwatch::start(), asked: false }
    }

    fn step(&mut self, lane: Lane, deadline: Option<Instant>, now: Instant) -> Step<'a> {
        let mut state = self.gate.state.lock();
        self.move_to(&mut state, lane, deadline.is_some());
        let head = state.queue.is_head(self.ticket);
        if head && state.in_hand {
            state.in_hand = false;
            return Step::Pass;
        }
        if !head && deadline.is_none() {
            return Step::Wait(None);
        }
        let ahead = if head { Ahead::default() } else { state.queue.ahead(self.ticket) };
        let ready_in = state.ready_in(self.ticket, ahead, now);
        if deadline.is_some_and(|deadline| ready_in > deadline.saturating_duration_since(now)) {
            return Step::Refuse(Exhausted { retry_after: ready_in });
        }
        if !head || state.asking {
            return Step::Wait(deadline);
        }
        // A call pop asks once though it knows that it must wait: the limiter tells the other replicas' background
        // lanes to stand aside.
        // While the scope rests nobody asks: the limiter knows of cells only, and would grant one.
        let rests = !state.pauses.left(lane, now).is_zero();
        if ready_in.is_zero() || (!rests && !lane.is_background() && !self.asked) {
            state.asking = true;
            self.asked = true;
            return Step::Ask(Turn { gate: self.gate, lane });
        }
        Step::Wait(Some(now + ready_in))
    }

    fn move_to(&mut self, state: &mut State, lane: Lane, impatient: bool) {
        if lane != self.ticket.lane {
            self.since = Stopwatch::start();
            self.asked = false;
        }
        self.ticket = state.queue.update(self.ticket, lane, impatient);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.queue.leave(self.ticket);
        if state.queue.is_empty() {
            // Nobody is left to take it. Kept, it would be one call too many some day.
            state.in_hand = false;
        }
        state.queue.wake_head();
    }
}

/// The right to ask the limiter; given back when dropped.
struct Turn<'a> {
    gate: &'a Gate,
    lane: Lane,
}

impl Turn<'_> {
    fn end(self, answer: &Answer) {
        let mut state = self.gate.state.lock();
        let expected = state.outlook.is_some() && answer.granted;
        state.in_hand |= answer.granted;
        state.outlook = Some(answer.outlook);
        let news = state.pauses.set(answer.rest, instant());
        if !expected || news {
            state.queue.wake_impatient();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.asking = false;
        state.queue.wake_head();
    }
}

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => clock::pause_until(moment).await,
        None => pending().await,
    }
}
