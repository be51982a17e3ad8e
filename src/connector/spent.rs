//! What a find has spent, and whose quota it was.
//!
//! Owns the count of a find's calls and the scope that they spend. A find may begin before it is known whose its credential
//! is. Promises that every call counts in the scope of whoever it turns out to be, with what its reply has said, whether
//! it was made before that or was under way.

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

    /// Waits for one call's turn.
    pub async fn acquire(&self, urgency: &Urgency) -> Result<Granted, LookupError> {
        let scope = self.state.lock().scope;
        let permit = self.budget.acquire(scope, urgency).await;
        let permit = permit.map_err(|full| LookupError::BudgetExhausted { retry_after: full.retry_after })?;
        let lane = urgency.lane();
        let (number, now) = {
            let mut state = self.state.lock();
            state.calls.push((lane, RateHint::default()));
            (state.calls.len() - 1, state.scope)
        };
        if now != scope {
            // It has turned out while this call stood in line.
            self.state.lock().adopted = number + 1;
            self.budget.adopt(now, lane, RateHint::default()).await;
        }
        Ok(Granted { permit, number })
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
