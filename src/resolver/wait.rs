//! How long a caller waits for a load, and what it takes of it.

use std::time::Duration;

use super::load_task::Loaded;
use super::question::{Answer, Question, Trigger};
use super::{Resolver, TOO_LONG};
use crate::clock;
use crate::domain::{Freshness, LookupError};
use crate::flight::Seat;
use crate::metrics::PlatformLabels;

impl Resolver {
    /// Waits for a load, and counts who shares one.
    pub(super) async fn wait_for(
        &self,
        mut seat: Seat<Loaded>,
        question: &Question,
    ) -> Result<Answer, LookupError> {
        let shared = seat.joined();
        if shared {
            self.count_shared(question);
        }
        let waiting = self.names_or_all(&mut seat, question);
        // A caller without a deadline of its own does not wait for a load that stands in line for
        // minutes.
        let loaded = match question.deadline {
            Some(_) => waiting.await,
            None => clock::timeout(self.config.timeout, waiting)
                .await
                .unwrap_or(Err(TOO_LONG)),
        }?;
        Ok(Answer {
            age: self.deps.clock.now().since(loaded.asked),
            entry: loaded.entry,
            source: loaded.source,
            freshness: Freshness::Fresh,
            shared,
            crm_requests: loaded.crm_requests,
        })
    }

    fn count_shared(&self, question: &Question) {
        let labels = PlatformLabels {
            platform: question.asker().platform().name().to_owned(),
        };
        let shared = &self.deps.metrics.lookups_shared;
        shared.get_or_create(&labels).inc();
    }

    /// The result of a load; its contacts without all of their details if those take too long for
    /// this caller.
    async fn names_or_all(
        &self,
        seat: &mut Seat<Loaded>,
        question: &Question,
    ) -> Result<Loaded, LookupError> {
        let Some(names) = seat.early().await else {
            return seat.done().await;
        };
        let until = names.timing.found_at + self.details_patience(&names, question);
        Ok(clock::timeout_at(until, seat.done())
            .await
            .and_then(Result::ok)
            .unwrap_or(names))
    }

    /// How long an answer of the CRM is waited for if a stored one is good enough. Less than half
    /// of what the caller waits, so that there is time for the stored one.
    pub(super) fn patience(&self, question: &Question) -> Duration {
        let soft = self.config.soft_deadline;
        question.deadline.map_or(soft, |deadline| {
            soft.min(deadline.saturating_duration_since(clock::now()) / 2)
        })
    }

    /// How long this caller waits for details, from the moment the contacts were verified: a
    /// ringing phone not for long, others as long as they can.
    fn details_patience(&self, names: &Loaded, question: &Question) -> Duration {
        let timing = names.timing;
        let left = match question.deadline {
            Some(deadline) => deadline.saturating_duration_since(timing.found_at),
            None => self.config.timeout.saturating_sub(timing.took),
        };
        match question.trigger {
            Trigger::IncomingCall => timing.patience(self.config.details_timeout).min(left / 2),
            Trigger::ManualRefresh | Trigger::InitialMatch => left / 10 * 9,
        }
    }
}
