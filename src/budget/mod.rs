//! The budget: what may be spent on a CRM now.
//!
//! A CRM allows a certain number of HTTP calls in a period, counted by user or by account, and
//! penalizes anyone who makes more. Phones that ring, stale answers that are refreshed, and call
//! logs that are prefetched compete for them. This module decides which makes the next call.
//!
//! # The path of one call
//! [`Budget::acquire`] -> the [`gate`] of each scope, with its [`queue`] -> the [`limiter`], from
//! which only the head of the queue requests calls -> a [`Permit`]. After the reply,
//! [`Permit::observe_since`] applies what the CRM reported about its limit.
//!
//! # Words
//! *Limit*: the most calls of a window. *Window*: the time over which a CRM counts. *Burst*: the
//! most calls that may begin at once. *Scope*: whose calls count together. *Slot*: a call that a
//! window holds. *Permit*: the slots of one call. *Lane*: its urgency. *Pause*: a time without
//! calls.
//!
//! # Scopes
//! CRMs count by token, by user or by account. A call spends a slot of its owner's scope if the
//! owner is known, and always one of its credential's scope ([`Scopes`]). So one count contains
//! every call under the credential.
//!
//! # Windows
//! A CRM counts the calls of a sliding window, on arrival. So a [`window`] holds a call from its
//! permit until one window after its reply. A call without a reply is held as long as it may still
//! arrive, and one window longer. Each scope has two windows: one of *all* calls, and one of the
//! *background* lanes' share. Within the windows a [`governor`] paces the calls: the background
//! lanes evenly, call pops with a burst. The CRM's limits on calls on the wire and on calls of 24
//! hours are two more windows, which all kinds of calls share ([`totals`]). A call has a *place* on
//! the wire until its reply has ended.
//!
//! # Lanes
//! A call pop needs room in one window, the other lanes in both. Both are checked before either is
//! spent. While a call pop waits in the queue, no other lane gets a slot. A load that becomes more
//! urgent moves up at once ([`Urgency`]). Otherwise a phone that rings for a number being
//! prefetched would wait as long as the prefetch. Within a lane, verified credentials come first,
//! and one call of each window of an account is reserved for them.
//!
//! # Deadlines
//! A waiter that cannot get a slot before its deadline is refused at once. Nothing is spent. The
//! error says when it could get one: the forecast knows held calls, waiters ahead and pauses.
//!
//! # Replicas
//! With Redis all replicas together stay within one quota. For each scope Redis holds the same
//! windows ([`shared`]), the pauses, and the lowered limit. It also holds a mark that stops the
//! background lanes of every replica while a call pop waits at any of them. A replica that cannot
//! reach Redis keeps to an equal share of the quota, and the others do not use that share
//! ([`Budget::apply_replicas`]). A request to Redis takes at most the link's timeout.
//!
//! # Calls of an unknown past
//! A daemon that starts without Redis does not know the calls of the last window. A Redis that has
//! lost all its data, or the count of one scope, does not know them either. For windows of up to
//! five seconds nothing is spent until those calls have left the window ([`past`]). For longer
//! windows a restart may spend the quota a second time. No call waits because calls of the day are
//! unknown. If Redis has lost calls, or a replica could not reach Redis, only the replica that made
//! these calls counts them towards the limit of the day. If the CRM limits the calls on the wire,
//! calls also wait until those of the other replicas have ended or timed out. If the timeout of a
//! call is longer than ten seconds, there is no such wait. The log of invalidations shows the loss
//! of all data. The next request notices the loss of its scope's calls. A replica that made a call
//! in the last minute also notices if Redis has lost everything about the scope of that call.
//!
//! # Hints
//! A refusal (429) pauses the scope for as long as the reply says, or for 1 s doubling up to 60 s.
//! It also lowers the limit until the CRM allows more again ([`adaptive_limit`]). If no calls are
//! left until a known reset, the scope is paused until then. If few are left, only the background
//! lanes are paused. A pause holds for all replicas and never lasts longer than an hour. A ringing
//! phone may probe it every 30 s.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::domain::{Lane, ScopeTag};
use crate::metrics::Metrics;
use crate::urgency::Urgency;

mod absent;
mod adaptive_limit;
mod approach;
mod forecast;
mod gate;
mod gates;
mod governor;
mod held;
mod hint;
mod limiter;
mod limits;
mod local;
mod outlook;
mod past;
mod pauses;
mod permit;
mod queue;
mod quota;
mod replay;
mod request;
mod script;
mod shared;
mod totals;
mod usage;
mod waiting;
mod waits;
mod window;

pub(crate) use hint::RateHint;
pub(crate) use outlook::QuotaOutlook;
pub(crate) use past::Replicas;
pub(crate) use permit::Permit;
pub(crate) use quota::{CallKind, Quota, Quotas, Scope};
pub(crate) use replay::{GateId, NextWake, ReplayBudget, ReplayCall, ReplaySlot, Turn};
pub(crate) use shared::SharedQuota;
pub(crate) use usage::Usage;

use gates::QuotaGates;
use limiter::QuotaLimiter;
use totals::TotalCounts;
use waits::WaitHistograms;

/// If the credential's turn does not come within this time after its owner's, the call waits for
/// both again.
pub(crate) const STALE: Duration = Duration::from_millis(250);

/// The budget has no call left before the deadline. Nothing was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the CRM's quota has no call left before the deadline")]
pub(crate) struct Exhausted {
    /// The time after which there will be one, as far as known.
    pub(crate) retry_after: Duration,
}

/// What a budget must know besides the quotas.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BudgetConfig {
    /// The longest time after its owner's turn at which a call may still arrive at the CRM: its own
    /// timeout and [`STALE`].
    pub(crate) call_timeout: Duration,
    /// How long a credential counts as verified; see [`Budget::acquire`].
    pub(crate) admitted: Duration,
    /// The least number of replicas that share the quotas.
    pub(crate) replicas: NonZeroU32,
    /// Whether the CRM certainly had no calls before this start. If so, no call waits for unknown
    /// earlier ones.
    pub(crate) is_past_known: bool,
}

impl Default for BudgetConfig {
    /// One replica, and nothing to wait for.
    fn default() -> Self {
        let (call_timeout, admitted) = (Duration::ZERO, Duration::ZERO);
        Self {
            call_timeout,
            admitted,
            replicas: NonZeroU32::MIN,
            is_past_known: true,
        }
    }
}

/// Whose quota a call spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scopes {
    /// The CRM's user or account if known, otherwise the credential.
    pub(crate) owner: ScopeTag,
    /// The credential.
    pub(crate) credential: ScopeTag,
}

impl From<ScopeTag> for Scopes {
    /// The scopes of a credential whose owner is not known.
    fn from(credential: ScopeTag) -> Self {
        Self {
            owner: credential,
            credential,
        }
    }
}

/// The quotas of one connector.
pub(crate) struct Budget {
    all: QuotaGates,
    search: QuotaGates,
    other: QuotaGates,
    waits: WaitHistograms,
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("all", &self.all.limiter)
            .finish_non_exhaustive()
    }
}

impl Budget {
    /// The budget of the connector called `platform`. With `shared` all replicas have one budget.
    #[must_use]
    pub(crate) fn new(
        quotas: impl Into<Quotas>,
        config: &BudgetConfig,
        platform: &str,
        metrics: &Metrics,
        shared: Option<&SharedQuota>,
    ) -> Self {
        let quotas = quotas.into();
        let totals = Arc::new(TotalCounts::new(config.call_timeout));
        let gates = |quota, is_used, shared| {
            let limiter = QuotaLimiter::new(quota, config, Arc::clone(&totals), shared);
            QuotaGates::new(limiter, is_used)
        };
        let own = |kind| {
            let is_used = quotas.own(kind).is_some();
            gates(
                quotas.of(kind),
                is_used,
                shared.map(|shared| shared.of(kind)),
            )
        };
        let (search, other) = (own(CallKind::Search), own(CallKind::Other));
        let all = gates(quotas.all, true, shared.cloned());
        Self {
            all,
            search,
            other,
            waits: WaitHistograms::new(platform, metrics),
        }
    }

    /// Waits for the load's turn and spends one HTTP call of its scopes. If the future is dropped,
    /// the call leaves the queue.
    ///
    /// If the quota is an account's, one call of each window is reserved for loads with a verified
    /// credential ([`Urgency::set_verified`]). The reservation lasts [`BudgetConfig::admitted`]
    /// after such a load made a call or a credential was verified.
    ///
    /// # Errors
    /// [`Exhausted`] as soon as it is known that the turn would come after the latest deadline of
    /// the load's callers.
    pub(crate) async fn acquire(
        &self,
        scopes: impl Into<Scopes>,
        kind: CallKind,
        urgency: &Urgency,
    ) -> Result<Permit, Exhausted> {
        let scopes = scopes.into();
        let began = clock::now();
        loop {
            if let Some(permit) = self.try_acquire(scopes, kind, urgency).await? {
                let (lane, waited) = waiting::waited(urgency, began, clock::now());
                self.waits.observe(lane, waited);
                return Ok(permit);
            }
        }
    }

    /// Waits for a turn in both scopes, one after the other. `None` if the slots were given back:
    /// the credential's scope had no room soon, the owner was paused, or these calls now have
    /// another quota.
    async fn try_acquire(
        &self,
        scopes: Scopes,
        kind: CallKind,
        urgency: &Urgency,
    ) -> Result<Option<Permit>, Exhausted> {
        let gates = self.gates(kind);
        let credential = (scopes.credential != scopes.owner).then_some(scopes.credential);
        let place = gates.approach(credential, urgency).await?;
        let owner = gates.pass_owner(scopes.owner, urgency, place).await?;
        let granted = clock::now();
        let second = match credential {
            None => None,
            Some(credential) => match gates.pass_credential(credential, urgency).await {
                Ok(slot) => Some(slot),
                // The call waits for its credential without the owner's slot. Otherwise the owner's
                // other calls would wait for this credential.
                Err(_) => return Ok(None),
            },
        };
        // The settings may have given this kind of calls another quota meanwhile.
        let has_moved = !std::ptr::eq(gates, self.gates(kind));
        let is_paused = second.is_some() && gates.gate(scopes.owner).paused_since(granted);
        if has_moved || is_paused {
            return Ok(None);
        }
        Ok(Some(Permit::new(owner, second, granted)))
    }

    /// The CRM has accepted a credential whose calls spend this scope. See [`Budget::acquire`].
    pub(crate) async fn reserve_one(&self, scope: ScopeTag) {
        for gates in self.all_gates().into_iter().filter(|gates| gates.is_used()) {
            gates.limiter.reserve_one(scope).await;
        }
    }

    /// Counts a call that was granted at `granted` under another scope, before it was known to
    /// belong to this one. It counts even if there is no room.
    pub(crate) async fn adopt(
        &self,
        scope: ScopeTag,
        kind: CallKind,
        lane: Lane,
        granted: Instant,
    ) -> Option<Permit> {
        let gates = self.gates(kind);
        let gate = gates.gate(scope);
        let slot = gate.count_made(&gates.limiter, lane).await?;
        Some(Permit::new(gates.counted(gate, slot), None, granted))
    }

    /// Applies other quotas and another [`BudgetConfig::admitted`] from the next call on, also to
    /// calls that wait. A quota's scope does not change.
    ///
    /// Recent calls still count. If they cannot be counted (a longer window, or a kind of calls
    /// that is now counted separately, or no longer), the past is unknown as at a start, for
    /// windows of up to five seconds.
    pub(crate) fn set(&self, quotas: impl Into<Quotas>, admitted: Duration) {
        let quotas = quotas.into();
        let mut joined = false;
        for (kind, gates) in [
            (CallKind::Search, &self.search),
            (CallKind::Other, &self.other),
        ] {
            let is_used = quotas.own(kind).is_some();
            let was_used = gates.is_used();
            gates.set(quotas.of(kind), admitted, is_used && !was_used);
            gates.set_used(is_used);
            joined |= was_used && !is_used;
        }
        self.all.set(quotas.all, admitted, joined);
    }

    fn gates(&self, kind: CallKind) -> &QuotaGates {
        let own = match kind {
            CallKind::Search => &self.search,
            CallKind::Other => &self.other,
        };
        if own.is_used() { own } else { &self.all }
    }

    fn all_gates(&self) -> [&QuotaGates; 3] {
        [&self.all, &self.search, &self.other]
    }

    /// Redis reported this about the replicas that share the quotas. Without Redis nothing is
    /// shared and this changes nothing.
    pub(crate) fn apply_replicas(&self, replicas: &Replicas) {
        for gates in self.all_gates() {
            if gates.limiter.apply_replicas(replicas) {
                gates.refresh();
            }
        }
    }

    /// Redis did not answer a question about the replicas.
    pub(crate) fn redis_unreachable(&self) {
        self.all_gates()
            .into_iter()
            .for_each(|gates| gates.limiter.redis_unreachable());
    }

    /// The quota of a kind of call, or of all kinds without a quota of their own.
    #[must_use]
    pub(crate) fn quota(&self, kind: Option<CallKind>) -> Quota {
        kind.map_or(&self.all, |kind| self.gates(kind))
            .limiter
            .quota()
    }

    /// The use of each quota in this process, with the kind of call if it has its own quota. Visits
    /// every scope in use.
    #[must_use]
    pub(crate) fn usage(&self) -> Vec<(Option<CallKind>, Quota, Usage)> {
        let own = [
            (CallKind::Search, &self.search),
            (CallKind::Other, &self.other),
        ];
        let own = own
            .into_iter()
            .filter(|(_, gates)| gates.is_used())
            .map(|(kind, gates)| (Some(kind), gates));
        [(None, &self.all)]
            .into_iter()
            .chain(own)
            .map(|(kind, gates)| (kind, gates.limiter.quota(), gates.usage()))
            .collect()
    }

    /// Drops the scopes that nobody uses and that hold no call. Called periodically.
    pub(crate) fn sweep(&self) {
        self.all_gates().into_iter().for_each(QuotaGates::sweep);
    }
}

#[cfg(test)]
mod tests;
