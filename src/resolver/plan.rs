//! What a look-up would do now: the decision about its question, and whether the CRM could be
//! asked. Asks nobody.

use std::time::Duration;

use super::decision::Decision;
use crate::admission::Trust;
use crate::domain::Freshness;

/// What stands between a look-up and the CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CrmAccess {
    /// Nothing, as far as known.
    Open,
    /// A refresh of this question failed a moment ago. Only somebody without an answer asks again.
    Rests,
    /// There is no place to wait, or none for a load.
    Full,
    /// The quota has no call before the deadline. There is one after this time, as far as known.
    NoCallBefore(Duration),
}

/// What a look-up would do now, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupPlan {
    /// A fresh answer is stored.
    ServeFresh,
    /// A stale answer is stored, and no call is wanted.
    ServeOnlyStored,
    /// A stale answer is stored. It is refreshed in the background.
    ServeStale,
    /// A stale "nobody" is stored, and the CRM cannot be asked in time.
    ServeWithoutNews,
    /// A stale "nobody" is stored: contactd waits for the CRM for a moment.
    AwaitNews,
    /// A person wants the CRM's current answer.
    Refresh,
    /// Nothing is stored.
    Load,
    /// The CRM has not accepted the credential for a while.
    Renew,
    /// The CRM has not accepted the credential for this user.
    Identify,
    /// Only a stored answer is wanted, and the credential may see none.
    NotCached,
    /// There is no place for it.
    Full,
    /// The quota has no call left before the deadline. The next one is free after this time.
    NoCallBefore(Duration),
}

/// What a look-up does after this decision. `stored` is the freshness of the stored answer that the
/// decision is about. Under a lapsed credential, the plan does not reveal whether an answer is
/// stored.
pub(super) fn plan(
    decision: Decision,
    (trust, stored): (Option<Trust>, Option<Freshness>),
    access: CrmAccess,
) -> LookupPlan {
    match (decision, access) {
        (Decision::Serve, _) if stored == Some(Freshness::Fresh) => LookupPlan::ServeFresh,
        (Decision::Serve, _) => LookupPlan::ServeOnlyStored,
        (Decision::ServeAndRefresh, _) => LookupPlan::ServeStale,
        (Decision::AwaitNews, CrmAccess::Open) => LookupPlan::AwaitNews,
        (Decision::AwaitNews, _) => LookupPlan::ServeWithoutNews,
        (Decision::NotCached, _) => LookupPlan::NotCached,
        (_, CrmAccess::Full) => LookupPlan::Full,
        (_, CrmAccess::NoCallBefore(time)) => LookupPlan::NoCallBefore(time),
        (Decision::Refresh, _) => LookupPlan::Refresh,
        (Decision::Renew, _) => LookupPlan::Renew,
        (Decision::Identify, _) => LookupPlan::Identify,
        (Decision::Load, _) if trust == Some(Trust::Lapsed) => LookupPlan::Renew,
        (Decision::Load, _) => LookupPlan::Load,
    }
}

impl LookupPlan {
    /// The decision in the words of the public contract.
    #[must_use]
    pub(crate) fn decision(self) -> &'static str {
        match self {
            Self::ServeFresh => "serve_fresh",
            Self::ServeOnlyStored | Self::ServeStale | Self::ServeWithoutNews => "serve_stale",
            Self::AwaitNews => "wait_for_crm",
            Self::Refresh | Self::Load | Self::Renew | Self::Identify => "ask_crm",
            Self::NotCached | Self::Full | Self::NoCallBefore(_) => "refuse",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: CrmAccess = CrmAccess::NoCallBefore(Duration::from_secs(7));

    #[test]
    fn a_full_crm_refuses_those_only_who_have_no_stored_answer() {
        let (fresh, stale) = (Some(Freshness::Fresh), Some(Freshness::Stale));
        for (decision, stored, open, rests, full, later) in [
            (
                Decision::Serve,
                fresh,
                "serve_fresh",
                "serve_fresh",
                "serve_fresh",
                "serve_fresh",
            ),
            (
                Decision::Serve,
                stale,
                "serve_stale",
                "serve_stale",
                "serve_stale",
                "serve_stale",
            ),
            (
                Decision::ServeAndRefresh,
                stale,
                "serve_stale",
                "serve_stale",
                "serve_stale",
                "serve_stale",
            ),
            (
                Decision::AwaitNews,
                stale,
                "wait_for_crm",
                "serve_stale",
                "serve_stale",
                "serve_stale",
            ),
            (
                Decision::Refresh,
                fresh,
                "ask_crm",
                "ask_crm",
                "refuse",
                "refuse",
            ),
            (
                Decision::Renew,
                None,
                "ask_crm",
                "ask_crm",
                "refuse",
                "refuse",
            ),
            (
                Decision::Identify,
                None,
                "ask_crm",
                "ask_crm",
                "refuse",
                "refuse",
            ),
            (
                Decision::Load,
                None,
                "ask_crm",
                "ask_crm",
                "refuse",
                "refuse",
            ),
            (
                Decision::NotCached,
                None,
                "refuse",
                "refuse",
                "refuse",
                "refuse",
            ),
        ] {
            let accesses = [CrmAccess::Open, CrmAccess::Rests, CrmAccess::Full, LATER];
            let made = accesses
                .map(|access| plan(decision, (Some(Trust::Verified), stored), access).decision());
            assert_eq!(made, [open, rests, full, later], "{decision:?}");
        }
    }

    #[test]
    fn a_lapsed_credential_does_not_learn_whether_something_is_stored() {
        let lapsed = (Some(Trust::Lapsed), None);
        let planned = |decision| plan(decision, lapsed, CrmAccess::Open);
        assert_eq!(planned(Decision::Renew), LookupPlan::Renew);
        assert_eq!(planned(Decision::Load), LookupPlan::Renew);
    }
}
