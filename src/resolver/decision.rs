//! What to do about a question, decided from what is known locally.
//!
//! Decides only. Knows neither how a decision is carried out, nor whether there is room for it.

use super::question::{Question, Trigger};
use crate::admission::Trust;
use crate::cache::Stored;
use crate::domain::Freshness;

/// What the caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) trigger: Trigger,
    pub(crate) only_if_cached: bool,
}

/// What the decision needs to know of a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredFacts {
    /// Never `Expired`.
    pub(crate) freshness: Freshness,
    /// Whether it says that the CRM has no such contact.
    pub(crate) is_nobody: bool,
}

/// What to do about a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A person wants the CRM's current answer.
    Refresh,
    /// The stored answer is served.
    Serve,
    /// The stored answer is stale: it is served, and refreshed in the background.
    ServeAndRefresh,
    /// The stored answer is a stale "nobody": a ringing phone first waits for the CRM for a moment.
    AwaitNews,
    /// An answer is stored, but the CRM has to accept the credential again.
    Renew,
    /// The credential is unknown: the CRM is asked whose it is.
    Identify,
    /// Nothing is stored: the CRM is searched.
    Load,
    /// No answer may be served, and no call may be made.
    NotCached,
}

impl From<&Question> for Wish {
    fn from(question: &Question) -> Self {
        Self {
            trigger: question.trigger,
            only_if_cached: question.only_if_cached,
        }
    }
}

impl From<&Stored> for StoredFacts {
    fn from(stored: &Stored) -> Self {
        Self {
            freshness: stored.freshness,
            is_nobody: stored.entry.count() == 0,
        }
    }
}

/// Decides by the trust in the credential, and by what is stored for its identity.
pub(crate) fn decide(wish: Wish, trust: Option<Trust>, stored: Option<StoredFacts>) -> Decision {
    if wish.trigger == Trigger::ManualRefresh {
        return Decision::Refresh;
    }
    match (trust, stored) {
        (Some(Trust::Verified), Some(stored)) => decide_stored(wish, stored),
        _ if wish.only_if_cached => Decision::NotCached,
        (None, _) => Decision::Identify,
        (Some(Trust::Lapsed), Some(_)) => Decision::Renew,
        (Some(_), None) => Decision::Load,
    }
}

fn decide_stored(wish: Wish, stored: StoredFacts) -> Decision {
    if stored.freshness == Freshness::Fresh || wish.only_if_cached {
        Decision::Serve
    } else if stored.is_nobody && wish.trigger == Trigger::IncomingCall {
        Decision::AwaitNews
    } else {
        Decision::ServeAndRefresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RINGS: Wish = wish(Trigger::IncomingCall, false);
    const MATCHES: Wish = wish(Trigger::InitialMatch, false);
    const CACHED_ONLY: Wish = wish(Trigger::IncomingCall, true);
    const REFRESH: Wish = wish(Trigger::ManualRefresh, false);
    const FRESH: StoredFacts = facts(Freshness::Fresh, false);
    const STALE: StoredFacts = facts(Freshness::Stale, false);
    const FRESH_NOBODY: StoredFacts = facts(Freshness::Fresh, true);
    const STALE_NOBODY: StoredFacts = facts(Freshness::Stale, true);

    const fn wish(trigger: Trigger, only_if_cached: bool) -> Wish {
        Wish {
            trigger,
            only_if_cached,
        }
    }

    const fn facts(freshness: Freshness, is_nobody: bool) -> StoredFacts {
        StoredFacts {
            freshness,
            is_nobody,
        }
    }

    #[test]
    fn under_a_verified_credential_age_and_trigger_decide() {
        let decided = |wish, stored| decide(wish, Some(Trust::Verified), stored);
        for (wish, stored, expected) in [
            (RINGS, Some(FRESH), Decision::Serve),
            (RINGS, Some(FRESH_NOBODY), Decision::Serve),
            (RINGS, Some(STALE), Decision::ServeAndRefresh),
            (RINGS, Some(STALE_NOBODY), Decision::AwaitNews),
            (RINGS, None, Decision::Load),
            (MATCHES, Some(STALE_NOBODY), Decision::ServeAndRefresh),
            (CACHED_ONLY, Some(STALE), Decision::Serve),
            (CACHED_ONLY, Some(STALE_NOBODY), Decision::Serve),
            (CACHED_ONLY, None, Decision::NotCached),
            (REFRESH, Some(FRESH), Decision::Refresh),
        ] {
            assert_eq!(decided(wish, stored), expected, "{wish:?} {stored:?}");
        }
    }

    #[test]
    fn nothing_stored_is_served_before_the_crm_accepts_the_credential() {
        for stored in [FRESH, STALE, FRESH_NOBODY, STALE_NOBODY] {
            let decided = |wish, trust| decide(wish, trust, Some(stored));
            assert_eq!(decided(RINGS, Some(Trust::Lapsed)), Decision::Renew);
            assert_eq!(decided(RINGS, None), Decision::Identify);
            assert_eq!(decided(REFRESH, None), Decision::Refresh);
            for trust in [Some(Trust::Lapsed), None] {
                assert_eq!(decided(CACHED_ONLY, trust), Decision::NotCached);
            }
        }
        assert_eq!(decide(RINGS, Some(Trust::Lapsed), None), Decision::Load);
        assert_eq!(decide(RINGS, None, None), Decision::Identify);
    }
}
