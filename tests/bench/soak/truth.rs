//! What is true, with its times: whose a token is, which contact a number had when, and what was
//! invalidated when.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use contactd::clock::{self, Instant};
use fastrand::Rng;
use parking_lot::Mutex;

pub(crate) const PEOPLE: usize = 30;
pub(crate) const NUMBERS: usize = 400;
/// Longer than any answer lives.
const KEPT: Duration = Duration::from_secs(120);

/// Whose credential a look-up has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Person(usize),
    /// It was good once.
    Revoked(usize),
    Nobody,
}

/// What the CRM knows of a number, from a moment on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    from: Instant,
    pub(crate) version: u64,
    pub(crate) exists: bool,
}

/// A confirmed invalidation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forgotten {
    pub(crate) replica: usize,
    pub(crate) asked: Instant,
    pub(crate) confirmed: Instant,
}

#[derive(Debug)]
pub(crate) struct Truth {
    /// The serial numbers of each person's tokens that are good.
    tokens: Vec<Mutex<Range<u64>>>,
    numbers: Vec<Mutex<VecDeque<State>>>,
    /// By user and number.
    forgotten: Mutex<HashMap<(usize, usize), VecDeque<Forgotten>>>,
}

impl Truth {
    pub(crate) fn new() -> Self {
        let first = State {
            from: clock::now(),
            version: 1,
            exists: true,
        };
        let history = || Mutex::new(VecDeque::from([first]));
        Self {
            tokens: (0..PEOPLE).map(|_| Mutex::new(0..2)).collect(),
            numbers: (0..NUMBERS).map(|_| history()).collect(),
            forgotten: Mutex::default(),
        }
    }

    /// A person's token: usually a good one.
    pub(crate) fn token(&self, person: usize, rng: &mut Rng) -> String {
        let good = self.tokens[person].lock().clone();
        match rng.u8(..100) {
            0..3 => format!("Bearer false.{}", rng.u64(..)),
            3..6 if good.start > 0 => format!("Bearer p{person}.{}", good.start - 1),
            _ => format!("Bearer p{person}.{}", rng.u64(good)),
        }
    }

    /// A person gets another token, and may lose the oldest one.
    pub(crate) fn rotate(&self, person: usize) {
        let mut good = self.tokens[person].lock();
        good.end += 1;
        good.start = good.start.max(good.end - 3);
    }

    pub(crate) fn owner(&self, token: &str) -> Owner {
        let parts = token
            .strip_prefix("Bearer p")
            .and_then(|rest| rest.split_once('.'));
        let Some((Ok(person), Ok(serial))) =
            parts.map(|(person, serial)| (person.parse::<usize>(), serial.parse()))
        else {
            return Owner::Nobody;
        };
        if self.tokens[person].lock().contains(&serial) {
            Owner::Person(person)
        } else {
            Owner::Revoked(person)
        }
    }

    /// Changes a number in the CRM: another name, or no contact any more, or one again.
    pub(crate) fn edit(&self, number: usize, rng: &mut Rng) {
        let mut history = self.numbers[number].lock();
        let (now, last) = (clock::now(), history[history.len() - 1]);
        history.push_back(State {
            from: now,
            version: last.version + 1,
            exists: !last.exists || rng.u8(..4) > 0,
        });
        while history.len() > 1 && history[1].from + KEPT < now {
            history.pop_front();
        }
    }

    /// What the CRM knows of a number now.
    pub(crate) fn now(&self, number: usize) -> State {
        let history = self.numbers[number].lock();
        history[history.len() - 1]
    }

    /// What the CRM knew of a number from one moment to another.
    pub(crate) fn between(&self, number: usize, from: Instant, to: Instant) -> Vec<State> {
        let history = self.numbers[number].lock();
        let ends = history.iter().skip(1).map(|next| Some(next.from));
        let states = history.iter().zip(ends.chain([None]));
        let known = states
            .filter(|(state, end)| state.from <= to && end.is_none_or(|end| end >= from))
            .map(|(state, _)| *state);
        known.collect()
    }

    /// When the CRM replaced a version; `None` if it is the latest, or replaced long ago.
    pub(crate) fn replaced(&self, number: usize, version: &str) -> Option<Instant> {
        let history = self.numbers[number].lock();
        let is_it = |state: &State| state.version.to_string() == version;
        let at = history.iter().position(is_it)?;
        history.get(at + 1).map(|next| next.from)
    }

    /// A replica has confirmed that it invalidated these numbers for `user`.
    pub(crate) fn forgot(&self, user: usize, numbers: &[usize], forgotten: Forgotten) {
        let mut all = self.forgotten.lock();
        for number in numbers {
            let some = all.entry((user, *number)).or_default();
            some.push_back(forgotten);
            some.drain(..some.len().saturating_sub(16));
        }
    }

    pub(crate) fn invalidations(&self, user: usize, number: usize) -> Vec<Forgotten> {
        let all = self.forgotten.lock();
        all.get(&(user, number))
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }
}

/// Whether a person has a number in the CRM, as long as there is a contact for it.
pub(crate) fn knows(person: usize, number: usize) -> bool {
    !(person + number).is_multiple_of(5)
}
