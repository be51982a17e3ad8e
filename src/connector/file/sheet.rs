//! What a file costs, counted from its plan.

use super::FileConnector;
use super::name::Name;
use super::plan::{
    DetailsList, DetailsRequest, DetailsSource, EachValue, NumberUse, RequestPlan, SearchRequest,
};
use super::run::MOST_EACH;
use super::slot::Template;
use crate::connector::profile::StopRule;
use crate::connector::sheet::{CONTACTS, CallCount, MANY, PAGES, RequestSheet, Sheet};
use crate::domain::Spelling;

impl FileConnector {
    /// What the connector is and what it costs.
    pub(super) fn cost_sheet(&self) -> Sheet {
        let about = &self.plan.about;
        let details = self.plan.details.iter().filter_map(DetailsRequest::sheet);
        let searches = self
            .plan
            .searches
            .iter()
            .map(|plan| self.search_sheet(plan));
        let whoami = self.plan.whoami.iter().map(|plan| RequestSheet {
            purpose: "whoami".to_owned(),
            title: plan.request.title(),
            calls: CallCount::just(1),
            notes: vec!["once for each new credential".to_owned()],
        });
        Sheet {
            name: about.name.clone(),
            searches: about.searches.clone(),
            built_from: about.built_from.clone(),
            scopes: about.scopes.clone(),
            unverified: about.unverified.clone(),
            gaps: about.gaps.clone(),
            requests: searches.chain(details).chain(whoami).collect(),
            one: self.cost_of_one(),
            many: self.cost_of_many(),
            secrets: self.secrets.clone(),
            ..Sheet::of(&self.profile)
        }
    }

    /// Spellings without the user's own formats.
    fn spellings(&self) -> u32 {
        let own = |spelling: &&Spelling| **spelling != Spelling::Formats;
        count(self.profile.spellings.iter().filter(own).count()).max(1)
    }

    /// How often a search runs in one look-up: at least if the first spelling finds a contact.
    fn runs(&self, plan: &SearchRequest) -> CallCount {
        let stops = self.profile.stop != StopRule::Never;
        let all = match plan.depends {
            NumberUse::Text => self.spellings(),
            NumberUse::Nothing | NumberUse::Lists | NumberUse::Number => 1,
        };
        CallCount {
            least: match (plan.only_if_empty, stops) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => all,
            },
            most: all,
        }
    }

    fn search_sheet(&self, plan: &SearchRequest) -> RequestSheet {
        let mut notes = plan.request.notes();
        let runs = self.runs(plan);
        if runs.most > 1 {
            notes.push(format!("for each of {} spellings", runs.most));
        }
        if self.profile.spellings.contains(&Spelling::Formats) && plan.depends == NumberUse::Text {
            notes.push("and for each format of the user".to_owned());
        }
        for (is_so, note) in [
            (
                plan.only_if_empty,
                "only if the searches above it find nobody",
            ),
            (
                plan.optional.is_some(),
                "left out if the CRM refuses it for good",
            ),
            (plan.depends == NumberUse::Nothing, "lists everybody"),
            (
                plan.phones.is_none(),
                "shows no phone field: its contacts are unverified",
            ),
        ] {
            if is_so {
                notes.push(note.to_owned());
            }
        }
        RequestSheet {
            purpose: "search".to_owned(),
            title: plan.request.title(),
            calls: plan.request.calls().times(runs),
            notes,
        }
    }

    fn cost_of_one(&self) -> CallCount {
        let searches = self.plan.searches.iter();
        let found = searches.map(|plan| plan.request.calls().times(self.runs(plan)));
        let found = found.fold(CallCount::default(), CallCount::plus);
        let details = self.plan.details.iter();
        let details = details.map(|part| part.sheet().map_or(CallCount::default(), |it| it.calls));
        let mut all = details.fold(found, CallCount::plus);
        all.least = all.least.min(self.cost_of_nobody());
        all
    }

    /// Calls of a look-up that finds nobody, at least.
    fn cost_of_nobody(&self) -> u32 {
        let searches = self.plan.searches.iter();
        let calls = searches.map(|plan| plan.request.calls().least * self.runs(plan).most);
        calls.sum()
    }

    /// Calls of the searches for many numbers, each list on one page.
    fn cost_of_many(&self) -> CallCount {
        let group = count(self.profile.numbers_at_once.get());
        let searches = self.plan.searches.iter();
        if group == 1 {
            let calls = searches.map(|plan| plan.request.first_pages().times(self.runs(plan)));
            let one = calls.fold(CallCount::default(), CallCount::plus);
            return one.times(CallCount::just(MANY));
        }
        let calls = searches.map(|plan| {
            let full = self.requests_for(plan, group);
            let rest = self.requests_for(plan, MANY % group);
            let requests = (MANY / group) * full + rest;
            plan.request.first_pages().times(CallCount::just(requests))
        });
        calls.fold(CallCount::default(), CallCount::plus)
    }

    /// How many requests a group of numbers takes: it is halved until the lists fit.
    fn requests_for(&self, plan: &SearchRequest, numbers: u32) -> u32 {
        let most = plan.batch.map_or(1, |batch| count(batch.values));
        let is_all = |name: &Name| matches!(name, Name::Texts);
        let asks_all = plan.request.slots().iter().any(|slot| is_all(&slot.name));
        let each = if asks_all { self.spellings() } else { 1 };
        if numbers == 0 {
            0
        } else if numbers == 1 || numbers.saturating_mul(each) <= most {
            1
        } else {
            let half = numbers / 2;
            self.requests_for(plan, half) + self.requests_for(plan, numbers - half)
        }
    }
}

impl DetailsRequest {
    /// `None` if no call is needed.
    fn sheet(&self) -> Option<RequestSheet> {
        let DetailsSource::Request(list) = &self.source else {
            return None;
        };
        let mut notes = list.request.notes();
        let is_shared = list.is_shared() || list.per_answer;
        let mut calls = list.request.calls();
        if !is_shared {
            notes.push(format!("for each contact, {CONTACTS} at most"));
            calls.most = calls.most.saturating_mul(CONTACTS);
        }
        if let Some(setting) = &self.if_setting {
            notes.push(format!("only if the setting {setting} is on"));
            calls.least = 0;
        }
        // A field of the record may be empty.
        if list.depends_on_record() {
            calls.least = 0;
        }
        Some(RequestSheet {
            purpose: format!("details {}", self.name),
            title: list.request.title(),
            calls,
            notes,
        })
    }
}

impl DetailsList {
    /// Whether the request is not made for some records: what it needs is not their id.
    fn depends_on_record(&self) -> bool {
        let is_id = |path: &str| path.eq_ignore_ascii_case("id");
        self.request.slots().iter().any(|slot| match &slot.name {
            Name::Record(path) | Name::Records(path) => !is_id(&path.to_string()),
            _ => false,
        })
    }
}

impl RequestPlan {
    /// Calls of one run: each value of its `for`, its pages, and the requests before.
    fn calls(&self) -> CallCount {
        let pages = CallCount {
            least: 1,
            most: if self.pager.is_some() { PAGES } else { 1 },
        };
        let before = CallCount::just(count(self.before.len()));
        pages.plus(before).times(self.values())
    }

    /// Calls of one run if every list has one page.
    fn first_pages(&self) -> CallCount {
        let before = CallCount::just(count(self.before.len()));
        CallCount::just(1).plus(before).times(self.values())
    }

    fn values(&self) -> CallCount {
        self.each
            .as_ref()
            .map_or(CallCount::just(1), EachValue::count)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(each) = &self.each {
            let values = each.count();
            notes.push(match values.most {
                most if most == values.least => format!("for each of {most} values"),
                most => format!("for each of {} to {most} values", values.least),
            });
        }
        if self.pager.is_some() {
            notes.push(format!("up to {PAGES} pages"));
        }
        if !self.before.is_empty() {
            notes.push(format!("after {} other requests", self.before.len()));
        }
        notes
    }
}

impl EachValue {
    /// How many values there are.
    fn count(&self) -> CallCount {
        let (fixed, open): (Vec<&Template>, Vec<_>) = self
            .values
            .iter()
            .partition(|value| value.literal().is_some());
        CallCount {
            least: count(fixed.len()),
            most: count(if open.is_empty() {
                fixed.len()
            } else {
                MOST_EACH
            }),
        }
    }
}

/// A small count.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
