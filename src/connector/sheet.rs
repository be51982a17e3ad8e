//! What a connector is and what it costs, for people: computed from what it would carry out.
//!
//! Costs are calls to the CRM. They are counted without the user's own formats, for a number with
//! one form, and within the default limits of a look-up.

use super::profile::{Profile, StopRule};
use crate::budget::Quota;
use crate::domain::Spelling;

/// The default limits of a look-up: pages of a list, contacts of an answer.
pub(super) const PAGES: u32 = 5;
pub(super) const CONTACTS: u32 = 25;

/// How many numbers the cost of many is computed for.
pub(super) const MANY: u32 = 250;

/// What a connector is and what it costs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sheet {
    /// The CRM's name.
    pub(crate) name: String,
    /// What is searched.
    pub(crate) searches: String,
    pub(crate) built_from: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) unverified: Vec<String>,
    pub(crate) gaps: Vec<String>,
    /// Whether somebody has tried it with the CRM itself.
    pub(crate) is_tried: bool,
    /// The spellings that are searched, in their order.
    pub(crate) spellings: Vec<String>,
    /// When the search of further spellings ends.
    pub(crate) stop: &'static str,
    pub(crate) requests: Vec<RequestSheet>,
    /// Calls of one look-up.
    pub(crate) one: CallCount,
    /// Calls of the searches for many numbers ([`MANY`]), each list on one page.
    pub(crate) many: CallCount,
    /// How many numbers one call asks for.
    pub(crate) numbers_at_once: usize,
    /// The CRM's documented limit.
    pub(crate) quota: Vec<String>,
    /// The hosts that it can reach.
    pub(crate) hosts: Vec<String>,
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
    /// Always as many.
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
    /// What the numbers depend on.
    pub(crate) notes: Vec<String>,
}

impl Sheet {
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
                StopRule::AfterOneSearch => "after one search, for all spellings at once",
            },
            quota: [words_of(&quotas.all)].into_iter().chain(own).collect(),
            hosts,
            numbers_at_once: profile.numbers_at_once.get(),
            settings: profile.inputs.settings.clone(),
            info: profile.inputs.info.clone(),
            names_users: profile.names_users,
            ..Self::default()
        }
    }
}

/// A quota for a person.
fn words_of(quota: &Quota) -> String {
    let (rate, burst, whose) = (quota.rate(), quota.burst(), quota.scope().name());
    let per = humantime::format_duration(quota.per());
    let mut words = format!("{rate} calls in {per}, {burst} at once, for each {whose}");
    if let Some(calls) = quota.concurrent() {
        words += &format!(", {calls} under way at most");
    }
    if let Some(calls) = quota.per_day() {
        words += &format!(", {calls} in 24 hours");
    }
    words
}
