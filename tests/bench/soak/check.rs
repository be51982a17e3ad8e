//! Judges an answer by the truth of its time.

use std::time::Duration;

use contactd::clock::Instant;
use contactd::pb::v1::{FindContactResponse, Freshness, Lookup, Source};

use super::Soak;
use super::truth::{Owner, knows};
use super::verdicts::Wrong;
use crate::support::daemon::names;

/// `lookup.timeout` in the settings, and the ages.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const FOUND: Ages = Ages {
    fresh: Duration::from_secs(3),
    end: Duration::from_secs(15),
};
pub(crate) const ABSENT: Ages = Ages {
    fresh: Duration::from_secs(1),
    end: Duration::from_secs(5),
};

/// Within this time the other replicas have heard of an invalidation.
const HEARD: Duration = Duration::from_secs(1);
/// How much too low a stated age may be: replicas know Redis' time only to within a round trip, and
/// count whole milliseconds.
const INEXACT: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ages {
    pub(crate) fresh: Duration,
    pub(crate) end: Duration,
}

/// A look-up, as its caller made it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) replica: usize,
    pub(crate) token: String,
    /// The claimed user id, which may be another's.
    pub(crate) user: usize,
    pub(crate) number: usize,
    pub(crate) began: Instant,
}

/// When the CRM may have been asked for an answer.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// By the age that the answer states.
    stated: Instant,
    /// Since the last invalidation that this replica must know.
    valid: Option<Instant>,
    to: Instant,
}

impl Soak {
    /// Judges an answer that was received at `to`.
    pub(crate) fn check(&self, asked: &Asked, answer: &FindContactResponse, to: Instant) {
        let person = match self.truth.owner(&asked.token) {
            // A revoked one is believed until it has to prove itself again.
            Owner::Person(person) | Owner::Revoked(person) => person,
            Owner::Nobody => return self.wrong(Wrong::Stranger, asked, "a made-up token"),
        };
        let age = self.check_age(asked, answer);
        self.remember(asked, answer, age);
        let late = self.lateness.longest(asked.began - HEARD, to);
        let span = Span {
            stated: asked
                .began
                .checked_sub(age + INEXACT + late)
                .unwrap_or(asked.began),
            valid: self.valid_since(asked, source(answer)),
            to,
        };
        if let Some(valid) = span.valid
            && to + HEARD / 2 + INEXACT + late < valid + age
        {
            let since = to.saturating_duration_since(valid);
            self.wrong(
                Wrong::BeforeInvalidation,
                asked,
                format!("age {age:?}, invalidated {since:?} ago"),
            );
        }
        let shown = names(answer);
        let how = answer.lookup.clone().unwrap_or_default();
        for name in &shown {
            self.check_name(asked, person, name, (span, &how));
        }
        let is_complete = answer.lookup.as_ref().is_some_and(|lookup| lookup.complete);
        if shown.is_empty() && is_complete && knows(person, asked.number) {
            let may = |from| {
                self.truth
                    .between(asked.number, from, to)
                    .iter()
                    .any(|state| !state.exists)
            };
            let wrong = if may(span.stated) {
                Wrong::BeforeInvalidation
            } else {
                Wrong::Absent
            };
            if !may(span.from()) {
                self.wrong(wrong, asked, format!("nobody, age {age:?}, {span:?}"));
            }
        }
    }

    /// Remembers a complete answer. A repeat of its look-up should find it stored.
    fn remember(&self, asked: &Asked, answer: &FindContactResponse, age: Duration) {
        let is_complete = answer.lookup.as_ref().is_some_and(|lookup| lookup.complete);
        if let Some(loaded) = asked.began.checked_sub(age)
            && is_complete
        {
            let ages = if names(answer).is_empty() {
                ABSENT
            } else {
                FOUND
            };
            self.repeats.answered(asked, loaded, ages.fresh);
        }
    }

    fn wrong(&self, wrong: Wrong, asked: &Asked, what: impl std::fmt::Display) {
        let what = format!("{what}; {asked:?}");
        self.verdicts.wrong(wrong, Some(asked.replica), what);
    }

    /// Judges what the answer says of its age, and returns it.
    fn check_age(&self, asked: &Asked, answer: &FindContactResponse) -> Duration {
        let lookup = answer.lookup.clone().unwrap_or_default();
        let age = lookup
            .age
            .and_then(|age| Duration::try_from(age).ok())
            .unwrap_or_default();
        let ages = if !names(answer).is_empty() && lookup.complete {
            FOUND
        } else {
            ABSENT
        };
        // Absence that repeats is fresh for longer, up to its hard end.
        let fresh = if names(answer).is_empty() {
            ages.end
        } else {
            ages.fresh
        };
        // What a load brings is judged by its age when the caller came to it, and shared by callers
        // who come while a look-up may take.
        let (judged, end) = if lookup.source() == Source::Crm {
            let came = age.saturating_sub(asked.began.elapsed());
            (came, ages.end.max(LOOKUP_TIMEOUT))
        } else {
            (age, ages.end)
        };
        if judged >= end {
            self.wrong(Wrong::PastItsEnd, asked, format!("{lookup:?}"));
        } else if judged >= fresh && lookup.freshness() == Freshness::Fresh {
            self.wrong(Wrong::NotFresh, asked, format!("{lookup:?}"));
        }
        age
    }

    fn check_name(&self, asked: &Asked, person: usize, name: &str, (span, how): (Span, &Lookup)) {
        let words: Vec<&str> = name.split(' ').collect();
        let [owner, number, version] = words[..] else {
            return self.wrong(Wrong::Number, asked, format!("a name of nobody: {name}"));
        };
        if owner != format!("p{person}") {
            return self.wrong(Wrong::User, asked, format!("{name} for {person}"));
        }
        if number != asked.number.to_string() {
            return self.wrong(Wrong::Number, asked, format!("{name} for {}", asked.number));
        }
        let was = |from| {
            let known = self.truth.between(asked.number, from, span.to);
            known
                .iter()
                .any(|state| state.exists && state.version.to_string() == version)
        };
        if was(span.from()) {
            return;
        }
        let wrong = if was(span.stated) {
            Wrong::BeforeInvalidation
        } else {
            Wrong::OlderThanStated
        };
        let replaced = self
            .truth
            .replaced(asked.number, version)
            .map(|at| span.to - at);
        let what = format!(
            "version {version}, replaced {replaced:?} before; {:?} {:?}, age {:?}; {span:?}",
            how.source(),
            how.freshness(),
            how.age
        );
        self.wrong(wrong, asked, what);
    }

    /// When the last invalidation was requested, of those that the replica must have known of when
    /// the look-up was made.
    fn valid_since(&self, asked: &Asked, source: Source) -> Option<Instant> {
        if self.troubles.data_was_lost(asked.began, asked.began) {
            return None;
        }
        // What a replica has read since Redis lost data may be in its memory until it notices.
        // While it does not reach Redis, that takes longer, but it reads nothing more.
        let loss = self.troubles.unnoticed_loss(asked.replica, asked.began);
        let loss = loss.filter(|_| source == Source::Memory);
        let all = self.truth.invalidations(asked.user, asked.number);
        let known = all.into_iter().filter(|forgotten| {
            let is_own = forgotten.replica == asked.replica;
            let due = if loss.is_some_and(|loss| !is_own || forgotten.asked <= loss) {
                None
            } else if is_own {
                Some(forgotten.confirmed)
            } else {
                let late = self.lateness.longest(forgotten.confirmed, asked.began);
                let due = forgotten.confirmed + HEARD + late;
                self.troubles
                    .known_by(asked.replica, forgotten.confirmed, due)
            };
            due.is_some_and(|due| due <= asked.began)
        });
        known.map(|forgotten| forgotten.asked).max()
    }
}

fn source(answer: &FindContactResponse) -> Source {
    let lookup = answer.lookup.as_ref();
    lookup.map_or(Source::Unspecified, Lookup::source)
}

impl Span {
    fn from(self) -> Instant {
        self.valid
            .map_or(self.stated, |valid| valid.max(self.stated))
    }
}
