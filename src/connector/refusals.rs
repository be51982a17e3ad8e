//! Parts of contacts that a CRM refuses for good.
//!
//! A user without the right to see leads, an account whose plan has none: the CRM says so to every
//! call. That is no failure, and a call for it is wasted. So such a part is left out, the answer is
//! complete without it, and the CRM is asked for it again after a while. Each replica remembers for
//! itself; nothing of it is stored.

use std::collections::HashMap;
use std::hash::{Hash, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Stopwatch;
use crate::domain::LookupError;
use crate::domain::error::{BadReply, Unavailable};

/// How long a refusal is believed. Rights change seldom, and then a person may wait for as long.
const BELIEVED: Duration = Duration::from_secs(15 * 60);

/// Refusals remembered for one connector, some 100 bytes each. What is more is asked for each time.
const MOST: usize = 10_000;

/// Whether every further call for this part would be refused like this. The status of a limit or an
/// outage is none, and a 401 beside a search that was answered says nothing about the credential.
pub(super) fn is_lasting(error: &LookupError) -> bool {
    match error {
        LookupError::CrmUnauthenticated | LookupError::CrmForbidden => true,
        LookupError::CrmBadReply(BadReply::Status(status)) => {
            matches!(status, 402 | 404 | 405 | 410 | 451)
        }
        LookupError::CrmUnavailable(Unavailable::Status { code, .. }) => *code == 501,
        _ => false,
    }
}

/// A refused part, as a keyed hash of its name, the credential and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Refused(u64);

/// What was refused lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    hasher: RandomState,
    known: Mutex<HashMap<Refused, (Stopwatch, LookupError)>>,
}

impl Refusals {
    /// The name of a part; everything that a refusal may depend on goes into it.
    pub(crate) fn name(&self, of: impl Hash) -> Refused {
        Refused(std::hash::BuildHasher::hash_one(&self.hasher, of))
    }

    /// How this part was refused lately.
    pub(crate) fn standing(&self, part: Refused) -> Option<LookupError> {
        let known = self.known.lock();
        let (since, error) = known.get(&part)?;
        (since.elapsed() < BELIEVED).then(|| error.clone())
    }

    /// Remembers a refusal.
    pub(crate) fn note(&self, part: Refused, error: &LookupError) {
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.retain(|_, (since, _)| since.elapsed() < BELIEVED);
        }
        if known.len() < MOST {
            known.insert(part, (Stopwatch::start(), error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sleep;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_for_a_while_and_for_its_part_only() {
        let refusals = Refusals::default();
        let (leads, deals) = (refusals.name("leads"), refusals.name("deals"));
        refusals.note(leads, &LookupError::CrmForbidden);
        sleep(BELIEVED.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(refusals.standing(leads), Some(LookupError::CrmForbidden));
        assert_eq!(refusals.standing(deals), None);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(refusals.standing(leads), None);
        refusals.note(leads, &LookupError::CrmForbidden);
        assert!(refusals.standing(leads).is_some(), "refused once more");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_take_no_more_room_than_they_may() {
        let refusals = Refusals::default();
        let note = |n: usize| refusals.note(refusals.name(n), &LookupError::CrmForbidden);
        (0..MOST + 10).for_each(note);
        assert_eq!(refusals.known.lock().len(), MOST);
        assert!(
            refusals.standing(refusals.name(0_usize)).is_some()
                && refusals.standing(refusals.name(MOST)).is_none()
        );
        sleep(BELIEVED).await;
        note(MOST);
        assert_eq!(refusals.known.lock().len(), 1, "old ones make room");
    }

    #[test]
    fn limits_and_outages_are_no_refusals() {
        let status = |code| LookupError::CrmBadReply(BadReply::Status(code));
        let away = |code| {
            LookupError::CrmUnavailable(Unavailable::Status {
                code,
                retry_after: None,
            })
        };
        for refusal in [
            LookupError::CrmUnauthenticated,
            LookupError::CrmForbidden,
            status(402),
            status(404),
            away(501),
        ] {
            assert!(is_lasting(&refusal), "{refusal}");
        }
        for failure in [
            LookupError::CrmRateLimited { retry_after: None },
            LookupError::CrmUnavailable(Unavailable::Timeout),
            LookupError::CrmBadReply(BadReply::Shape),
            away(500),
            away(503),
            status(400),
            status(202),
        ] {
            assert!(!is_lasting(&failure), "{failure}");
        }
    }
}
