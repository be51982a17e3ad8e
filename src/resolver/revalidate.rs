//! Refreshes stale answers in the background, within the limits of
//! [`background`](super::background).

use std::sync::Arc;

use super::Resolver;
use super::question::Question;
use crate::domain::{Identity, Lane, QuestionKey};

impl Resolver {
    /// Refreshes a stale answer, unless a flight does so already.
    pub(super) fn revalidate(&self, question: &Question, identity: Identity) {
        let (key, scope) = (*question.key(), question.asker().scope(Some(&identity)));
        let clock = Arc::clone(&self.deps.clock);
        let request = self.request(question, Some(identity));
        if !self.refreshing.take(key, scope, clock.now()) {
            question.keep(|| self.running(&request));
            return;
        }
        let seat = self.start(request.behind(Lane::Revalidate));
        question.keep(|| Some(seat.another()));
        let limit = Arc::clone(&self.refreshing);
        self.deps.tasks.spawn(async move {
            let failed = seat.wait().await.is_err();
            limit.ended(key, scope, failed.then(|| clock.now()));
        });
    }

    /// Returns whether a refresh of this question failed a moment ago.
    pub(super) fn rests(&self, key: &QuestionKey) -> bool {
        self.refreshing.rests(key, self.deps.clock.now())
    }
}
