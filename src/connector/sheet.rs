//! What a connector is and what it costs, for people: computed from what it would carry out.
//!
//! Costs are calls to the CRM. They are counted without the user's own formats, for a number with
//! one form, and within the default limits of a look-up.

use super::profile::{Profile, StopRule};
use crate::budget::{Quota, Quotas};
use crate::domain::Spelling;

/// The default limits of a look-up: pages of a list, contacts of an answer.
pub(super) const PAGES: u32 = 5;
pub(super) const CONTACTS: u32 = 25;

/// How many numbers the cost of many is computed for.
pub(super) const MANY: u32 = 250;

/// What a connector says about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    /// The CRM's name.
    pub(crate) name: String,
    /// What is searched.
    pub(crate) searches: String,
    /// What the caller's `auth_header` must be. Empty if that is not known.
    pub(crate) auth_header: String,
    /// What it was built from.
    pub(crate) built_from: Vec<String>,
    /// The scopes or rights that a token needs.
    pub(crate) scopes: Vec<String>,
    /// What could not be verified without an account.
    pub(crate) unverified: Vec<String>,
    /// What is knowingly missing or different.
    pub(crate) gaps: Vec<String>,
}

/// What a connector is and what it costs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sheet {
    pub(crate) about: About,
    /// Whether somebody has tried it with the CRM itself.
    pub(crate) is_tried: bool,
    /// The spellings that are searched, in their order.
    pub(crate) spellings: Vec<String>,
    /// When the search of further spellings ends.
    pub(crate) stop: &'static str,
    pub(crate) requests: Vec<RequestSheet>,
    /// Calls of one look-up.
    pub(crate) one: CallCount,
    /// The fewest search calls of a look-up that finds nobody, if no setting leaves a search out.
    pub(crate) nobody: u32,
    /// Calls of the searches for many numbers ([`MANY`]), each list on one page.
    pub(crate) many: CallCount,
    /// How many numbers one call asks for.
    pub(crate) numbers_at_once: usize,
    /// The CRM's documented limit.
    pub(crate) quota: Vec<String>,
    /// The same, as keys of the settings.
    pub(crate) quota_settings: Vec<String>,
    /// The hosts that it can reach.
    pub(crate) hosts: Vec<String>,
    /// Whether the user has to name one of them.
    pub(crate) needs_host: bool,
    /// The user settings that can change an answer.
    pub(crate) settings: Vec<String>,
    /// The fields of `platform_additional_info` that can change an answer.
    pub(crate) info: Vec<String>,
    /// The secrets that the settings must have.
    pub(crate) secrets: Vec<String>,
    /// Whether the CRM names the user of a credential.
    pub(crate) names_users: bool,
}

/// Calls at least and at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CallCount {
    pub(crate) least: u32,
    pub(crate) most: u32,
}

impl CallCount {
    /// The same number at least and at most.
    pub(super) fn just(calls: u32) -> Self {
        Self {
            least: calls,
            most: calls,
        }
    }

    pub(super) fn plus(self, more: Self) -> Self {
        Self {
            least: self.least.saturating_add(more.least),
            most: self.most.saturating_add(more.most),
        }
    }

    pub(super) fn times(self, times: Self) -> Self {
        Self {
            least: self.least.saturating_mul(times.least),
            most: self.most.saturating_mul(times.most),
        }
    }
}

/// A request, and how often one look-up makes it.
#[derive(Debug, Clone)]
pub(crate) struct RequestSheet {
    /// What it is for: "search", "details matters", "whoami".
    pub(crate) purpose: String,
    /// Method and path.
    pub(crate) title: String,
    pub(crate) calls: CallCount,
    /// How many more each format of the user adds, at most.
    pub(crate) per_format: u32,
    /// What the numbers depend on.
    pub(crate) notes: Vec<String>,
}

/// Calls of a usual look-up: the first spelling finds one contact, or no spelling finds any. Each
/// list has one page, and each part of the details is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsualCalls {
    /// Searches that find the contact.
    pub(crate) found: u32,
    /// Calls for its details.
    pub(crate) details: u32,
    /// Searches that find nobody.
    pub(crate) nobody: u32,
}

impl Sheet {
    /// The calls of a usual look-up.
    pub(crate) fn usual_calls(&self) -> UsualCalls {
        let of = |purpose: &'static str| {
            let requests = self.requests.iter();
            requests.filter(move |request| request.purpose.starts_with(purpose))
        };
        let found = of("search").map(|request| request.calls.least).sum::<u32>();
        UsualCalls {
            found: found.max(1),
            details: of("details")
                .map(|request| request.calls.least.max(1))
                .sum(),
            nobody: self.nobody.max(1),
        }
    }

    /// Whether a look-up makes more calls if the user has formats.
    pub(crate) fn grows_with_formats(&self) -> bool {
        self.requests.iter().any(|request| request.per_format > 0)
    }

    /// Whether the connector searches at all. App Connect accepts a configuration without a search.
    pub(crate) fn has_search(&self) -> bool {
        let mut requests = self.requests.iter();
        requests.any(|request| request.purpose == "search")
    }

    /// What a profile says.
    pub(super) fn of(profile: &Profile) -> Self {
        let quotas = &profile.quotas;
        let own = [("searches", &quotas.search), ("other calls", &quotas.other)];
        let own = own
            .into_iter()
            .filter_map(|(what, quota)| Some(format!("{what}: {}", words_of(quota.as_ref()?))));
        let patterns = profile.hosts.iter().map(ToString::to_string);
        let mut hosts: Vec<String> = profile
            .base
            .fixed_host()
            .into_iter()
            .chain(patterns)
            .collect();
        hosts.dedup();
        Self {
            spellings: profile.spellings.iter().map(Spelling::to_string).collect(),
            stop: match profile.stop {
                StopRule::AtFirstContact => "at the first spelling that finds a contact",
                StopRule::Never => "never: all spellings are searched",
                StopRule::AfterOneSearch => {
                    "after one request of each search; it asks for all spellings"
                }
            },
            quota: [words_of(&quotas.all)].into_iter().chain(own).collect(),
            quota_settings: settings_of(quotas),
            hosts,
            needs_host: profile.base.reads_host() || profile.inputs.required_host,
            numbers_at_once: profile.numbers_at_once.get(),
            settings: profile.inputs.settings.clone(),
            info: profile.inputs.info.clone(),
            names_users: profile.names_users,
            ..Self::default()
        }
    }
}

/// Quotas as keys of the settings.
fn settings_of(quotas: &Quotas) -> Vec<String> {
    let limit = |quota: &Quota| {
        let per = humantime::format_duration(quota.per());
        [
            format!("rate = {}", quota.rate()),
            format!("per = \"{per}\""),
            format!("burst = {}", quota.burst()),
        ]
    };
    let all = &quotas.all;
    let mut settings: Vec<String> = limit(all).into();
    settings.push(format!("scope = \"{}\"", all.scope().name()));
    for (key, calls) in [("concurrent", all.concurrent()), ("per_day", all.per_day())] {
        settings.extend(calls.map(|calls| format!("{key} = {calls}")));
    }
    for (key, quota) in [("search", &quotas.search), ("other", &quotas.other)] {
        let own = quota.as_ref();
        settings.extend(own.map(|quota| format!("{key} = {{ {} }}", limit(quota).join(", "))));
    }
    settings
}

/// A quota for a person.
fn words_of(quota: &Quota) -> String {
    let (rate, burst, whose) = (quota.rate(), quota.burst(), quota.scope().name());
    let per = humantime::format_duration(quota.per());
    let mut words = format!("{rate} calls in {per}, burst {burst}, for each {whose}");
    if let Some(calls) = quota.concurrent() {
        words += &format!(", {calls} concurrent");
    }
    if let Some(calls) = quota.per_day() {
        words += &format!(", {calls} in 24 hours");
    }
    words
}
