//! Why a look-up would do what it would do, in one sentence for a person.

use std::time::Duration;

use super::parse::NoLookup;
use crate::resolver::LookupPlan;

/// The reason for a plan of a look-up on `platform`.
pub(super) fn of_plan(plan: LookupPlan, platform: &str) -> String {
    match plan {
        LookupPlan::ServeFresh => "A fresh answer is stored.".to_owned(),
        LookupPlan::ServeOnlyStored => {
            "The stored answer is stale, and only_if_cached allows no call to the CRM.".to_owned()
        }
        LookupPlan::ServeStale => "The stored answer is stale: it is returned at once, and \
                                   refreshed in the background."
            .to_owned(),
        LookupPlan::ServeWithoutNews => format!(
            "The stored answer is a stale \"nobody\", and {platform} cannot be asked in time: a \
             refresh failed a moment ago, too many look-ups wait for it, or its quota has no call \
             left."
        ),
        LookupPlan::AwaitNews => format!(
            "The stored answer is a stale \"nobody\", so a ringing phone first waits a moment for \
             {platform}."
        ),
        LookupPlan::Refresh => format!("A manual refresh always asks {platform}."),
        LookupPlan::Load => format!("Nothing is stored for this number, so {platform} is asked."),
        LookupPlan::Renew => format!(
            "More time than cache.admitted has passed since {platform} accepted this credential, so \
             {platform} is asked before anything stored is returned."
        ),
        LookupPlan::Identify => format!(
            "{platform} has not accepted this credential for this user, so it is asked before \
             anything stored is returned."
        ),
        LookupPlan::NotCached => "only_if_cached allows no call to the CRM, and nothing is stored \
                                  that this credential may see now."
            .to_owned(),
        LookupPlan::Full => {
            format!("Too many look-ups already wait for {platform}; there is no place for another.")
        }
        LookupPlan::NoCallBefore(time) => no_call_before(time, platform),
    }
}

fn no_call_before(time: Duration, platform: &str) -> String {
    let time = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let time = humantime::format_duration(time);
    format!("The quota of {platform} has no call left before the deadline; the next is in {time}.")
}

/// Why there is nothing to look up. FindContact answers without contacts then.
pub(super) fn of_no_lookup(why: &NoLookup, platform: &str) -> String {
    match why {
        NoLookup::Withheld => {
            "The caller withheld the number, so there is nobody to look up.".to_owned()
        }
        NoLookup::ShortCode => {
            "Short codes, such as emergency numbers, belong to no contact, so nobody is looked up."
                .to_owned()
        }
        NoLookup::NoExtensions => {
            format!(
                "{platform} cannot be searched for internal extensions, so nobody is looked up."
            )
        }
        NoLookup::Unusable(error) => {
            format!("No complete telephone number came with the call: the number {error}.")
        }
    }
}
