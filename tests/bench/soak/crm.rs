//! The CRM: it knows the truth, counts its calls in a sliding window, and stumbles as it is told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contactd::clock::{self, Instant};
use parking_lot::Mutex;

use super::Soak;
use super::plan::Kind;
use super::truth::{NUMBERS, Owner, knows};
use super::verdicts::Wrong;
use crate::support::crm::{Seen, example, user_named};
use crate::support::fleet::number;
use crate::support::{Reply, contact};

/// The CRM's limit for each credential.
pub(crate) const RATE: usize = 20;
pub(crate) const PER: Duration = Duration::from_secs(1);
/// Its limit for a while.
const LOWER: usize = 6;
/// If this process is later than this, two calls may seem closer together than they were.
const STARVED: Duration = Duration::from_millis(400);

/// What the CRM remembers.
#[derive(Debug, Default)]
pub(crate) struct Crm {
    stumbles: Mutex<Option<Kind>>,
    arrivals: Mutex<HashMap<String, VecDeque<Instant>>>,
    /// Calls in the fullest window of a credential.
    pub(crate) fullest: AtomicUsize,
    pub(crate) calls: AtomicUsize,
}

impl Crm {
    /// Stumbles like this from now on.
    pub(crate) fn becomes(&self, kind: Option<Kind>) {
        *self.stumbles.lock() = kind;
    }

    /// Calls of this credential in the window that ends now.
    fn arrived(&self, token: &str) -> usize {
        let (mut arrivals, now) = (self.arrivals.lock(), clock::now());
        if arrivals.len() > 10_000 {
            arrivals.retain(|_, times| times.back().is_some_and(|last| now - *last < PER));
        }
        let window = arrivals.entry(token.to_owned()).or_default();
        while window
            .front()
            .is_some_and(|at| now.duration_since(*at) >= PER)
        {
            window.pop_front();
        }
        window.push_back(now);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.fullest.fetch_max(window.len(), Ordering::Relaxed);
        window.len()
    }
}

impl Soak {
    /// What the CRM replies.
    pub(crate) fn reply(&self, seen: &Seen) -> Reply {
        let token = seen.authorization.clone().unwrap_or_default();
        let calls = self.crm.arrived(&token);
        if calls > RATE {
            self.judge_excess(&token, calls);
            return Reply::status(429).header("retry-after", "1");
        }
        let stumbles = *self.crm.stumbles.lock();
        if stumbles == Some(Kind::CrmLowerLimit) && calls > LOWER {
            self.verdicts.count("crm: over its lower limit");
            return Reply::status(429).header("retry-after", "1");
        }
        let told = self.truthful(seen, &token);
        match stumbles.filter(|_| fastrand::u8(..100) < 40) {
            None => told,
            Some(kind) => {
                self.verdicts.count(&format!("crm: {kind:?}"));
                stumble(kind, seen, told)
            }
        }
    }

    fn judge_excess(&self, token: &str, calls: usize) {
        let now = clock::now();
        let late = self.lateness.longest(now - 3 * PER, now);
        if late > STARVED {
            self.verdicts.count("limit exceeded on a starved machine");
            return;
        }
        let redis = if self.troubles.redis_was_down(now - PER, now) {
            "in trouble"
        } else {
            "up"
        };
        let what = format!("{calls} calls of {token} in {PER:?}, {late:?} late, Redis {redis}");
        self.verdicts.wrong(Wrong::LimitExceeded, None, what);
    }

    fn truthful(&self, seen: &Seen, token: &str) -> Reply {
        let Owner::Person(person) = self.truth.owner(token) else {
            return Reply::status(401);
        };
        if seen.asks_who() {
            return user_named(&format!("p{person}"));
        }
        let phone = seen.param("phone").unwrap_or_default();
        let known = (0..NUMBERS).find(|n| knows(person, *n) && number(*n) == phone);
        let record = known.and_then(|n| {
            let state = self.truth.now(n);
            let name = format!("p{person} {n} {}", state.version);
            state.exists.then(|| contact(1, &name, phone))
        });
        example(seen, &record.into_iter().collect::<Vec<_>>())
    }
}

fn stumble(kind: Kind, seen: &Seen, told: Reply) -> Reply {
    let millis = |range| Duration::from_millis(fastrand::u64(range));
    match kind {
        Kind::CrmSlow => told.after(millis(100..900)),
        Kind::CrmSlowDetails if seen.path.ends_with("/deals") => told.after(millis(300..950)),
        // Longer than anybody waits.
        Kind::CrmStalled => told.after(millis(2_000..4_000)),
        Kind::CrmCut => Reply::cut(),
        Kind::CrmLimiting => Reply::status(429).header("retry-after", "1"),
        Kind::CrmLimitingSilently => Reply::status(429),
        Kind::CrmFailing => {
            Reply::status(fastrand::choice([500, 502, 503, 504, 408]).unwrap_or(500))
        }
        Kind::CrmHostile => hostile(),
        _ => told,
    }
}

fn hostile() -> Reply {
    match fastrand::u8(..8) {
        0 => Reply::cut(),
        1 => Reply::drip(),
        2 => Reply::huge(1 << 20),
        3 => Reply::html(),
        4 => Reply::status(302).header("location", "http://127.0.0.1:1/"),
        5 => Reply::text("application/json", "[".repeat(100_000)),
        6 => Reply::bytes("application/json", vec![0xff; 1_000]).header("content-encoding", "gzip"),
        _ => Reply::text(
            "application/json",
            "{\"contacts\": {}, \"next_page\": \"x\"}".to_owned(),
        ),
    }
}
