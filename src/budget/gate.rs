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

use super::allowed::AdaptiveLimit;
use super::ask::{SlotReply, SlotRequest, ScopeUpdate, Forecast, Slot};
use super::hint::{Pauses, RateHint};
use super::limiter::Limiter;
use super::queue::{WaitersAhead, WaitQueue, CredentialProof, QueueKey};
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
    state: Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    queue: WaitQueue,
    /// Whether an ask is under way.
    asking: bool,
    /// A call that was granted to a waiter who is not head any more.
    unclaimed: Option<Slot>,
    /// What the limiter said last.
    forecast: Option<Forecast>,
    pauses: Pauses,
    allowed: AdaptiveLimit,
    /// Those who wait for the gate to open and stand in no line, by lane.
    outside: [usize; Lane::ALL.len()],
    /// When it was last the scope of a call's owner, and not of its credential only.
    owned: Option<Instant>,
}

/// How a call passed the gate.
#[derive(Debug)]
pub(super) struct Granted {
    /// The call that it may make.
    pub(crate) slot: Slot,
    /// The lane it passed in.
    pub(crate) lane: Lane,
    /// How long it waited in that lane.
    pub(crate) waited: Duration,
}

/// What a waiter does next.
enum NextStep<'a> {
    Pass(Slot),
    Refuse(Exhausted),
    SlotRequest(RequestGuard<'a>),
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
    ) -> Result<Granted, Exhausted> {
        let mut call = QueuedCall::take(self, limiter, urgency, is_paced);
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
            match call.step(lane, deadline, now) {
                NextStep::Pass(slot) => {
                    return Ok(Granted {
                        slot,
                        lane: call.key.lane,
                        waited: call.since.elapsed(),
                    });
                }
                NextStep::Refuse(exhausted) => return Err(exhausted),
                NextStep::SlotRequest(turn) => {
                    let patience =
                        deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
                    let answer = limiter
                        .ask(&SlotRequest {
                            patience,
                            ..turn.ask
                        })
                        .await;
                    turn.end(answer);
                }
                NextStep::Wait(until) => {
                    tokio::select! {
                        () = call.wake.notified() => {}
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
            .ask(limiter, self.scope, lane, CredentialProof::Proven);
        ask.is_made = true;
        let answer = limiter.ask(&ask).await;
        let mut state = self.state.lock();
        state.forecast = None;
        state.queue.wake_head();
        answer.granted
    }

    /// Takes in what a reply said. Returns what the other replicas should be told. How many calls
    /// the CRM allows is counted in the scope of their owner only: a credential has made a part of
    /// them.
    pub(super) fn apply_hint(
        &self,
        limiter: &Limiter,
        hint: &RateHint,
        is_owner: bool,
        granted: Instant,
    ) -> Option<ScopeUpdate> {
        let (mut state, now) = (self.state.lock(), clock::now());
        let rest = state.pauses.apply_hint(hint, granted, now);
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
            state.forecast = None;
        }
        state.queue.wake_impatient();
        state.queue.wake_head();
        Some(ScopeUpdate {
            rest: rest.unwrap_or_default(),
            limit,
        })
    }

    /// This is the scope of a call's owner.
    pub(super) fn mark_owner(&self) {
        self.state.lock().owned = Some(clock::now());
    }

    /// Whether a rest of all lanes has begun since then.
    pub(super) fn paused_since(&self, moment: Instant) -> bool {
        self.state.lock().pauses.began_after(moment, clock::now())
    }

    /// How long no call of this lane and standing passes, as far as known, if nobody waits.
    pub(super) fn closed_for(&self, urgency: &Urgency) -> Duration {
        let (state, now) = (self.state.lock(), clock::now());
        let lane = urgency.lane();
        let room = state
            .forecast
            .as_ref()
            .map(|forecast| forecast.wait((lane, proof(urgency)), WaitersAhead::default(), now));
        room.unwrap_or_default().max(state.pauses.left(lane, now))
    }

    /// Somebody waits for this gate to open and stands in no line. Counted until dropped.
    pub(super) fn wait_outside(&self, lane: Lane) -> OutsideWait<'_> {
        self.state.lock().outside[lane as usize] += 1;
        OutsideWait { gate: self, lane }
    }

    /// A call of this scope is not made: its slot is free, and so is the probe if it was one.
    pub(super) fn give_back(&self, limiter: &Limiter, slot: &Slot) {
        self.state.lock().give_back(limiter, slot);
        self.refresh();
    }

    /// Forgets what the limiter said, which holds no longer.
    pub(super) fn refresh(&self) {
        let mut state = self.state.lock();
        state.forecast = None;
        state.queue.wake_head();
    }

    /// Adds how it stands with this scope.
    pub(super) fn add_to(&self, usage: &mut Usage) {
        let state = self.state.lock();
        let now = clock::now();
        if state.owned.is_some_and(|owned| now < owned + IN_USE) {
            usage.scopes += 1;
            usage.paused += usize::from(state.pauses.all_paused(now));
            usage.background_paused +=
                usize::from(!state.pauses.left(Lane::Prefetch, now).is_zero());
        }
        for (waiting, outside) in usage.waiting.iter_mut().zip(state.outside) {
            *waiting += outside;
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

impl GateState {
    /// Time until it is this waiter's turn, as far as known.
    fn ready_in(&self, key: QueueKey, ahead: WaitersAhead, now: Instant) -> Duration {
        let room = self.forecast.as_ref().map_or(Duration::ZERO, |forecast| {
            forecast.wait((key.lane, key.proof), ahead, now)
        });
        room.max(self.pauses.left(key.lane, now))
    }

    fn give_back(&mut self, limiter: &Limiter, slot: &Slot) {
        limiter.give_back(slot);
        if let Some(probed) = slot.probe {
            self.pauses.give_probe_back(probed);
        }
    }

    fn ask(&mut self, limiter: &Limiter, scope: ScopeTag, lane: Lane, proof: CredentialProof) -> SlotRequest {
        let limits = limiter.quota().limits(self.allowed.limit());
        SlotRequest {
            scope,
            lane,
            limits,
            proof,
            is_probe: false,
            is_paced: true,
            patience: None,
            is_made: false,
        }
    }
}

/// See [`Gate::wait_outside`].
pub(super) struct OutsideWait<'a> {
    gate: &'a Gate,
    lane: Lane,
}

impl Drop for OutsideWait<'_> {
    fn drop(&mut self) {
        self.gate.state.lock().outside[self.lane as usize] -= 1;
    }
}

/// A place in the line; left when dropped.
struct QueuedCall<'a> {
    gate: &'a Gate,
    limiter: &'a Limiter,
    key: QueueKey,
    wake: Arc<Notify>,
    /// Since it came to its lane.
    since: Stopwatch,
    began: Stopwatch,
    is_paced: bool,
    /// Whether it has asked the limiter in its lane.
    asked: bool,
}

impl<'a> QueuedCall<'a> {
    fn take(gate: &'a Gate, limiter: &'a Limiter, urgency: &Urgency, is_paced: bool) -> Self {
        let wake = Arc::new(Notify::new());
        let key = gate.state.lock().queue.enter(
            urgency.lane(),
            proof(urgency),
            urgency.began(),
            Arc::clone(&wake),
        );
        Self {
            gate,
            limiter,
            key,
            wake,
            since: Stopwatch::start(),
            began: Stopwatch::start(),
            is_paced,
            asked: false,
        }
    }

    fn step(&mut self, lane: Lane, deadline: Option<Instant>, now: Instant) -> NextStep<'a> {
        let mut state = self.gate.state.lock();
        self.move_to(&mut state, lane, deadline.is_some());
        let head = state.queue.is_head(self.key);
        if head && let Some(slot) = state.unclaimed.take() {
            // A call pop's call is not counted in the share of the background lanes.
            if slot.is_background || !lane.is_background() {
                return NextStep::Pass(slot);
            }
            state.give_back(self.limiter, &slot);
            state.forecast = None;
        }
        // The other gate's place is kept for a moment only.
        let patience = (!self.is_paced).then(|| STALE.saturating_sub(self.began.elapsed()));
        let deadline = patience.map(|patience| now + patience).or(deadline);
        if !head && deadline.is_none() {
            return NextStep::Wait(None);
        }
        let ahead = if head {
            WaitersAhead::default()
        } else {
            state.queue.ahead(self.key)
        };
        let ready_in = state.ready_in(self.key, ahead, now);
        let is_late = patience.is_some_and(|patience| patience.is_zero());
        if is_late
            || deadline.is_some_and(|deadline| ready_in > deadline.saturating_duration_since(now))
        {
            return NextStep::Refuse(Exhausted {
                retry_after: ready_in,
            });
        }
        if !head || state.asking {
            return NextStep::Wait(deadline);
        }
        // A call pop asks once though it knows that it must wait: the limiter tells the other
        // replicas' background lanes to stand aside. While the scope rests nobody asks, but for
        // whether the pause of another replica still holds: a limiter without Redis knows of calls
        // only, and would grant one.
        let is_paused = !state.pauses.left(lane, now).is_zero();
        let recheck_in = state.pauses.recheck_in(now);
        let announces_itself = !is_paused && !lane.is_background() && !self.asked;
        if ready_in.is_zero() || announces_itself || (is_paused && recheck_in == Some(Duration::ZERO)) {
            state.asking = true;
            self.asked = true;
            let ask = state.ask(self.limiter, self.gate.scope, lane, self.key.proof);
            let is_probe = ready_in.is_zero() && state.pauses.all_paused(now);
            return NextStep::SlotRequest(RequestGuard {
                gate: self.gate,
                limiter: self.limiter,
                ask: SlotRequest {
                    is_probe,
                    is_paced: self.is_paced,
                    ..ask
                },
            });
        }
        let wait = if is_paused {
            recheck_in.map_or(ready_in, |wait| wait.min(ready_in))
        } else {
            ready_in
        };
        NextStep::Wait(Some(now + wait))
    }

    fn move_to(&mut self, state: &mut GateState, lane: Lane, impatient: bool) {
        let moves = lane != self.key.lane;
        self.key = state.queue.update(self.key, lane, impatient);
        if moves {
            self.since = Stopwatch::start();
            self.asked = false;
            // Somebody else may be head now, and waits to hear of it.
            state.queue.wake_head();
        }
    }
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.queue.leave(self.key);
        if state.queue.is_empty()
            && let Some(slot) = state.unclaimed.take()
        {
            state.give_back(self.limiter, &slot);
        }
        state.queue.wake_head();
    }
}

/// The right to ask the limiter; given back when dropped.
struct RequestGuard<'a> {
    gate: &'a Gate,
    limiter: &'a Limiter,
    ask: SlotRequest,
}

impl RequestGuard<'_> {
    fn end(self, answer: SlotReply) {
        let mut state = self.gate.state.lock();
        let (expected, now) = (
            state.forecast.is_some() && answer.granted.is_some(),
            clock::now(),
        );
        if let Some(mut slot) = answer.granted {
            if self.ask.is_probe {
                state.pauses.probed(now);
                slot.probe = Some(now);
            }
            // Asks go one by one, and a call in hand is taken before the next: there is none.
            if let Some(unused) = state.unclaimed.replace(slot) {
                state.give_back(self.limiter, &unused);
            }
        }
        state.forecast = Some(answer.forecast);
        let update = state.pauses.apply_shared(answer.rest, now);
        if !expected || update {
            state.queue.wake_impatient();
        }
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.asking = false;
        state.queue.wake_head();
    }
}

fn proof(urgency: &Urgency) -> CredentialProof {
    if urgency.is_proven() {
        CredentialProof::Proven
    } else {
        CredentialProof::Unproven
    }
}

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => clock::sleep_until(moment).await,
        None => pending().await,
    }
}
