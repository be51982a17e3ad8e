//! What may be spent on a CRM now.
//!
//! A CRM allows so many HTTP calls in so much time, counted for each user or for a whole account, and punishes whoever
//! takes more. Three kinds of work want the same calls: a phone that rings, a stale answer that is refreshed, and a
//! call log of thousands that warms up. This room decides who gets the next call.
//!
//! # The way of one call
//! [`Budget::acquire`] -> the [`gate`] of the scope, a line ordered by lane and arrival -> the [`limiter`], which only
//! the head of the line asks -> a [`Permit`]. After the reply [`Permit::observe`] says what the CRM said of its limit.
//!
//! # Lanes
//! governor, which counts the calls, knows no lanes, gives nothing back and cannot change its quota. So there are two
//! counts for each scope: of *all* calls, and of the *background* lanes' share. A call pop spends one of all; the other
//! lanes one of each, and both are looked at before either is spent. While a call pop waits in the line nobody of
//! another lane goes. A load that is raised moves up at once ([`Urgency`]); else a phone that rings for a number being
//! prefetched would wait as long as the prefetch.
//!
//! # Deadlines
//! A waiter that cannot be served before its deadline is told so at once, with the time after which it can, and has
//! spent nothing. The estimate knows the cells in stock, the waiters ahead and the pauses; what comes after it (a more
//! urgent waiter, a pause) is learned when it happens.
//!
//! # Replicas
//! With Redis the whole fleet stays within one quota: the same two counts live in one hash for each scope ([`shared`]),
//! with the pauses, and with a mark that makes the background lanes of every replica stand aside while a call pop
//! waits at any. While Redis is away each replica keeps to an equal share of the quota ([`Budget::set_replicas`]); a
//! call is never held up longer than the link's timeout. The counts begin afresh where Redis lost them, so the fleet
//! may spend one more burst when Redis restarts empty, and a part of one when it goes away.
//!
//! # Hints
//! A refusal (429) rests the scope for as long as it says, or 1 s doubling to 60 s; no calls left until a known reset
//! rests it until then; few left rests the background lanes only. All replicas rest, none longer than an hour.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;

use crate::clock::{Instant, instant};
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;
use crate::metrics::{Metrics, QuotaLabels, observe};
use crate::urgency::Urgency;

mod gate;
mod hint;
mod limiter;
mod local;
mod queue;
mod quota;
mod shared;
mod usage;

pub use hint::RateHint;
pub use quota::{Pace, Quota, QuotaError, Scope};
pub use shared::SharedQuota;
pub use usage::Usage;

use gate::Gate;
use limiter::Limiter;

/// The budget has no call left before the deadline. Nothing was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the CRM's quota has no call left before the deadline")]
pub struct Exhausted {
    /// After this time there will be one, as far as known.
    pub retry_after: Duration,
}

/// The quota of one connector.
pub struct Budget {
    limiter: Arc<Limiter>,
    gates: Mutex<HashMap<ScopeTag, Arc<Gate>, foldhash::fast::RandomState>>,
    waits: Waits,
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl Budget {
    /// The budget of the connector called `platform`; kept together with other replicas where there is a `shared` one.
    #[must_use]
    pub fn new(quota: Quota, platform: &str, metrics: &Metrics, shared: Option<SharedQuota>) -> Self {
        let limiter = Arc::new(Limiter::new(quota, shared));
        Self { limiter, gates: Mutex::default(), waits: Waits::new(platform, metrics) }
    }

    /// Waits for the turn of a load and spends one HTTP call of its scope. A future that is dropped leaves the line.
    ///
    /// # Errors
    /// [`Exhausted`] as soon as it is known that the turn would come after the latest deadline of the load's callers.
    pub async fn acquire(&self, scope: ScopeTag, urgency: &Urgency) -> Result<Permit, Exhausted> {
        let gate = self.gate(scope);
        let passed = gate.pass(&self.limiter, urgency).await?;
        observe(self.waits.of(passed.lane), passed.waited);
        Ok(Permit { gate, limiter: Arc::clone(&self.limiter), granted: instant() })
    }

    /// Counts a call that was made under another scope before it was known to be one of this scope, with what its reply
    /// said. What the reply said holds at once; the call is counted, in the lane in which it went, as soon as there is
    /// room.
    pub fn adopt(&self, scope: ScopeTag, lane: Lane, hint: RateHint) -> impl Future<Output = ()> + use<> {
        let (gate, limiter) = (self.gate(scope), Arc::clone(&self.limiter));
        let news = gate.note(&hint, instant());
        async move {
            if let Some(rest) = news {
                limiter.tell(scope, rest).await;
            }
            // Without a deadline it is never refused.
            let _ = gate.pass(&limiter, &Urgency::new(lane, None)).await;
        }
    }

    /// What a reply has said about a call that was adopted before the reply came.
    pub fn learn(&self, scope: ScopeTag, hint: &RateHint) {
        // What the other replicas should know they hear with the next reply.
        let _ = self.gate(scope).note(hint, instant());
    }

    fn gate(&self, scope: ScopeTag) -> Arc<Gate> {
        Arc::clone(self.gates.lock().entry(scope).or_insert_with(|| Arc::new(Gate::new(scope))))
    }

    /// Says how many replicas share the quota, this one included: its share of the quota while Redis is away. Without
    /// Redis nothing is shared and this changes nothing.
    pub fn set_replicas(&self, replicas: NonZeroU32) {
        if self.limiter.set_replicas(replicas) {
            for gate in self.gates.lock().values() {
                gate.look_again();
            }
        }
    }

    /// What the quota is.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        self.limiter.quota()
    }

    /// How it stands with the quota in this process. Looks at every scope in use.
    #[must_use]
    pub fn usage(&self) -> Usage {
        // Not under the lock: calls begin meanwhile.
        let gates: Vec<Arc<Gate>> = self.gates.lock().values().map(Arc::clone).collect();
        let mut usage = Usage::default();
        for gate in gates {
            gate.add_to(&mut usage);
        }
        usage
    }

    /// Forgets the scopes that nobody uses and that have their full burst again. To be called now and then.
    pub fn sweep(&self) {
        let mut gates = self.gates.lock();
        // Whoever uses a gate holds a clone of it, and clones are made under this lock.
        gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.is_idle());
        gates.shrink_to_fit();
        drop(gates);
        self.limiter.sweep();
    }
}

/// One HTTP call that may be made now.
#[derive(Debug)]
#[must_use = "a permit is spent whether it is used or not"]
pub struct Permit {
    gate: Arc<Gate>,
    limiter: Arc<Limiter>,
    granted: Instant,
}

impl Permit {
    /// Takes in what the reply said of the CRM's limit. A plain success counts too: it ends the doubling of pauses.
    ///
    /// Takes effect here before the first await. Only news is then told to the other replicas, which takes at most
    /// the timeout of the link to Redis.
    pub async fn observe(self, hint: &RateHint) {
        if let Some(rest) = self.gate.note(hint, self.granted) {
            self.limiter.tell(self.gate.scope(), rest).await;
        }
    }
}

/// Histograms of `contactd_quota_wait_seconds`.
struct Waits([Histogram; Lane::ALL.len()]);

impl Waits {
    fn new(platform: &str, metrics: &Metrics) -> Self {
        Self(Lane::ALL.map(|lane| {
            let labels = QuotaLabels { platform: platform.to_owned(), lane: lane.label() };
            metrics.quota_wait.get_or_create(&labels).clone()
        }))
    }

    fn of(&self, lane: Lane) -> &Histogram {
        let [call_pop, revalidate, prefetch] = &self.0;
        match lane {
            Lane::CallPop => call_pop,
            Lane::Revalidate => revalidate,
            Lane::Prefetch => prefetch,
        }
    }
}

#[cfg(test)]
mod tests;
