//! The calls that a find has made, and whose quota they spend.
//!
//! Counts a find's calls, and knows the scope that they spend. A find may begin before the owner of
//! its credential is known. Once the owner is known, every call counts in the owner's scope, with
//! the quota hints of its reply. That includes calls that were made before or are still running.

use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::budget::{Budget, CallKind, Permit, RateHint, Scopes};
use crate::clock::{self, Instant};
use crate::domain::{Lane, LookupError, ScopeTag};
use crate::urgency::{OnTheWire, Urgency};

/// The calls of one find, and the scopes that they spend.
pub(super) struct SpentCalls {
    budget: Arc<Budget>,
    state: Mutex<Spending>,
}

struct Spending {
    scopes: Scopes,
    calls: Vec<SpentCall>,
}

/// A call that was made, as the quota sees it.
struct SpentCall {
    lane: Lane,
    kind: CallKind,
    granted: Instant,
    outcome: CallOutcome,
    /// The permit in the scope that adopted the call, until the call has an outcome.
    adopted: Option<Permit>,
}

/// How a call ended, as the quota sees it.
#[derive(Clone, Copy)]
enum CallOutcome {
    /// The request may still arrive.
    Open,
    /// The reply reported this at that time.
    Replied(RateHint, Instant),
    /// There was no reply, and the request could not arrive any more after that time.
    Broken(Instant),
}

impl CallOutcome {
    async fn report(self, permit: Permit) {
        match self {
            Self::Open => {}
            Self::Replied(hint, at) => permit.observe_since(&hint, at).await,
            Self::Broken(at) => permit.end_since(at),
        }
    }
}

/// A call that may be made, and its number, counted from 0. The call counts as running until this
/// value is dropped.
pub(super) struct Granted {
    pub(crate) number: usize,
    permit: Permit,
    _on_the_wire: OnTheWire,
}

impl SpentCalls {
    /// The calls of a find that spends these scopes now.
    pub(crate) fn new(budget: Arc<Budget>, scopes: Scopes) -> Arc<Self> {
        Arc::new(Self {
            budget,
            state: Mutex::new(Spending {
                scopes,
                calls: Vec::new(),
            }),
        })
    }

    /// Whose quota is spent now.
    pub(super) fn scope(&self) -> ScopeTag {
        self.state.lock().scopes.owner
    }

    /// HTTP calls made so far, failed ones included.
    pub(crate) fn calls(&self) -> u32 {
        u32::try_from(self.state.lock().calls.len()).unwrap_or(u32::MAX)
    }

    /// Waits for the permit of one call. If the owner of the credential becomes known meanwhile, it
    /// waits for a permit of the owner's scope instead.
    pub(crate) async fn acquire(
        &self,
        kind: CallKind,
        urgency: &Arc<Urgency>,
    ) -> Result<Granted, LookupError> {
        loop {
            let scopes = self.state.lock().scopes;
            let permit = self.budget.acquire(scopes, kind, urgency).await;
            let permit = permit.map_err(|full| LookupError::BudgetExhausted {
                retry_after: full.retry_after,
            })?;
            let mut state = self.state.lock();
            if state.scopes == scopes {
                let (lane, granted) = (urgency.lane(), permit.granted());
                state.calls.push(SpentCall {
                    lane,
                    kind,
                    granted,
                    outcome: CallOutcome::Open,
                    adopted: None,
                });
                let number = state.calls.len() - 1;
                return Ok(Granted {
                    permit,
                    number,
                    _on_the_wire: urgency.spend(),
                });
            }
            drop(state);
            permit.give_back();
        }
    }

    /// Reserves one call of each window of the owner's quota for verified credentials, for a while.
    pub(crate) async fn reserve_one(&self) {
        let scopes = self.state.lock().scopes;
        self.budget.reserve_one(scopes.owner).await;
    }

    /// The reply to a call reported this about the quota.
    pub(crate) async fn observe(&self, granted: Granted, hint: &RateHint) {
        self.end(granted, CallOutcome::Replied(*hint, clock::now()))
            .await;
    }

    /// A call gets no reply and cannot arrive any more.
    pub(crate) async fn broke(&self, granted: Granted) {
        self.end(granted, CallOutcome::Broken(clock::now())).await;
    }

    async fn end(&self, granted: Granted, outcome: CallOutcome) {
        if let Some(adopted) = self.ended(granted.number, outcome) {
            outcome.report(adopted).await;
        }
        outcome.report(granted.permit).await;
    }

    /// Notes the outcome of a call. Returns its permit in another owner's scope, if it has one.
    fn ended(&self, number: usize, outcome: CallOutcome) -> Option<Permit> {
        let mut state = self.state.lock();
        let call = state.calls.get_mut(number)?;
        call.outcome = outcome;
        call.adopted.take()
    }

    /// Spends the scope of another owner from now on. Earlier calls are counted there too; the
    /// future completes when all of them are.
    pub(crate) fn belongs_to(
        self: &Arc<Self>,
        scope: ScopeTag,
    ) -> impl Future<Output = ()> + use<> {
        let mut state = self.state.lock();
        let moved = std::mem::replace(&mut state.scopes.owner, scope) != scope;
        let calls = if moved { state.calls.len() } else { 0 };
        drop(state);
        let spent = Arc::clone(self);
        async move {
            join_all((0..calls).map(|number| spent.adopt(scope, number))).await;
        }
    }

    async fn adopt(&self, scope: ScopeTag, number: usize) {
        let call = self
            .state
            .lock()
            .calls
            .get(number)
            .map(|call| (call.kind, call.lane, call.granted));
        let Some((kind, lane, granted)) = call else {
            return;
        };
        let Some(permit) = self.budget.adopt(scope, kind, lane, granted).await else {
            return;
        };
        let outcome = {
            let mut state = self.state.lock();
            let Some(call) = state.calls.get_mut(number) else {
                return;
            };
            if matches!(call.outcome, CallOutcome::Open) {
                call.adopted = Some(permit);
                return;
            }
            call.outcome
        };
        outcome.report(permit).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::{BudgetConfig, Quota, Scope};
    use crate::clock::Stopwatch;
    use crate::domain::KeyMaker;
    use crate::metrics::Metrics;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn scope(name: &str) -> ScopeTag {
        KeyMaker::new([1; 16]).scope(&[name.as_bytes()])
    }

    /// Both scopes have a call every 100 ms and have just spent one; `calls` more stand in the line
    /// of the second one.
    async fn in_line(
        deadline: Duration,
        calls: usize,
    ) -> (Result<Granted, LookupError>, Duration, u32) {
        let quota = Quota::new(10, Duration::from_secs(1), 1, Scope::User, 1.0).unwrap();
        let budget = Arc::new(Budget::new(
            quota,
            &BudgetConfig::default(),
            "test",
            &Metrics::default(),
            None,
        ));
        let anybody = || Urgency::new(Lane::CallPop, None);
        for name in ["credential", "user"] {
            let _permit = budget
                .acquire(scope(name), CallKind::Search, &anybody())
                .await
                .unwrap();
        }
        let spent = SpentCalls::new(Arc::clone(&budget), scope("credential").into());
        let urgency = Arc::new(Urgency::new(Lane::CallPop, Some(clock::now() + deadline)));
        let stopwatch = Stopwatch::start();
        let others = async {
            spent.belongs_to(scope("user")).await;
            for _ in 0..calls {
                let _permit = budget
                    .acquire(scope("user"), CallKind::Search, &anybody())
                    .await
                    .unwrap();
            }
        };
        let granted = async {
            let granted = spent.acquire(CallKind::Search, &urgency).await;
            (granted, stopwatch.elapsed())
        };
        let ((granted, took), ()) = tokio::join!(granted, others);
        (granted, took, spent.calls())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_stands_in_line_when_it_turns_out_whose_it_is_takes_that_scopes_turn() {
        let (granted, took, calls) = in_line(ms(1_000), 0).await;
        assert_eq!((granted.unwrap().number, calls), (0, 1));
        // The call waits for one turn in each scope. The first slot in the credential's scope was
        // given back, but the pace still counts it.
        assert!(took >= ms(100) && took < ms(250), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn its_deadline_counts_in_that_line_as_well() {
        let (granted, took, calls) = in_line(ms(150), 3).await;
        assert!(matches!(granted, Err(LookupError::BudgetExhausted { .. })));
        assert!(took < ms(150) && calls == 0, "{took:?}");
    }
}
