//! The queue for one scope's quota, and what is known of that scope.
//!
//! Holds the order of waiters, the scope's pauses, the limit that the CRM allows now, and the last
//! forecast. A granted slot belongs to the gate: whoever is head of the queue at that moment takes
//! it. Knows nothing of the purpose of the calls, and does not wait: [`waiting`](super::waiting)
//! does.

use std::fmt;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::adaptive_limit::{AdaptiveLimit, LimitChange};
use super::forecast::Forecast;
use super::hint::RateHint;
use super::limiter::QuotaLimiter;
use super::pauses::Pauses;
use super::queue::{CredentialProof, QueueKey, WaitQueue, WaitersAhead};
use super::request::{RequestAim, ScopeUpdate, Slot, SlotRequest};
use super::usage::Usage;
use crate::clock::{self, Instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;

/// A scope counts as in use for at most this long after its last call. A sweep may drop its gate
/// earlier.
const IN_USE: Duration = Duration::from_secs(60);

/// The gate of one scope.
pub(super) struct Gate {
    scope: ScopeTag,
    state: Mutex<GateState>,
}

#[derive(Debug, Default)]
pub(super) struct GateState {
    pub(super) queue: WaitQueue,
    /// Whether a request of the queue's head is running.
    pub(super) is_requesting: bool,
    /// A granted slot that no waiter has taken yet. The head of the queue takes it.
    pub(super) unclaimed: Option<Slot>,
    /// The limiter's last forecast.
    pub(super) forecast: Option<Forecast>,
    pub(super) pauses: Pauses,
    allowed: AdaptiveLimit,
    /// Calls that wait for the gate to open, in their order.
    pub(super) approaching: WaitQueue,
    /// When it was last used as the scope of a call's owner, and not only of its credential.
    owned: Option<Instant>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate without waiters.
    pub(super) fn new(scope: ScopeTag) -> Self {
        Self {
            scope,
            state: Mutex::default(),
        }
    }

    pub(super) fn scope(&self) -> ScopeTag {
        self.scope
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock()
    }

    /// Counts a call that was made before it was known to belong to this scope.
    pub(super) async fn count_made(&self, limiter: &QuotaLimiter, lane: Lane) -> Option<Slot> {
        let request = self.lock().request(self.scope, limiter, lane);
        let reply = limiter
            .request(&SlotRequest {
                aim: RequestAim::Count,
                ..request
            })
            .await;
        self.refresh();
        reply.granted
    }

    /// Applies a reply's hint. Returns the update for the other replicas. The adaptive limit is
    /// kept only in the owner's scope, because one credential makes only a part of the owner's
    /// calls.
    pub(super) fn apply_hint(
        &self,
        limiter: &QuotaLimiter,
        hint: &RateHint,
        is_owner: bool,
        granted: Instant,
    ) -> Option<ScopeUpdate> {
        let (mut state, now) = (self.lock(), clock::now());
        let pause = state.pauses.apply_hint(hint, granted, now);
        let limit = if is_owner {
            state.adapt_limit(limiter, hint.refused, granted, now)
        } else {
            None
        };
        if pause.is_none() && limit.is_none() {
            return None;
        }
        if limit.is_some() {
            // It was made for the old limit.
            state.forecast = None;
        }
        state.wake_impatient();
        state.wake_heads();
        Some(ScopeUpdate {
            pause: pause.unwrap_or_default(),
            limit,
        })
    }

    /// Asks Redis whether another replica's pause still holds, if that is due. Returns whether it
    /// has asked.
    pub(super) async fn ask_about_pause(&self, limiter: &QuotaLimiter, lane: Lane) -> bool {
        let request = {
            let (mut state, now) = (self.lock(), clock::now());
            let is_paused = !state.pauses.left(lane, now).is_zero();
            if !is_paused || state.pauses.recheck_in(now) != Some(Duration::ZERO) {
                return false;
            }
            // One caller asks for all.
            state.pauses.apply_shared(None, now);
            SlotRequest {
                aim: RequestAim::Look,
                ..state.request(self.scope, limiter, lane)
            }
        };
        let reply = limiter.request(&request).await;
        let mut state = self.lock();
        if state.pauses.apply_shared(reply.pause, clock::now()) {
            state.wake_impatient();
        }
        true
    }

    /// Notes that this is the scope of a call's owner.
    pub(super) fn mark_owner(&self) {
        self.lock().owned = Some(clock::now());
    }

    /// Returns whether a pause of all lanes has begun since `moment`.
    pub(super) fn paused_since(&self, moment: Instant) -> bool {
        self.lock().pauses.began_after(moment, clock::now())
    }

    /// How long the gate stays closed for a call of this lane and kind of credential, as far as
    /// known. `None` if others wait until it opens.
    pub(super) fn opens_in(
        &self,
        whose: (Lane, CredentialProof),
        now: Instant,
    ) -> Option<Duration> {
        let state = self.lock();
        let has_others = !state.approaching.is_empty();
        (!has_others).then(|| state.closed_for(whose, now))
    }

    /// How long a call that comes now would wait here, as far as known, and behind how many others.
    pub(super) fn turn_in(&self, whose: (Lane, CredentialProof)) -> (Duration, WaitersAhead) {
        let state = self.lock();
        let ahead =
            state.queue.before_a_newcomer(whose) + state.approaching.before_a_newcomer(whose);
        (state.ready_in(whose, ahead, clock::now()), ahead)
    }

    /// How long the calls of a lane are paused.
    pub(super) fn paused_for(&self, lane: Lane) -> Duration {
        self.lock().pauses.paused_for(lane, clock::now())
    }

    /// A call of this scope is not made: frees its slot, and the probe if it was one.
    pub(super) fn give_back(&self, limiter: &QuotaLimiter, slot: &Slot) {
        self.lock().give_back(limiter, slot);
        self.refresh();
    }

    /// Discards the limiter's forecast, which no longer holds.
    pub(super) fn refresh(&self) {
        let mut state = self.lock();
        state.forecast = None;
        state.wake_heads();
    }

    /// Adds this scope's figures.
    pub(super) fn add_to(&self, usage: &mut Usage) {
        let state = self.lock();
        let now = clock::now();
        if state.owned.is_some_and(|owned| now < owned + IN_USE) {
            let is_background_paused = !state.pauses.left(Lane::Prefetch, now).is_zero();
            usage.scopes += 1;
            usage.paused += usize::from(state.pauses.all_paused(now));
            usage.background_paused += usize::from(is_background_paused);
        }
        for lane in state.queue.lanes().chain(state.approaching.lanes()) {
            usage.waiting[lane as usize] += 1;
        }
    }

    /// Returns whether nobody waits and this gate can be dropped with little loss.
    pub(super) fn is_idle(&self) -> bool {
        let mut state = self.lock();
        let now = clock::now();
        state.queue.is_empty() && state.pauses.are_over(now) && state.allowed.is_forgettable(now)
    }
}

impl GateState {
    /// How long the gate stays closed for a call that is not in its queue yet, as far as known, if
    /// it is the next one to join.
    pub(super) fn closed_for(&self, whose: (Lane, CredentialProof), now: Instant) -> Duration {
        self.turn_behind(whose, WaitersAhead::default(), now)
    }

    /// The same for a call that joins after others.
    pub(super) fn turn_behind(
        &self,
        whose: (Lane, CredentialProof),
        others: WaitersAhead,
        now: Instant,
    ) -> Duration {
        self.ready_in(whose, self.queue.before_a_newcomer(whose) + others, now)
    }

    /// Wakes the first call of the queue, and the first one that has not joined it yet.
    pub(super) fn wake_heads(&self) {
        self.queue.wake_head();
        self.approaching.wake_head();
    }

    /// Wakes all calls that have a deadline, because their turn may come later now.
    pub(super) fn wake_impatient(&self) {
        self.queue.wake_impatient();
        self.approaching.wake_impatient();
    }

    /// Time until there is room for a call of this lane and kind of credential behind others, as
    /// far as known.
    pub(super) fn ready_in(
        &self,
        whose: (Lane, CredentialProof),
        ahead: WaitersAhead,
        now: Instant,
    ) -> Duration {
        let room = self
            .forecast
            .as_ref()
            .map_or(Duration::ZERO, |forecast| forecast.wait(whose, ahead, now));
        room.max(self.pauses.left(whose.0, now))
    }

    /// How soon the head of the queue asks again whether it has a place on the wire, if it only
    /// lacks that.
    pub(super) fn place_recheck_in(
        &self,
        whose: (Lane, CredentialProof),
        now: Instant,
    ) -> Option<Duration> {
        self.forecast.as_ref()?.recheck_in(whose, now)
    }

    /// As [`GateState::ready_in`], for a call in the queue.
    pub(super) fn turn_of(&self, key: QueueKey, now: Instant) -> Duration {
        self.ready_in((key.lane, key.proof), self.queue.ahead(key), now)
    }

    /// A limiter request for a call with a verified credential.
    pub(super) fn request(
        &self,
        scope: ScopeTag,
        limiter: &QuotaLimiter,
        lane: Lane,
    ) -> SlotRequest {
        let quota = limiter.quota();
        SlotRequest {
            scope,
            lane,
            limits: quota.limits(self.allowed.limit()),
            totals: quota.totals(),
            proof: CredentialProof::Verified,
            is_probe: false,
            is_paced: true,
            patience: None,
            aim: RequestAim::Spend,
        }
    }

    pub(super) fn give_back(&mut self, limiter: &QuotaLimiter, slot: &Slot) {
        limiter.give_back(slot);
        if let Some(probed) = slot.probe {
            self.pauses.give_probe_back(probed);
        }
    }

    fn adapt_limit(
        &mut self,
        limiter: &QuotaLimiter,
        is_refused: bool,
        granted: Instant,
        now: Instant,
    ) -> Option<LimitChange> {
        let quota = limiter.quota();
        if is_refused {
            self.allowed
                .refused(&quota, granted, limiter.is_alone(), now)
        } else {
            self.allowed.accepted(&quota, granted, now)
        }
    }
}
