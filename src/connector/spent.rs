//! What a find has spent, and whose quota it was.
//!
//! Owns the count of a find's calls and the scope that they spend. A find may begin before it is known whose its
//! credential is. Promises that every call counts in the scope of whoever it turns out to be, with what its reply has
//! said, whether it was made before that or was under way.

use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::budget::{Budget, Permit, RateHint};
use crate::domain::{Lane, LookupError, ScopeTag};
use crate::urgency::Urgency;

/// See the header.
pub(super) struct Spent {
    budget: Arc<Budget>,
    state: Mutex<State>,
}

struct State {
    scope: ScopeTag,
    /// In which lane each call went, and what the reply to it has said of the quota.
    calls: Vec<(Lane, RateHint)>,
    /// Of so many calls the present scope knows from another one.
    adopted: usize,
}

/// A call that may be made, and its number, which counts from 0.
pub(super) struct Granted {
    pub permit: Permit,
    pub number: usize,
}

impl Spent {
    pub fn new(budget: Arc<Budget>, scope: ScopeTag) -> Self {
        Self { budget, state: Mutex::new(State { scope, calls: Vec::new(), adopted: 0 }) }
    }

    /// HTTP calls made so far, failed ones included.
    pub fn calls(&self) -> u32 {
        u32::try_from(self.state.lock().calls.len()).unwrap_or(u32::MAX)
    }

    /// Waits for one call's turn. If it turns out meanwhile whose the credential is, that scope's turn counts.
    pub async fn acquire(&self, urgency: &Urgency) -> Result<Granted, LookupError> {
        loop {
            let scope = self.state.lock().scope;
            let permit = self.budget.acquire(scope, urgency).await;
            let permit = permit.map_err(|full| LookupError::BudgetExhausted { retry_after: full.retry_after })?;
            let mut state = self.state.lock();
            if state.scope == scope {
                state.calls.push((urgency.lane(), RateHint::default()));
                urgency.spend();
                return Ok(Granted { permit, number: state.calls.len() - 1 });
            }
        }
    }

    /// The reply to a call has said this of the quota.
    pub fn learn(&self, number: usize, hint: &RateHint) {
        let mut state = self.state.lock();
        if let Some((_, known)) = state.calls.get_mut(number) {
            *known = *hint;
        }
        if number < state.adopted {
            self.budget.learn(state.scope, hint);
        }
    }

    /// Another scope is spent from now on. What was spent before counts there too; the future ends when all of it does.
    pub fn belongs_to(&self, scope: ScopeTag) -> impl Future<Output = ()> + use<> {
        let mut state = self.state.lock();
        let moved = std::mem::replace(&mut state.scope, scope) != scope;
        let calls = if moved { state.calls.as_slice() } else { &[] };
        let adopted: Vec<_> = calls.iter().map(|(lane, hint)| self.budget.adopt(scope, *lane, *hint)).collect();
        if moved {
            state.adopted = state.calls.len();
        }
        async move {
            join_all(adopted).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::{Quota, Scope};
    use crate::clock::{Stopwatch, instant};
    use crate::domain::KeyMaker;
    use crate::metrics::Metrics;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn scope(name: &str) -> ScopeTag {
        KeyMaker::new([1; 16]).scope(&[name.as_bytes()])
    }

    /// Both scopes have a call every 100 ms and have just spent one; `calls` more stand in the line of the second one.
    async fn in_line(deadline: Duration, calls: usize) -> (Result<Granted, LookupError>, Duration, u32) {
        let quota = Quota::new(10, Duration::from_secs(1), 1, Scope::User, 1.0).unwrap();
        let budget = Arc::new(Budget::new(quota, "test", &Metrics::default(), None));
        let anybody = || Urgency::new(Lane::CallPop, None);
        for name in ["credential", "user"] {
            let _permit = budget.acquire(scope(name), &anybody()).await.unwrap();
        }
        let spent = Spent::new(Arc::clone(&budget), scope("credential"));
        let urgency = Urgency::new(Lane::CallPop, Some(instant() + deadline));
        let stopwatch = Stopwatch::start();
        let others = async {
            spent.belongs_to(scope("user")).await;
            for _ in 0..calls {
                let _permit = budget.acquire(scope("user"), &anybody()).await.unwrap();
            }
        };
        let granted = async {
            let granted = spent.acquire(&urgency).await;
            (granted, stopwatch.elapsed())
        };
        let ((granted, took), ()) = tokio::join!(granted, others);
        (granted, took, spent.calls())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_stands_in_line_when_it_turns_out_whose_it_is_takes_that_scopes_turn() {
        let (granted, took, calls) = in_line(ms(1_000), 0).await;
        assert_eq!((granted.unwrap().number, calls), (0, 1));
        assert!(took >= ms(100) && took < ms(150), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn its_deadline_counts_in_that_line_as_well() {
        let (granted, took, calls) = in_line(ms(150), 3).await;
        assert!(matches!(granted, Err(LookupError::BudgetExhausted { .. })));
        assert!(took < ms(150) && calls == 0, "{took:?}");
    }
}
