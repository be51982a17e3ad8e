//! Parts of contacts that a CRM refuses permanently.
//!
//! A user may have no permission to see leads, or an account's plan may not include them: the CRM
//! refuses every such call. That is not a failure, and each further call is wasted. So the part is
//! left out, the answer is complete without it, and the CRM is asked again after a while. Each
//! replica remembers refusals itself; nothing is stored.

use std::collections::HashMap;
use std::hash::{Hash, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Stopwatch;
use crate::domain::LookupError;
use crate::domain::error::{BadReply, Unavailable};

/// How long a refusal is remembered. Permissions change rarely; a person may wait that long for a
/// change.
const BELIEVED: Duration = Duration::from_secs(15 * 60);

/// Refusals remembered for one connector, about 100 bytes each. Further parts are requested each
/// time.
const MOST: usize = 10_000;

/// Returns whether every further call for this part would be refused like this. A limit or an
/// outage is not a refusal. A 401 is, because the search under the same credential was answered.
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

/// Whether every other call would fail like this: the credential, the limit or the CRM as a whole
/// is the reason.
pub(crate) fn is_for_all(error: &LookupError) -> bool {
    !matches!(
        error,
        LookupError::CrmForbidden | LookupError::CrmBadReply(_)
    )
}

/// The error of a request that was not made, or of a reply that was not read, because it is too
/// large.
pub(super) const TOO_MUCH: LookupError = LookupError::CrmBadReply(BadReply::TooLarge);

/// Whether a request for fewer numbers or contacts may be answered: the statuses of a request that
/// is too large, or of one bad value among many.
pub(super) fn is_about_size(error: &LookupError) -> bool {
    match error {
        LookupError::CrmBadReply(BadReply::Status(status)) => {
            matches!(status, 400 | 413 | 414 | 422)
        }
        error => *error == TOO_MUCH,
    }
}

/// A part that may be refused: a keyed hash of its name, the credential and the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RefusalKey(u64);

/// The recent refusals of one CRM.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    hasher: RandomState,
    recent: Mutex<HashMap<RefusalKey, (Stopwatch, LookupError)>>,
}

impl Refusals {
    /// The key of a part, made of everything that a refusal may depend on.
    pub(super) fn key(&self, of: impl Hash) -> RefusalKey {
        RefusalKey(std::hash::BuildHasher::hash_one(&self.hasher, of))
    }

    /// How this part was refused recently.
    pub(super) fn known(&self, part: RefusalKey) -> Option<LookupError> {
        let recent = self.recent.lock();
        let (since, error) = recent.get(&part)?;
        is_believed(*since).then(|| error.clone())
    }

    /// Remembers a refusal.
    pub(super) fn add(&self, part: RefusalKey, error: &LookupError) {
        let mut recent = self.recent.lock();
        if recent.len() >= MOST {
            recent.retain(|_, (since, _)| is_believed(*since));
        }
        if recent.len() < MOST {
            recent.insert(part, (Stopwatch::start(), error.clone()));
        }
    }
}

fn is_believed(since: Stopwatch) -> bool {
    since.elapsed() < BELIEVED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sleep;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_for_a_while_and_for_its_part_only() {
        let refusals = Refusals::default();
        let (leads, deals) = (refusals.key("leads"), refusals.key("deals"));
        refusals.add(leads, &LookupError::CrmForbidden);
        sleep(BELIEVED.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(refusals.known(leads), Some(LookupError::CrmForbidden));
        assert_eq!(refusals.known(deals), None);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(refusals.known(leads), None);
        refusals.add(leads, &LookupError::CrmForbidden);
        assert!(refusals.known(leads).is_some(), "refused once more");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_take_no_more_room_than_they_may() {
        let refusals = Refusals::default();
        let note = |n: usize| refusals.add(refusals.key(n), &LookupError::CrmForbidden);
        (0..MOST + 10).for_each(note);
        assert_eq!(refusals.recent.lock().len(), MOST);
        assert!(
            refusals.known(refusals.key(0_usize)).is_some()
                && refusals.known(refusals.key(MOST)).is_none()
        );
        sleep(BELIEVED).await;
        note(MOST);
        assert_eq!(refusals.recent.lock().len(), 1, "old ones make room");
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
