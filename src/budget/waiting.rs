//! A call that waits at a gate.
//!
//! Decides what a waiter does next. Only the head of the queue requests a call, one at a time, so
//! that nobody overtakes by chance. If a waiter's future is dropped, it leaves the queue and the
//! next one continues.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::gate::{Gate, GateState};
use super::limiter::QuotaLimiter;
use super::queue::{CredentialProof, QueueKey};
use super::request::{RequestAim, Slot, SlotReply, SlotRequest};
use super::{Exhausted, STALE};
use crate::clock::{self, Instant, Stopwatch};
use crate::domain::lane::Lane;
use crate::urgency::Urgency;

/// Waits for the call's turn at `gate` and spends a slot. If `is_paced`, the call keeps to the
/// quota's pace. Otherwise it already holds a slot of another gate: only the window counts then,
/// and the call waits only briefly ([`STALE`]). After the deadline nobody waits for the load any
/// more. If its credential is verified, it continues in the background without a deadline, because
/// its answer will be wanted next time.
///
/// # Errors
/// [`Exhausted`] as soon as it is known that the turn would come too late. Nothing is spent then.
pub(super) async fn pass(
    gate: &Gate,
    limiter: &QuotaLimiter,
    urgency: &Urgency,
    is_paced: bool,
) -> Result<Slot, Exhausted> {
    let mut call = QueuedCall::enter(gate, limiter, urgency, is_paced);
    loop {
        // Before the urgency is read, so that no change is missed between reading and waiting.
        let changed = urgency.changed();
        let now = clock::now();
        let (lane, deadline) = wanted(urgency, now);
        match call.next_step((lane, CredentialProof::of(urgency)), deadline, now) {
            NextStep::Pass(slot) => return Ok(slot),
            NextStep::Refuse(exhausted) => return Err(exhausted),
            NextStep::Request(request) => request.send(deadline).await,
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

/// The current lane and deadline of a load. An overdue load has no deadline and is not a call pop.
pub(super) fn wanted(urgency: &Urgency, now: Instant) -> (Lane, Option<Instant>) {
    let (lane, latest) = (urgency.lane(), urgency.deadline());
    match latest {
        Some(deadline) if deadline <= now => (lane.max(Lane::Revalidate), None),
        deadline => (lane, deadline),
    }
}

/// The current lane of a load, and how long a call that began to wait at `began` has waited in it.
pub(super) fn waited(urgency: &Urgency, began: Instant, now: Instant) -> (Lane, Duration) {
    let (lane, _) = wanted(urgency, now);
    let overdue = urgency.deadline().filter(|_| lane != urgency.lane());
    let since = overdue.unwrap_or_else(|| urgency.since()).max(began);
    (lane, now.saturating_duration_since(since))
}

/// What a waiter does next.
enum NextStep<'a> {
    Pass(Slot),
    Refuse(Exhausted),
    Request(PendingRequest<'a>),
    /// Wait until woken, or until this moment.
    Wait(Option<Instant>),
}

/// A call in the queue, which it leaves on drop.
struct QueuedCall<'a> {
    gate: &'a Gate,
    limiter: &'a QuotaLimiter,
    key: QueueKey,
    wake: Arc<Notify>,
    began: Stopwatch,
    is_paced: bool,
    /// Whether it has asked the limiter in its lane.
    has_asked: bool,
}

impl<'a> QueuedCall<'a> {
    fn enter(gate: &'a Gate, limiter: &'a QuotaLimiter, urgency: &Urgency, is_paced: bool) -> Self {
        let (key, wake) = gate.lock().queue.enter_for(urgency);
        Self {
            gate,
            limiter,
            key,
            wake,
            began: Stopwatch::start(),
            is_paced,
            has_asked: false,
        }
    }

    fn next_step(
        &mut self,
        place: (Lane, CredentialProof),
        deadline: Option<Instant>,
        now: Instant,
    ) -> NextStep<'a> {
        let mut state = self.gate.lock();
        self.move_to(&mut state, place, deadline.is_some());
        let is_head = state.queue.is_head(self.key);
        if is_head && let Some(slot) = self.claim(&mut state) {
            return NextStep::Pass(slot);
        }
        // The slot of the other gate is kept only briefly.
        let keeps_for = (!self.is_paced).then(|| STALE.saturating_sub(self.began.elapsed()));
        let gives_up_at = keeps_for.map(|left| now + left).or(deadline);
        if !is_head && gives_up_at.is_none() {
            return NextStep::Wait(None);
        }
        let ready_in = state.turn_of(self.key, now);
        let is_late = keeps_for.is_some_and(|left| left.is_zero())
            || gives_up_at.is_some_and(|at| is_too_late(ready_in, at, now));
        if is_late {
            return NextStep::Refuse(Exhausted {
                retry_after: ready_in,
            });
        }
        if !is_head || state.is_requesting {
            return NextStep::Wait(gives_up_at);
        }
        self.ask_or_wait(&mut state, ready_in, now)
    }

    /// What the head of the queue does.
    fn ask_or_wait(
        &mut self,
        state: &mut GateState,
        ready_in: Duration,
        now: Instant,
    ) -> NextStep<'a> {
        let lane = self.key.lane;
        // While the scope is paused, no call is requested: without Redis the limiter knows only
        // calls, not pauses, and would grant one. It is only asked whether another replica's pause
        // still holds.
        let is_paused = !state.pauses.left(lane, now).is_zero();
        let recheck_in = if is_paused {
            state.pauses.recheck_in(now)
        } else {
            state.place_recheck_in((lane, self.key.proof), now)
        };
        // A call pop asks once even if it must wait: the limiter then stops the background lanes of
        // the other replicas.
        let announces_itself = !is_paused && !lane.is_background() && !self.has_asked;
        if ready_in.is_zero() || announces_itself || recheck_in == Some(Duration::ZERO) {
            let aim = if is_paused {
                RequestAim::Look
            } else {
                RequestAim::Spend
            };
            let is_probe = !is_paused && ready_in.is_zero() && state.pauses.all_paused(now);
            return NextStep::Request(self.request(state, aim, is_probe));
        }
        let wait = recheck_in.map_or(ready_in, |recheck_in| recheck_in.min(ready_in));
        NextStep::Wait(Some(now + wait))
    }

    /// Takes the granted slot, if there is one. An earlier head of the queue may have requested it.
    /// A call pop's slot is not counted in the share of the background lanes, so they cannot take
    /// it.
    fn claim(&self, state: &mut GateState) -> Option<Slot> {
        let slot = state.unclaimed.take()?;
        if slot.is_background || !self.key.lane.is_background() {
            return Some(slot);
        }
        state.give_back(self.limiter, &slot);
        state.forecast = None;
        None
    }

    fn request(
        &mut self,
        state: &mut GateState,
        aim: RequestAim,
        is_probe: bool,
    ) -> PendingRequest<'a> {
        state.is_requesting = true;
        self.has_asked |= aim == RequestAim::Spend;
        let request = SlotRequest {
            aim,
            proof: self.key.proof,
            is_probe,
            is_paced: self.is_paced,
            ..state.request(self.gate.scope(), self.limiter, self.key.lane)
        };
        PendingRequest {
            gate: self.gate,
            limiter: self.limiter,
            request,
        }
    }

    fn move_to(
        &mut self,
        state: &mut GateState,
        place: (Lane, CredentialProof),
        is_impatient: bool,
    ) {
        let before = self.key;
        self.key = state.queue.update(before, place, is_impatient);
        if self.key.lane != before.lane {
            self.has_asked = false;
        }
        if self.key != before {
            // Another waiter may be the head now.
            state.queue.wake_head();
        }
    }
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.queue.leave(self.key);
        if state.queue.is_empty()
            && let Some(slot) = state.unclaimed.take()
        {
            state.give_back(self.limiter, &slot);
        }
        state.wake_heads();
    }
}

/// The only request to the limiter running at this gate. The next one may begin when it is dropped.
struct PendingRequest<'a> {
    gate: &'a Gate,
    limiter: &'a QuotaLimiter,
    request: SlotRequest,
}

impl PendingRequest<'_> {
    async fn send(mut self, deadline: Option<Instant>) {
        self.request.patience = deadline.map(time_until);
        let reply = self.limiter.request(&self.request).await;
        self.take_in(reply);
    }

    fn take_in(&self, reply: SlotReply) {
        let (mut state, now) = (self.gate.lock(), clock::now());
        let is_expected = state.forecast.is_some() && reply.granted.is_some();
        if let Some(mut slot) = reply.granted {
            if self.request.is_probe {
                state.pauses.probed(now);
                slot.probe = Some(now);
            }
            // Requests run one at a time, and an unclaimed slot is taken before the next request.
            // So there is no earlier unclaimed slot.
            if let Some(unused) = state.unclaimed.replace(slot) {
                state.give_back(self.limiter, &unused);
            }
        }
        // If Redis did not reply to a look, the forecast comes from this replica's own count, which
        // does not apply while Redis counts.
        let is_unknown = self.request.aim == RequestAim::Look && reply.pause.is_none();
        state.forecast = (!is_unknown).then_some(reply.forecast);
        let is_longer = state.pauses.apply_shared(reply.pause, now);
        if !is_expected || is_longer {
            state.wake_impatient();
        }
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.is_requesting = false;
        state.wake_heads();
    }
}

/// Returns whether a turn after `ready_in` comes too late for `deadline`.
pub(super) fn is_too_late(ready_in: Duration, deadline: Instant, now: Instant) -> bool {
    !ready_in.is_zero() && ready_in >= deadline.saturating_duration_since(now)
}

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => clock::sleep_until(moment).await,
        None => pending().await,
    }
}

fn time_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(clock::now())
}
