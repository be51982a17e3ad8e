//! How long a caller waits for a load, and which part of its result the caller takes.

use std::time::Duration;

use super::load_task::Loaded;
use super::question::{Answer, Question, Trigger};
use super::watch::LookupProgress;
use super::{Resolver, TOO_LONG};
use crate::clock;
use crate::domain::{Entry, Freshness, LookupError, Timestamp};
use crate::flight::Seat;
use crate::metrics::PlatformLabels;

/// When a caller came to a load, and whether somebody else had begun it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    at: Timestamp,
    joins: bool,
}

impl Resolver {
    /// Waits for a load, and counts callers that share one.
    pub(super) async fn wait_for(
        &self,
        mut seat: Seat<Loaded>,
        question: &Question,
    ) -> Result<Answer, LookupError> {
        let arrival = self.arrival_at(&seat);
        if arrival.joins {
            self.count_shared(question);
        }
        let waiting = self.names_or_all(&mut seat, question, arrival);
        // Without a deadline, a caller does not wait for a load that stays in the queue for
        // minutes.
        let loaded = match question.deadline {
            Some(_) => waiting.await,
            None => clock::timeout(self.config.timeout, waiting)
                .await
                .unwrap_or(Err(TOO_LONG)),
        }?;
        self.answer(loaded, arrival).ok_or(TOO_LONG)
    }

    fn arrival_at(&self, seat: &Seat<Loaded>) -> Arrival {
        Arrival {
            at: self.deps.clock.now(),
            joins: seat.joined(),
        }
    }

    /// The result of a load as the answer to a caller. A load that waited for its turn in the
    /// quota, or for details, may have begun long before its last caller came. So the result is
    /// judged by its age when this caller came, as a stored answer would have been. `None` if it
    /// could no longer be served at that age. There are two exceptions. If the CRM was asked after
    /// this caller came, the result is fresh. If this caller came at most `lookup.timeout` after
    /// the CRM was asked, it gets the result, labelled stale. Without this exception nobody could
    /// share a load if the ages forbid storing answers.
    pub(super) fn answer(&self, loaded: Loaded, arrival: Arrival) -> Option<Answer> {
        let freshness = self.freshness(&loaded.entry, arrival.at.since(loaded.asked));
        (freshness != Freshness::Expired).then_some(Answer {
            age: self.deps.clock.now().since(loaded.asked),
            entry: loaded.entry,
            source: loaded.source,
            freshness,
            shared: arrival.joins,
            crm_requests: loaded.crm_requests,
        })
    }

    /// How fresh the result of a load is for a caller who came when it had this age.
    pub(super) fn freshness(&self, entry: &Entry, age: Duration) -> Freshness {
        match self.deps.cache.judge(entry, age) {
            _ if age.is_zero() => Freshness::Fresh,
            Freshness::Expired if age <= self.config.timeout => Freshness::Stale,
            freshness => freshness,
        }
    }

    /// The answer that is still being loaded after a watched question got its first one. `None` if
    /// there is no such load, if no place for another waiting caller is left, or if the load fails
    /// or takes longer than `lookup.timeout`.
    pub(crate) async fn behind(&self, question: &Question) -> Option<Answer> {
        let mut seat = question.watcher.as_ref()?.take()?;
        let asker = question.asker();
        let known = self.known_identity(asker);
        let _place = self.wait_place(asker, known.as_ref()).ok()?;
        let arrival = self.arrival_at(&seat);
        let loaded = async {
            if let Some(names) = seat.early().await {
                self.show_names(question, names, arrival);
            }
            seat.done().await
        };
        let loaded = clock::timeout(self.config.timeout, loaded).await?;
        self.answer(loaded.ok()?, arrival)
    }

    /// Shows the contacts of a load to the watcher, if any, while their details are loaded.
    fn show_names(&self, question: &Question, names: Loaded, arrival: Arrival) {
        if question.is_watched()
            && let Some(answer) = self.answer(names, arrival)
        {
            question.show(|| LookupProgress::Names(answer));
        }
    }

    fn count_shared(&self, question: &Question) {
        let labels = PlatformLabels {
            platform: question.asker().platform().name().to_owned(),
        };
        let shared = &self.deps.metrics.lookups_shared;
        shared.get_or_create(&labels).inc();
    }

    /// The result of a load, or its contacts without all details if those take too long for this
    /// caller.
    async fn names_or_all(
        &self,
        seat: &mut Seat<Loaded>,
        question: &Question,
        arrival: Arrival,
    ) -> Result<Loaded, LookupError> {
        let Some(names) = seat.early().await else {
            return seat.done().await;
        };
        self.show_names(question, names.clone(), arrival);
        let until = names.timing.found_at + self.details_patience(&names, question);
        let all = clock::timeout_at(until, seat.done()).await;
        if all.is_none() {
            question.keep(|| Some(seat.another()));
        }
        Ok(all.and_then(Result::ok).unwrap_or(names))
    }

    /// How long to wait for the CRM if a stored answer is good enough. At most half of the caller's
    /// remaining time, so that there is time to return the stored one.
    pub(super) fn patience(&self, question: &Question) -> Duration {
        let soft = self.config.soft_deadline;
        question.deadline.map_or(soft, |deadline| {
            soft.min(deadline.saturating_duration_since(clock::now()) / 2)
        })
    }

    /// How long this caller waits for details after the contacts were verified. A ringing phone
    /// waits for `lookup.details_timeout`, or for twice as long as the search took if that is more,
    /// and for at most half of the time that it had left at that moment. Other callers wait for
    /// nine tenths of the time that they had left.
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
