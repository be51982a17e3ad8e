//! The line before one scope's quota.
//!
//! Owns who goes next. Only the head of the line asks the limiter, one ask at a time, so that
//! nobody overtakes by luck. A call that is granted belongs to the gate: whoever is head by then
//! takes it. Promises that a waiter whose future is dropped leaves the line and lets the next one
//! go. Knows nothing of what the calls are for.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::allowed::Allowed;
use super::ask::{Answer, Ask, News, Outlook, Slot};
use super::hint::{Pauses, RateHint};
use super::limiter::Limiter;
use super::queue::{Ahead, Queue, Standing, Ticket};
use super::usage::Usage;
use super::{Exhausted, STALE};
use crate::clock::{self, Instant, Stopwatch};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;
use crate::urgency::Urgency;

/// A scope counts as in use for so long after its last call.
const IN_USE: Duration = Duration::from_secs(60);

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
    /// A call that was granted to a waiter who is not head any more.
    in_hand: Option<Slot>,
    /// What the limiter said last.
    outlook: Option<Outlook>,
    pauses: Pauses,
    allowed: Allowed,
    /// Those who wait for the gate to open and stand in no line, by lane.
    before: [usize; Lane::ALL.len()],
    /// When it was last the scope of a call's owner, and not of its credential only.
    owned: Option<Instant>,
}

/// How a call passed the gate.
#[derive(Debug)]
pub(super) struct Passed {
    /// The call that it may make.
    pub(crate) slot: Slot,
    /// The lane it passed in.
    pub(crate) lane: Lane,
    /// How long it waited in that lane.
    pub(crate) waited: Duration,
}

/// What a waiter does next.
enum Step<'a> {
    Pass(Slot),
    Refuse(Exhausted),
    Ask(Turn<'a>),
    /// Until woken, or until this moment.
    Wait(Option<Instant>),
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate with nobody before it.
    pub(super) fn new(scope: ScopeTag) -> Self {
        Self {
            scope,
            state: Mutex::default(),
        }
    }

    /// Whose quota is behind it.
    pub(super) fn scope(&self) -> ScopeTag {
        self.scope
    }

    /// Waits for a turn and spends one call: at the pace of the quota, or only within its window if
    /// the same call has passed another gate, where it holds a place; then only for a moment
    /// ([`STALE`]). Once the deadline has passed nobody waits for the load any more: it goes on
    /// without one, behind the scenes, because its answer is wanted the next time.
    ///
    /// # Errors
    /// [`Exhausted`] as soon as it is known that the turn would come too late; then nothing is
    /// spent.
    pub(super) async fn pass(
        &self,
        limiter: &Limiter,
        urgency: &Urgency,
        is_paced: bool,
    ) -> Result<Passed, Exhausted> {
        let mut place = Place::take(self, limiter, urgency, is_paced);
        loop {
            // Before the urgency is read, so that no change is missed between reading and waiting.
            let changed = urgency.changed();
            let (now, lane, latest) = (clock::now(), urgency.lane(), urgency.deadline());
            let deadline = latest.filter(|deadline| now < *deadline);
            let overdue = latest.is_some() && deadline.is_none();
            let lane = if overdue {
                lane.max(Lane::Revalidate)
            } else {
                lane
            };
            match place.step(lane, deadline, now) {
                Step::Pass(slot) => {
                    return Ok(Passed {
                        slot,
                        lane: place.ticket.lane,
                        waited: place.since.elapsed(),
                    });
                }
                Step::Refuse(exhausted) => return Err(exhausted),
                Step::Ask(turn) => {
                    let patience =
                        deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
                    let answer = limiter
                        .ask(&Ask {
                            patience,
                            ..turn.ask
                        })
                        .await;
                    turn.end(answer);
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

    /// Counts a call that was made before it was known to be of this scope.
    pub(super) async fn count_made(&self, limiter: &Limiter, lane: Lane) -> Option<Slot> {
        let mut ask = self
            .state
            .lock()
            .ask(limiter, self.scope, lane, Standing::Proven);
        ask.is_made = true;
        let answer = limiter.ask(&ask).await;
        let mut state = self.state.lock();
        state.outlook = None;
        state.queue.wake_head();
        answer.granted
    }

    /// Takes in what a reply said. Returns what the other replicas should be told. How many calls
    /// the CRM allows is counted in the scope of their owner only: a credential has made a part of
    /// them.
    pub(super) fn note(
        &self,
        limiter: &Limiter,
        hint: &RateHint,
        is_owner: bool,
        granted: Instant,
    ) -> Option<News> {
        let (mut state, now) = (self.state.lock(), clock::now());
        let rest = state.pauses.note(hint, granted, now);
        let limit = match (is_owner, hint.refused) {
            (false, _) => None,
            (true, true) => {
                state
                    .allowed
                    .refused(&limiter.quota(), granted, limiter.is_alone(), now)
            }
            (true, false) => state.allowed.accepted(&limiter.quota(), granted, now),
        };
        if rest.is_none() && limit.is_none() {
            return None;
        }
        if limit.is_some() {
            // It is of the old limit.
            state.outlook = None;
        }
        state.queue.wake_impatient();
        state.queue.wake_head();
        Some(News {
            rest: rest.unwrap_or_default(),
            limit,
        })
    }

    /// This is the scope of a call's owner.
    pub(super) fn counts_an_owner(&self) {
        self.state.lock().owned = Some(clock::now());
    }

    /// Whether a rest of all lanes has begun since then.
    pub(super) fn rests_since(&self, moment: Instant) -> bool {
        self.state.lock().pauses.began_since(moment, clock::now())
    }

    /// How long no call of this lane and standing passes, as far as known, if nobody waits.
    pub(super) fn closed_for(&self, urgency: &Urgency) -> Duration {
        let (state, now) = (self.state.lock(), clock::now());
        let lane = urgency.lane();
        let room = state
            .outlook
            .as_ref()
            .map(|outlook| outlook.wait((lane, standing(urgency)), Ahead::default(), now));
        room.unwrap_or_default().max(state.pauses.left(lane, now))
    }

    /// Somebody waits for this gate to open and stands in no line. Counted until dropped.
    pub(super) fn waits_before(&self, lane: Lane) -> Before<'_> {
        self.state.lock().before[lane as usize] += 1;
        Before { gate: self, lane }
    }

    /// A call of this scope is not made: its slot is free, and so is the probe if it was one.
    pub(super) fn give_back(&self, limiter: &Limiter, slot: &Slot) {
        self.state.lock().give_back(limiter, slot);
        self.look_again();
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
        let now = clock::now();
        if state.owned.is_some_and(|owned| now < owned + IN_USE) {
            usage.scopes += 1;
            usage.resting += usize::from(state.pauses.rest_all(now));
            usage.background_resting +=
                usize::from(!state.pauses.left(Lane::Prefetch, now).is_zero());
        }
        for (waiting, before) in usage.waiting.iter_mut().zip(state.before) {
            *waiting += before;
        }
        for lane in state.queue.lanes() {
            usage.waiting[lane as usize] += 1;
        }
    }

    /// Whether nobody waits and nothing is lost by forgetting this gate.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        let now = clock::now();
        state.queue.is_empty() && state.pauses.are_over(now) && state.allowed.is_as_documented(now)
    }
}

impl State {
    /// Time until it is this waiter's turn, as far as known.
    fn ready_in(&self, ticket: Ticket, ahead: Ahead, now: Instant) -> Duration {
        let room = self.outlook.as_ref().map_or(Duration::ZERO, |outlook| {
            outlook.wait((ticket.lane, ticket.standing), ahead, now)
        });
        room.max(self.pauses.left(ticket.lane, now))
    }

    fn give_back(&mut self, limiter: &Limiter, slot: &Slot) {
        limiter.give_back(slot);
        if let Some(probed) = slot.probe {
            self.pauses.give_probe_back(probed);
        }
    }

    fn ask(&mut self, limiter: &Limiter, scope: ScopeTag, lane: Lane, standing: Standing) -> Ask {
        let limits = limiter.quota().limits(self.allowed.limit());
        Ask {
            scope,
            lane,
            limits,
            standing,
            is_probe: false,
            is_paced: true,
            patience: None,
            is_made: false,
        }
    }
}

/// See [`Gate::waits_before`].
pub(super) struct Before<'a> {
    gate: &'a Gate,
    lane: Lane,
}

impl Drop for Before<'_> {
    fn drop(&mut self) {
        self.gate.state.lock().before[self.lane as usize] -= 1;
    }
}

/// A place in the line; left when dropped.
struct Place<'a> {
    gate: &'a Gate,
    limiter: &'a Limiter,
    ticket: Ticket,
    wake: Arc<Notify>,
    /// Since it came to its lane.
    since: Stopwatch,
    began: Stopwatch,
    is_paced: bool,
    /// Whether it has asked the limiter in its lane.
    asked: bool,
}

impl<'a> Place<'a> {
    fn take(gate: &'a Gate, limiter: &'a Limiter, urgency: &Urgency, is_paced: bool) -> Self {
        let wake = Arc::new(Notify::new());
        let ticket = gate.state.lock().queue.enter(
            urgency.lane(),
            standing(urgency),
            urgency.began(),
            Arc::clone(&wake),
        );
        Self {
            gate,
            limiter,
            ticket,
            wake,
            since: Stopwatch::start(),
            began: Stopwatch::start(),
            is_paced,
            asked: false,
        }
    }

    fn step(&mut self, lane: Lane, deadline: Option<Instant>, now: Instant) -> Step<'a> {
        let mut state = self.gate.state.lock();
        self.move_to(&mut state, lane, deadline.is_some());
        let head = state.queue.is_head(self.ticket);
        if head && let Some(slot) = state.in_hand.take() {
            // A call pop's call is not counted in the share of the background lanes.
            if slot.is_background || !lane.is_background() {
                return Step::Pass(slot);
            }
            state.give_back(self.limiter, &slot);
            state.outlook = None;
        }
        // The other gate's place is kept for a moment only.
        let patience = (!self.is_paced).then(|| STALE.saturating_sub(self.began.elapsed()));
        let deadline = patience.map(|patience| now + patience).or(deadline);
        if !head && deadline.is_none() {
            return Step::Wait(None);
        }
        let ahead = if head {
            Ahead::default()
        } else {
            state.queue.ahead(self.ticket)
        };
        let ready_in = state.ready_in(self.ticket, ahead, now);
        let is_late = patience.is_some_and(|patience| patience.is_zero());
        if is_late
            || deadline.is_some_and(|deadline| ready_in > deadline.saturating_duration_since(now))
        {
            return Step::Refuse(Exhausted {
                retry_after: ready_in,
            });
        }
        if !head || state.asking {
            return Step::Wait(deadline);
        }
        // A call pop asks once though it knows that it must wait: the limiter tells the other
        // replicas' background lanes to stand aside. While the scope rests nobody asks, but for
        // whether the pause of another replica still holds: a limiter without Redis knows of calls
        // only, and would grant one.
        let rests = !state.pauses.left(lane, now).is_zero();
        let asks_again_in = state.pauses.asked_again_in(now);
        let stands_out = !rests && !lane.is_background() && !self.asked;
        if ready_in.is_zero() || stands_out || (rests && asks_again_in == Some(Duration::ZERO)) {
            state.asking = true;
            self.asked = true;
            let ask = state.ask(self.limiter, self.gate.scope, lane, self.ticket.standing);
            let is_probe = ready_in.is_zero() && state.pauses.rest_all(now);
            return Step::Ask(Turn {
                gate: self.gate,
                limiter: self.limiter,
                ask: Ask {
                    is_probe,
                    is_paced: self.is_paced,
                    ..ask
                },
            });
        }
        let wait = if rests {
            asks_again_in.map_or(ready_in, |wait| wait.min(ready_in))
        } else {
            ready_in
        };
        Step::Wait(Some(now + wait))
    }

    fn move_to(&mut self, state: &mut State, lane: Lane, impatient: bool) {
        let moves = lane != self.ticket.lane;
        self.ticket = state.queue.update(self.ticket, lane, impatient);
        if moves {
            self.since = Stopwatch::start();
            self.asked = false;
            // Somebody else may be head now, and waits to hear of it.
            state.queue.wake_head();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.queue.leave(self.ticket);
        if state.queue.is_empty()
            && let Some(slot) = state.in_hand.take()
        {
            state.give_back(self.limiter, &slot);
        }
        state.queue.wake_head();
    }
}

/// The right to ask the limiter; given back when dropped.
struct Turn<'a> {
    gate: &'a Gate,
    limiter: &'a Limiter,
    ask: Ask,
}

impl Turn<'_> {
    fn end(self, answer: Answer) {
        let mut state = self.gate.state.lock();
        let (expected, now) = (
            state.outlook.is_some() && answer.granted.is_some(),
            clock::now(),
        );
        if let Some(mut slot) = answer.granted {
            if self.ask.is_probe {
                state.pauses.probed(now);
                slot.probe = Some(now);
            }
            // Asks go one by one, and a call in hand is taken before the next: there is none.
            if let Some(unused) = state.in_hand.replace(slot) {
                state.give_back(self.limiter, &unused);
            }
        }
        state.outlook = Some(answer.outlook);
        let news = state.pauses.hear(answer.rest, now);
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

fn standing(urgency: &Urgency) -> Standing {
    if urgency.is_proven() {
        Standing::Proven
    } else {
        Standing::Unproven
    }
}

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => clock::sleep_until(moment).await,
        None => pending().await,
    }
}
