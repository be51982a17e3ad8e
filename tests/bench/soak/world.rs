//! What is true: whose a token is, what the CRM knows, what was forgotten when. Whatever
//! contradicts it is a fault.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contactd::clock::{self, Instant};
use contactd::pb::v1::FindContactResponse;
use parking_lot::Mutex;

use crate::faults::Mood;
use crate::support::crm::{Seen, example, user_named};
use crate::support::daemon::names;
use crate::support::fleet::number;
use crate::support::{Reply, contact};

pub(super) const PEOPLE: usize = 30;
pub(super) const NUMBERS: usize = 400;
/// The CRM's limit for each credential and for each person.
pub(super) const RATE: usize = 20;
pub(super) const PER: Duration = Duration::from_secs(1);
/// Within this time the other replicas have heard of an invalidation.
const HEARD: Duration = Duration::from_secs(1);
/// Within this time after its return Redis is used again, and what was missed is read.
const BACK: Duration = Duration::from_secs(3);
/// So many faults are described; the others are counted.
const DESCRIBED: usize = 20;

/// Whose credential a look-up has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Person(usize),
    /// It was good once.
    Revoked,
    Nobody,
}

/// A look-up, as its caller made it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) replica: usize,
    pub(super) token: String,
    /// The claimed user id, which may be another's.
    pub(super) user: usize,
    pub(super) number: usize,
    pub(super) began: Instant,
}

/// A confirmed invalidation: from then on no older version.
#[derive(Debug)]
struct Forgotten {
    replica: usize,
    version: u64,
    at: Instant,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) mood: Mutex<Mood>,
    /// The serial numbers of each person's tokens that are good.
    tokens: Vec<Mutex<Range<u64>>>,
    /// How often each number was edited.
    versions: Vec<AtomicU64>,
    forgotten: Mutex<HashMap<(usize, usize), VecDeque<Forgotten>>>,
    /// When Redis was in trouble.
    outages: Mutex<Vec<(Instant, Option<Instant>)>>,
    arrivals: Mutex<HashMap<String, VecDeque<Instant>>>,
    /// Calls in the fullest window of a credential, and of a person.
    pub(super) fullest: [AtomicU64; 2],
    faults: Mutex<Vec<String>>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            mood: Mutex::new(Mood::Well),
            tokens: (0..PEOPLE).map(|_| Mutex::new(0..2)).collect(),
            versions: (0..NUMBERS).map(|_| AtomicU64::new(1)).collect(),
            forgotten: Mutex::default(),
            outages: Mutex::default(),
            arrivals: Mutex::default(),
            fullest: Default::default(),
            faults: Mutex::default(),
        }
    }

    /// A person's token: usually a good one.
    pub(super) fn token(&self, person: usize, rng: &mut fastrand::Rng) -> String {
        let good = self.tokens[person].lock().clone();
        match rng.u8(..100) {
            0..5 => format!("Bearer false.{}", rng.u64(..)),
            5..10 if good.start > 0 => format!("Bearer p{person}.{}", good.start - 1),
            _ => format!("Bearer p{person}.{}", rng.u64(good)),
        }
    }

    /// A person gets another token, and may lose the oldest one.
    pub(super) fn rotate(&self, person: usize) {
        let mut good = self.tokens[person].lock();
        good.end += 1;
        good.start = good.start.max(good.end - 3);
    }

    pub(super) fn owner(&self, token: &str) -> Owner {
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
            Owner::Revoked
        }
    }

    /// Changes a number in the CRM; its version from now on.
    pub(super) fn edit(&self, number: usize) -> u64 {
        self.versions[number].fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A replica has confirmed that these versions are the oldest to be shown for `user` from now
    /// on.
    pub(super) fn forgot(&self, replica: usize, user: usize, oldest: &[(usize, u64)]) {
        let (at, mut all) = (clock::now(), self.forgotten.lock());
        for &(number, version) in oldest {
            let some = all.entry((user, number)).or_default();
            some.push_back(Forgotten {
                replica,
                version,
                at,
            });
            some.drain(..some.len().saturating_sub(16));
        }
    }

    pub(super) fn redis_in_trouble(&self, is: bool) {
        let mut outages = self.outages.lock();
        if is {
            outages.push((clock::now(), None));
        } else if let Some((_, end)) = outages.last_mut() {
            *end = Some(clock::now());
        }
    }

    /// When `replica` must know; none while Redis is in trouble.
    fn due(&self, forgotten: &Forgotten, replica: usize) -> Option<Instant> {
        if forgotten.replica == replica {
            return Some(forgotten.at);
        }
        let mut due = forgotten.at + HEARD;
        for (begin, end) in self.outages.lock().iter() {
            if *begin <= due && end.is_none_or(|end| end + BACK >= forgotten.at) {
                due = due.max((*end)? + BACK);
            }
        }
        Some(due)
    }

    /// What the CRM says.
    pub(super) fn reply(&self, seen: &Seen) -> Reply {
        let token = seen.authorization.clone().unwrap_or_default();
        let owner = self.owner(&token);
        self.arrived(&token, owner);
        if let Some(reply) = self.mood.lock().stumble() {
            return reply;
        }
        let Owner::Person(person) = owner else {
            return Reply::status(401);
        };
        if seen.asks_who() {
            return user_named(&format!("p{person}"));
        }
        let phone = seen.param("phone").unwrap_or_default();
        let known = (0..NUMBERS).find(|n| knows(person, *n) && number(*n) == phone);
        let record = known.map(|n| {
            let version = self.versions[n].load(Ordering::SeqCst);
            contact(1, &format!("p{person} {n} {version}"), phone)
        });
        example(seen, &record.into_iter().collect::<Vec<_>>())
    }

    fn arrived(&self, token: &str, owner: Owner) {
        let mut arrivals = self.arrivals.lock();
        let now = clock::now();
        let mut count = |key: String| {
            let window = arrivals.entry(key).or_default();
            while window
                .front()
                .is_some_and(|at| now.duration_since(*at) >= PER)
            {
                window.pop_front();
            }
            window.push_back(now);
            window.len()
        };
        let calls = count(token.to_owned());
        if calls > RATE {
            self.fault(format!("{calls} calls of a credential in one window"));
        }
        self.fullest[0].fetch_max(calls as u64, Ordering::Relaxed);
        if let Owner::Person(person) = owner {
            self.fullest[1].fetch_max(count(format!("p{person}")) as u64, Ordering::Relaxed);
        }
    }

    /// Judges an answer.
    pub(super) fn check(&self, asked: &Asked, answer: &FindContactResponse) {
        let person = match self.owner(&asked.token) {
            Owner::Person(person) => person,
            Owner::Nobody => {
                return self.fault("a token that was never good got an answer".to_owned());
            }
            // It is believed until it has to prove itself again.
            Owner::Revoked => return self.check_owner(asked, answer),
        };
        self.check_owner(asked, answer);
        let is_complete = answer.lookup.as_ref().is_some_and(|lookup| lookup.complete);
        if names(answer).is_empty() && is_complete && knows(person, asked.number) {
            self.fault(format!("nobody instead of a contact: {asked:?}"));
        }
    }

    fn check_owner(&self, asked: &Asked, answer: &FindContactResponse) {
        let owner = asked
            .token
            .trim_start_matches("Bearer ")
            .split('.')
            .next()
            .unwrap_or_default();
        for name in names(answer) {
            let version = name
                .strip_prefix(&format!("{owner} {} ", asked.number))
                .and_then(|rest| rest.parse().ok());
            match version {
                Some(version) => self.check_version(asked, version),
                None => self.fault(format!("the answer of another, {name}: {asked:?}")),
            }
        }
    }

    fn check_version(&self, asked: &Asked, version: u64) {
        let all = self.forgotten.lock();
        for forgotten in all.get(&(asked.user, asked.number)).into_iter().flatten() {
            if version < forgotten.version
                && self
                    .due(forgotten, asked.replica)
                    .is_some_and(|due| due <= asked.began)
            {
                let late = asked.began - forgotten.at;
                self.fault(format!(
                    "version {version}, {late:?} after {forgotten:?} was confirmed: {asked:?}"
                ));
            }
        }
    }

    /// A credential was refused.
    pub(super) fn refused(&self, asked: &Asked) {
        if matches!(self.owner(&asked.token), Owner::Person(_)) {
            self.fault(format!("a true token was refused: {asked:?}"));
        }
    }

    pub(super) fn fault(&self, what: String) {
        let mut faults = self.faults.lock();
        if faults.len() < DESCRIBED {
            eprintln!("FAULT {what}");
        }
        faults.push(what);
    }

    pub(super) fn faults(&self) -> usize {
        self.faults.lock().len()
    }
}

/// Whether a person has a number in the CRM.
fn knows(person: usize, number: usize) -> bool {
    !(person + number).is_multiple_of(5)
}
