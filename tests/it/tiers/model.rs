//! What a look-up may return: the list of all loads and invalidations so far.

use std::collections::HashMap;
use std::time::Duration;

use contactd::cache::LoadTicket;

use super::Replica;
use super::world::{AGES, Answer, Question};

/// A load, as the CRM and the test know it.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// Its place in the list.
    pub(super) id: usize,
    pub(super) at: Replica,
    pub(super) of: Question,
    /// Whether the CRM has nobody.
    pub(super) is_absent: bool,
    /// When it began, by the order of steps and by the true time in milliseconds.
    step: usize,
    began: u64,
    /// When it began, by Redis' clock as its ticket says; zero if its replica had not read the log:
    /// then the answer is dropped when it does.
    asked_at: u64,
    is_stored: bool,
    /// The replica's start.
    life: usize,
}

#[derive(Debug)]
struct Invalidation {
    step: usize,
    by: Replica,
    user: usize,
    /// All numbers if none.
    number: Option<u32>,
    is_confirmed: bool,
}

impl Invalidation {
    fn is_about(&self, of: Question) -> bool {
        self.user == of.user && self.number.is_none_or(|number| number == of.number)
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    step: usize,
    loads: Vec<Load>,
    running: Vec<(usize, LoadTicket)>,
    /// How often each question's contact has changed.
    versions: HashMap<Question, usize>,
    invalidations: Vec<Invalidation>,
    /// The step before which each replica knows all invalidations.
    log_read: [usize; 2],
    /// How often each replica has been started, and whether it has not read Redis' time since.
    lives: [usize; 2],
    is_new: [bool; 2],
    was_set: bool,
    /// Whether answers may be lost.
    may_lose: bool,
}

impl Model {
    pub(super) fn new(may_lose: bool) -> Self {
        Self {
            may_lose,
            ..Self::default()
        }
    }

    pub(super) fn step(&mut self) {
        self.step += 1;
    }

    pub(super) fn change(&mut self, of: Question) {
        *self.versions.entry(of).or_default() += 1;
    }

    pub(super) fn clock_set(&mut self) {
        self.was_set = true;
    }

    pub(super) fn restarted(&mut self, at: Replica) {
        (self.lives[at], self.is_new[at]) = (self.lives[at] + 1, true);
        let ended = |(load, _): &(usize, LoadTicket)| self.loads[*load].at == at;
        self.running.retain(|running| !ended(running));
    }

    pub(super) fn log_read(&mut self, at: Replica) {
        (self.log_read[at], self.is_new[at]) = (self.step, false);
    }

    pub(super) fn forgotten(
        &mut self,
        by: Replica,
        user: usize,
        number: Option<u32>,
        is_confirmed: bool,
    ) {
        self.invalidations.push(Invalidation {
            step: self.step,
            by,
            user,
            number,
            is_confirmed,
        });
    }

    /// A load has begun. The CRM answers at once, so that its answer is the oldest possible.
    pub(super) fn begun(&mut self, at: Replica, of: Question, ticket: LoadTicket, now: u64) {
        let id = self.loads.len();
        self.loads.push(Load {
            id,
            at,
            of,
            // Every third version of the contact is that there is none.
            is_absent: self.versions.get(&of).copied().unwrap_or(0) % 3 == 2,
            step: self.step,
            began: now,
            asked_at: ticket.asked_at().0,
            is_stored: false,
            life: self.lives[at],
        });
        self.running.push((id, ticket));
    }

    /// When the last load began, by Redis' clock.
    pub(super) fn last_asked(&self) -> u64 {
        self.loads.last().map_or(0, |load| load.asked_at)
    }

    /// A running load, which ends now: the one at that place, or the last.
    pub(super) fn end(&mut self, place: usize) -> Option<(Load, LoadTicket)> {
        let place = place.min(self.running.len().checked_sub(1)?);
        let (load, ticket) = self.running.remove(place);
        Some((self.loads[load].clone(), ticket))
    }

    pub(super) fn ended(&mut self, load: Load) {
        self.loads[load.id].is_stored = true;
    }

    /// Whether a look-up at a replica may return this.
    pub(super) fn check(
        &self,
        at: Replica,
        of: Question,
        found: Option<Answer>,
        now: u64,
    ) -> Result<(), String> {
        let must = self.must_be_found(of, now);
        let Some(found) = found else {
            // Without Redis' time a replica cannot know the age of an answer from Redis.
            let must = must.filter(|_| !self.is_new[at]);
            return must.map_or(Ok(()), |load| Err(format!("not found: {load:?}")));
        };
        // Which load "nobody" came from is seen from its time only.
        let candidates = self.loads.iter().filter(|load| load.is(&found));
        let mut faults = Vec::new();
        for load in candidates {
            match self.fault_of(load, at, of, now) {
                None => return self.is_latest(&found, load, at, must),
                Some(fault) => faults.push(format!("{fault}: {load:?}")),
            }
        }
        Err(format!("{found:?} is {faults:?}"))
    }

    /// Why a look-up may not return the answer of this load.
    fn fault_of(&self, load: &Load, at: Replica, of: Question, now: u64) -> Option<&'static str> {
        if load.of != of {
            return Some("somebody else's");
        }
        if !load.is_stored {
            return Some("not loaded yet");
        }
        // A replica that has not seen that Redis' clock was set may be wrong by some seconds.
        let inexact = if self.was_set { 5_000 } else { 0 };
        if now - load.began >= millis(load.end()) + inexact {
            return Some("past its end");
        }
        let is_void = |invalidation: &Invalidation| {
            let is_known = invalidation.by == at || invalidation.step < self.log_read[at];
            invalidation.is_confirmed
                && is_known
                && invalidation.is_about(of)
                && load.step < invalidation.step
        };
        let is_void = self.invalidations.iter().any(is_void);
        is_void.then_some("older than an invalidation")
    }

    /// The latest load whose answer has to be found: none if faults may have lost it.
    fn must_be_found(&self, of: Question, now: u64) -> Option<&Load> {
        let is_void = |load: &Load| {
            let about = self.invalidations.iter().filter(|known| known.is_about(of));
            about.into_iter().any(|known| load.step < known.step)
        };
        let of_question = self
            .loads
            .iter()
            .filter(|load| load.of == of && load.is_stored);
        let valid = of_question.filter(|load| !is_void(load) && load.asked_at > 0);
        let latest = valid.max_by_key(|load| load.began)?;
        let is_current = now - latest.began < millis(latest.end());
        (is_current && !self.may_lose).then_some(latest)
    }

    /// Fails if an earlier answer than the latest is returned. The exception is a copy in memory
    /// that this replica does not know to be older. Redis never has an earlier answer.
    fn is_latest(
        &self,
        found: &Answer,
        load: &Load,
        at: Replica,
        must: Option<&Load>,
    ) -> Result<(), String> {
        let is_known = |must: &&Load| must.at == at && must.life == self.lives[at];
        let must = must.filter(|must| found.is_from_redis || is_known(must));
        match must.filter(|must| load.began < must.began) {
            Some(must) => Err(format!("an earlier answer: {load:?} before {must:?}")),
            None => Ok(()),
        }
    }
}

impl Load {
    /// The contact's name, by which the load is known.
    pub(super) fn name(&self) -> Option<String> {
        (!self.is_absent).then(|| format!("load {} ", self.id))
    }

    fn is(&self, found: &Answer) -> bool {
        match &found.name {
            Some(name) => self.name().as_ref() == Some(name),
            None => self.is_absent && self.asked_at == found.asked_at,
        }
    }

    fn end(&self) -> Duration {
        if self.is_absent {
            AGES.absent.stale
        } else {
            AGES.found.stale
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}
