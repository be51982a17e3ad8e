//! Sections `connectors.NAME.quota`.

use std::num::NonZeroU32;

use super::section::Section;
use crate::budget::{CallKind, Quota, Quotas, Scope};

/// How a quota is written in the settings.
pub(super) const QUOTA: &str = "{ rate = 40, per = \"60s\", burst = 10 }";

/// The largest limits of the settings. No CRM allows more.
const MOST_AT_ONCE: usize = 1_000_000;
const MOST_PER_DAY: usize = 1_000_000_000;

/// A CRM's quotas. Values that are not set are the CRM's documented limits. A limit for all calls
/// also replaces the default of one kind of calls, unless the settings give that kind its own. All
/// have one scope, and share the limits on calls on the wire and in a day.
pub(super) fn quotas(default: Quotas, section: &mut Section<'_>) -> Option<Quotas> {
    let given = Given::read(section);
    let scope = section.parsed("scope", default.all.scope().name());
    let all = quota(default.all, scope, section);
    let totals = totals(default.all, section);
    let all = all?;
    let mut of_kind = |key: &str, kind: CallKind| {
        let documented = default.own(kind).filter(|_| !given.limit);
        if documented.is_none() && !section.has_below(key) {
            return Some(None);
        }
        let own = given.applied(documented.copied().unwrap_or(all), all, scope)?;
        let read = section.nested_as(key, QUOTA, |section| quota(own, scope, section));
        read.map(Some)
    };
    let search = of_kind("search", CallKind::Search)?;
    let other = of_kind("other", CallKind::Other)?;
    let quotas = [search, other, Some(all)];
    check_totals(quotas.into_iter().flatten(), totals, section);
    let [concurrent, per_day] = totals;
    let all = all.with_totals(concurrent, per_day).ok()?;
    Some(Quotas { all, search, other })
}

/// Most calls on the wire, and in a day.
type Totals = [Option<NonZeroU32>; 2];

/// Every quota must fit into the limits over all kinds. If a value is faulty, its default takes its
/// place, and a limit that the default breaks is not reported.
fn check_totals(
    mut quotas: impl Iterator<Item = Quota>,
    [concurrent, per_day]: Totals,
    section: &mut Section<'_>,
) {
    let fault = quotas.find_map(|quota| quota.with_totals(concurrent, per_day).err());
    let are_sound = section.is_sound("rate") && section.is_sound("per");
    if let Some(fault) = fault.filter(|_| are_sound) {
        section.fault(fault.key(), fault.to_string());
    }
}

/// The limits over all kinds of calls: calls on the wire, and calls in a day. A CRM without a
/// documented limit has none, unless the settings give it.
fn totals(default: Quota, section: &mut Section<'_>) -> Totals {
    let mut limit = |key: &str, most: usize, default: Option<NonZeroU32>| {
        let calls = match default {
            Some(default) => Some(section.count(key, default.get() as usize, 1..=most)),
            None => section.optional_count(key, 1..=most),
        };
        let calls = calls.filter(|_| section.is_sound(key));
        calls.and_then(|calls| NonZeroU32::new(u32::try_from(calls).ok()?))
    };
    [
        limit("concurrent", MOST_AT_ONCE, default.concurrent()),
        limit("per_day", MOST_PER_DAY, default.per_day()),
    ]
}

/// The settings for all calls.
struct Given {
    limit: bool,
    burst: bool,
    share: bool,
}

impl Given {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            limit: section.is_given("rate") || section.is_given("per"),
            burst: section.is_given("burst"),
            share: section.is_given("prefetch_share"),
        }
    }

    /// The quota of one kind of call, with the settings for all calls applied.
    fn applied(&self, own: Quota, all: Quota, scope: Scope) -> Option<Quota> {
        let most = if self.burst { all.burst() } else { own.burst() };
        let burst = own.burst().min(most).get();
        let shared = if self.share { all } else { own };
        let share = shared.prefetch_share();
        Quota::new(own.rate().get(), own.per(), burst, scope, share).ok()
    }
}

/// The keys of one quota.
const KEYS: [&str; 5] = ["rate", "per", "burst", "scope", "prefetch_share"];

fn quota(default: Quota, scope: Scope, section: &mut Section<'_>) -> Option<Quota> {
    let rate = calls(section, "rate", default.rate());
    let per = humantime::format_duration(default.per()).to_string();
    let per = section.duration("per", &per);
    let most = NonZeroU32::new(rate)?;
    let burst = calls(section, "burst", default.burst().min(most));
    let share = section.share("prefetch_share", default.prefetch_share());
    let quota = Quota::new(rate, per, burst, scope, share);
    if let Err(error) = &quota
        // A default in the place of a faulty value is not reported.
        && KEYS.iter().all(|key| section.is_sound(key))
    {
        section.fault(error.key(), error.to_string());
    }
    quota.ok()
}

fn calls(section: &mut Section<'_>, key: &str, default: NonZeroU32) -> u32 {
    u32::try_from(section.count(key, default.get() as usize, 1..=1_000_000)).unwrap_or(u32::MAX)
}
