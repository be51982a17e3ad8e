//! Loads that end, and what becomes of those who wait for them.

use super::Replay;
use crate::domain::{Freshness, Source, Timestamp};
use crate::plan::crm::CallEnd;
use crate::plan::figures::Ended;
use crate::plan::loads::{Load, LoadKey, LoggedLookup, Purpose, Waiter};

/// How a load ended for those who wait for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// The CRM has answered.
    Loaded,
    /// Another replica has stored the answer meanwhile.
    Stored(Source),
    /// The quota had no room in time.
    Refused,
}

impl Replay<'_> {
    /// A look-up has ended.
    pub(super) fn end(&mut self, lookup: &LoggedLookup, ended: Ended) {
        self.figures.count(lookup.connector, lookup.at, ended);
    }

    /// Continues the loads whose calls have ended.
    pub(super) fn take_ends(&mut self) {
        while let Some((number, end)) = self.ends.pop() {
            let Some(load) = self.loads.get(number) else {
                continue;
            };
            load.open -= 1;
            // Details that are refused are missing from the answer; the contact is there.
            let needs_it = !load.is_searched || matches!(load.key, LoadKey::WhoAmI { .. });
            if end == CallEnd::Refused && needs_it {
                self.give_up(number);
            } else if load.open == 0 && load.searches + load.details > 0 {
                self.ask_more(number);
            } else if load.open == 0 {
                self.complete(number);
            }
        }
    }

    fn give_up(&mut self, number: u32) {
        let waiters = self.loads.end(number).map(|load| load.waiters);
        for waiter in waiters.into_iter().flatten() {
            self.settle(&waiter, Outcome::Refused);
        }
    }

    fn complete(&mut self, number: u32) {
        let Some(load) = self.loads.end(number) else {
            return;
        };
        self.keep(&load);
        for waiter in &load.waiters {
            self.settle(waiter, Outcome::Loaded);
        }
    }

    /// Stores what a load has brought.
    fn keep(&mut self, load: &Load) {
        let (replica, user, now) = (load.spender.replica, load.spender.user, self.now());
        self.fleet.admit(replica, user, load.asked);
        let LoadKey::Search { question, .. } = load.key else {
            return;
        };
        let answer = (load.is_found, load.asked);
        self.fleet.store(replica, question, answer, now);
        for other in load.waiters.iter().map(|waiter| waiter.replica) {
            if other != replica {
                self.fleet.promote(other, question, now);
            }
        }
    }

    /// Tells one who waits how the load ended.
    pub(super) fn settle(&mut self, waiter: &Waiter, outcome: Outcome) {
        let (replica, lookup) = (waiter.replica, waiter.call);
        let crm = Ended::Crm {
            shared: waiter.shared,
        };
        match (waiter.purpose, outcome) {
            (Purpose::Caller | Purpose::News { .. }, Outcome::Stored(source)) => {
                self.end(&lookup, Ended::Stored(source, Freshness::Fresh));
            }
            (Purpose::Caller, Outcome::Loaded) => self.end(&lookup, crm),
            (Purpose::News { until, .. }, Outcome::Loaded) if self.crms.now() <= until => {
                self.end(&lookup, crm);
            }
            (Purpose::News { source, .. }, Outcome::Loaded) => {
                self.end(&lookup, Ended::Stored(source, Freshness::Stale));
            }
            (Purpose::News { source, .. }, Outcome::Refused) => {
                self.end(&lookup, Ended::Stored(source, Freshness::Stale));
                self.revalidate(replica, lookup);
            }
            (Purpose::Lapsed, Outcome::Loaded | Outcome::Stored(_)) => self.serve_by_now(waiter),
            (Purpose::Caller | Purpose::Lapsed, Outcome::Refused) => {
                self.end(&lookup, Ended::Refused);
            }
            (Purpose::Refresh | Purpose::Renewal, _) => self.refreshed(waiter, outcome),
            (Purpose::Nothing, _) => {}
        }
    }

    /// The credential of a caller counts again: what is stored by now is served.
    fn serve_by_now(&mut self, waiter: &Waiter) {
        let (replica, lookup, now) = (waiter.replica, waiter.call, self.now());
        match self.fleet.pick(replica, lookup.question, now) {
            Some(stored) => self.serve(replica, lookup, stored),
            None => self.load(replica, lookup),
        }
    }

    fn refreshed(&mut self, waiter: &Waiter, outcome: Outcome) {
        let (replica, lookup) = (waiter.replica, waiter.call);
        let scope = (replica, self.crms.scope(lookup.user));
        let failed = matches!(outcome, Outcome::Refused).then(|| Timestamp(self.now()));
        match waiter.purpose {
            Purpose::Refresh => {
                let key = (replica, lookup.question);
                self.refreshing.ended(key, scope, failed);
            }
            _ => self.renewing.ended((replica, lookup.user), scope, failed),
        }
    }
}
