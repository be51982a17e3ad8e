//! What contradicts the truth, and what else was counted.

use std::collections::BTreeMap;
use std::fmt;

use contactd::clock::{self, Instant};
use parking_lot::Mutex;

use super::plan::Kind;

/// How many contradictions are described. All are counted.
const DESCRIBED: usize = 40;

/// What is never right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// The contact of another user.
    User,
    /// The contact of another number.
    Number,
    /// Somebody whom the CRM does not know got an answer.
    Stranger,
    /// An answer past its hard end.
    PastItsEnd,
    /// An answer called fresh past its fresh age.
    NotFresh,
    /// The CRM has not said this since the moment that the answer states.
    OlderThanStated,
    /// From before a confirmed invalidation.
    BeforeInvalidation,
    /// Nobody, although the CRM has the contact.
    Absent,
    /// More calls in a window than the CRM allows.
    LimitExceeded,
    /// Neither answered nor refused within the deadline.
    Late,
    /// A replica that runs does not answer.
    Unreachable,
    /// A credential that the CRM accepts was refused.
    TrueTokenRefused,
    /// A replica ended, panicked, or did not stop in order.
    ReplicaFailed,
    /// Early hints became an answer.
    HintsAnswered,
    /// Repeats are no hits after the faults.
    HitRate,
    /// Something is left of those who left.
    LeftOver,
}

#[derive(Debug, Default)]
struct All {
    active: Vec<Kind>,
    contradictions: BTreeMap<Wrong, usize>,
    described: usize,
    counts: BTreeMap<String, usize>,
}

/// The counts of a run.
#[derive(Debug)]
pub(crate) struct Verdicts {
    began: Instant,
    all: Mutex<All>,
}

impl Verdicts {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            all: Mutex::default(),
        }
    }

    /// A fault begins.
    pub(crate) fn begins(&self, kind: Kind) {
        let mut all = self.all.lock();
        all.active.push(kind);
        *all.counts.entry(format!("fault {kind:?}")).or_default() += 1;
    }

    pub(crate) fn ends(&self, kind: Kind) {
        let mut all = self.all.lock();
        if let Some(at) = all.active.iter().position(|active| *active == kind) {
            all.active.remove(at);
        }
    }

    /// A contradiction; `replica` if it is about one.
    pub(crate) fn wrong(&self, wrong: Wrong, replica: Option<usize>, what: impl fmt::Display) {
        let mut all = self.all.lock();
        *all.contradictions.entry(wrong).or_default() += 1;
        all.described += 1;
        if all.described <= DESCRIBED {
            let at = (clock::now() - self.began).as_secs_f64();
            let replica = replica.map_or("-".to_owned(), |replica| replica.to_string());
            eprintln!(
                "WRONG {wrong:?} at {at:.3} s, replica {replica}, during {:?}: {what}",
                all.active
            );
        }
    }

    /// How often this was counted.
    pub(crate) fn counted(&self, what: &str) -> usize {
        self.all.lock().counts.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn count(&self, what: &str) {
        let mut all = self.all.lock();
        match all.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(all.counts.insert(what.to_owned(), 1)),
        }
    }

    /// How many contradictions there are.
    pub(crate) fn contradictions(&self) -> usize {
        self.all.lock().contradictions.values().sum()
    }

    /// All counts, and "contradictions: 0" at the end if there are none.
    pub(crate) fn report(&self) -> String {
        let all = self.all.lock();
        let counts = all.counts.iter().map(|(what, n)| format!("{what}: {n}\n"));
        let kinds = all.contradictions.iter();
        let kinds = kinds.map(|(wrong, n)| format!("WRONG {wrong:?}: {n}\n"));
        let total: usize = all.contradictions.values().sum();
        counts.chain(kinds).collect::<String>() + &format!("contradictions: {total}")
    }
}
