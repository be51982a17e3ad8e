//! What each tier holds for one question, for people who ask.
//!
//! Reads as a look-up does, but counts no hit or miss and copies nothing from one tier to the
//! other. Like any read, it may count as a use of the answer when a tier decides what to evict.

use std::time::Duration;

use super::{Stored, TieredCache};
use crate::domain::{ContactKey, QuestionKey, Source};

/// An answer that a tier holds and that may be served.
#[derive(Debug, Clone)]
pub(crate) struct TierAnswer {
    pub(crate) stored: Stored,
    /// How much longer it is fresh; zero if it is stale.
    pub(crate) fresh_for: Duration,
    /// How much longer it may be served.
    pub(crate) served_for: Duration,
}

impl TieredCache {
    /// The servable answers to a question for one identity: that of memory, then that of Redis.
    pub(crate) async fn inspect(
        &self,
        question: &QuestionKey,
        key: &ContactKey,
    ) -> Vec<TierAnswer> {
        let in_memory = self.in_memory(key);
        let in_redis = self.in_redis(question, key).await;
        let answers = in_memory.into_iter().chain(in_redis);
        answers.map(|stored| self.with_times(stored)).collect()
    }

    async fn in_redis(&self, question: &QuestionKey, key: &ContactKey) -> Option<Stored> {
        let fetched = self.fetch(question).await;
        let entry = self.entry(fetched.held.as_ref()?, key)?;
        let asked = self.shared.as_ref()?.time.here(entry.asked_at())?;
        self.servable(entry, asked, Source::Redis)
    }

    fn with_times(&self, stored: Stored) -> TierAnswer {
        let ages = self.memory.ages().get().ages(&stored.entry);
        TierAnswer {
            fresh_for: ages.fresh.saturating_sub(stored.age),
            served_for: ages.stale.saturating_sub(stored.age),
            stored,
        }
    }
}
