//! What a file costs, counted from its plan.

use super::FileConnector;
use super::name::Name;
use super::plan::{
    DetailsList, DetailsRequest, EachValue, NumberUse, RecordPlan, RequestPlan, SearchRequest,
    WhoAmIRequest,
};
use super::run::MOST_EACH;
use super::slot::{Template, TemplatePiece};
use crate::connector::path::Path;
use crate::connector::profile::StopRule;
use crate::connector::sheet::{CONTACTS, CallCount, MANY, PAGES, RequestSheet, Sheet};
use crate::domain::Spelling;

impl FileConnector {
    /// What the connector is and what it costs.
    pub(super) fn cost_sheet(&self) -> Sheet {
        Sheet {
            about: self.plan.about.clone(),
            requests: self.request_sheets(),
            one: self.cost_of_one(),
            nobody: self.cost_of_nobody(),
            many: self.cost_of_many(),
            secrets: self.secrets.clone(),
            ..Sheet::of(&self.profile)
        }
    }

    fn request_sheets(&self) -> Vec<RequestSheet> {
        let searches = self.plan.searches.iter();
        let searches = searches.map(|plan| self.search_sheet(plan));
        let details = self.details_sheets();
        let whoami = self.plan.whoami.iter().map(WhoAmIRequest::sheet);
        searches.chain(details).chain(whoami).collect()
    }

    fn details_sheets(&self) -> impl Iterator<Item = RequestSheet> {
        let details = self.plan.details.iter();
        details.filter_map(|part| part.sheet(&self.plan.searches))
    }

    /// Spellings without the user's own formats.
    fn spellings(&self) -> u32 {
        let own = |spelling: &&Spelling| **spelling != Spelling::Formats;
        count(self.profile.spellings.iter().filter(own).count()).max(1)
    }

    /// How often a search runs in one look-up. It runs the fewest times if the first spelling finds
    /// a contact.
    fn runs(&self, plan: &SearchRequest) -> CallCount {
        let most = match plan.depends {
            NumberUse::Text => self.spellings(),
            NumberUse::Nothing | NumberUse::Lists | NumberUse::Number => 1,
        };
        let least = match self.profile.stop {
            _ if plan.only_if_empty => 0,
            StopRule::Never => most,
            _ => 1,
        };
        CallCount { least, most }
    }

    fn search_sheet(&self, plan: &SearchRequest) -> RequestSheet {
        let runs = self.runs(plan);
        let each = plan.request.calls();
        let mut notes = plan.request.notes();
        if runs.most > 1 {
            notes.push(format!("for each of {} spellings", runs.most));
        }
        let per_format = if self.runs_for_formats(plan) {
            each.most
        } else {
            0
        };
        match per_format {
            0 => {}
            1 => notes.push("and 1 more for each format of the user".to_owned()),
            most => notes.push(format!("and up to {most} more for each format of the user")),
        }
        notes.extend(plan.facts());
        RequestSheet {
            purpose: "search".to_owned(),
            title: plan.request.title(),
            calls: each.times(runs),
            per_format,
            notes,
        }
    }

    /// Whether the search also runs for each of the user's own formats.
    fn runs_for_formats(&self, plan: &SearchRequest) -> bool {
        plan.depends == NumberUse::Text && self.profile.spellings.contains(&Spelling::Formats)
    }

    fn cost_of_one(&self) -> CallCount {
        let searches = self.plan.searches.iter();
        let searches = searches.map(|plan| self.cost_of_search(plan));
        let details = self.details_sheets().map(|sheet| sheet.calls);
        let mut all = sum(searches.chain(details));
        all.least = all.least.min(self.cost_of_nobody()).max(1);
        all
    }

    /// Calls of one search, which a setting may leave out.
    fn cost_of_search(&self, plan: &SearchRequest) -> CallCount {
        let mut calls = plan.request.calls().times(self.runs(plan));
        if plan.if_among.is_some() {
            calls.least = 0;
        }
        calls
    }

    /// The fewest calls of a look-up that finds nobody, if no setting leaves a search out.
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
            let one = searches.map(|plan| plan.request.first_pages().times(self.runs(plan)));
            return sum(one).times(CallCount::just(MANY));
        }
        sum(searches.map(|plan| {
            let full = self.requests_for(plan, group);
            let rest = self.requests_for(plan, MANY % group);
            let requests = (MANY / group) * full + rest;
            plan.request.first_pages().times(CallCount::just(requests))
        }))
    }

    /// How many requests a group of numbers takes: it is halved until the lists fit.
    fn requests_for(&self, plan: &SearchRequest, numbers: u32) -> u32 {
        let most = plan.batch.map_or(1, |batch| count(batch.values));
        let slots = plan.request.slots();
        let asks_all = slots.iter().any(|slot| slot.name == Name::Texts);
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

fn sum(calls: impl Iterator<Item = CallCount>) -> CallCount {
    calls.fold(CallCount::default(), CallCount::plus)
}

impl SearchRequest {
    /// What else a person should know of it.
    fn facts(&self) -> impl Iterator<Item = String> {
        let facts = [
            (
                self.only_if_empty,
                "only if the searches above it find nobody",
            ),
            (
                self.optional.is_some(),
                "left out if the CRM refuses it for good",
            ),
            (self.depends == NumberUse::Nothing, "lists everybody"),
            (
                self.phones.is_none(),
                "shows no phone field: its contacts are unverified",
            ),
        ];
        let so = facts.into_iter().filter(|(is_so, _)| *is_so);
        let chosen = self.if_among.iter().map(|(setting, word)| {
            format!("only if the setting {setting} contains \"{word}\" or is empty")
        });
        so.map(|(_, note)| note.to_owned()).chain(chosen)
    }
}

impl WhoAmIRequest {
    fn sheet(&self) -> RequestSheet {
        RequestSheet {
            purpose: "whoami".to_owned(),
            title: self.request.title(),
            calls: CallCount::just(1),
            per_format: 0,
            notes: vec!["once for each new credential".to_owned()],
        }
    }
}

impl DetailsRequest {
    /// `None` if no call is needed.
    fn sheet(&self, searches: &[SearchRequest]) -> Option<RequestSheet> {
        let list = self.source.list()?;
        let mut calls = list.request.calls();
        let mut notes = if list.serves_several() {
            list.request.notes()
        } else {
            calls.most = calls.most.saturating_mul(CONTACTS);
            list.request.notes_for_contacts()
        };
        if let Some(setting) = &self.if_setting {
            notes.push(format!("only if the setting {setting} is on"));
            calls.least = 0;
        }
        // A field of the record may be empty.
        if !list.is_made_for_all(searches) {
            calls.least = 0;
        }
        Some(RequestSheet {
            purpose: format!("details {}", self.name),
            title: list.request.title(),
            calls,
            per_format: 0,
            notes,
        })
    }
}

impl DetailsList {
    /// Returns whether the request is made for every record of the searches, because it needs no
    /// value of a record but the id.
    fn is_made_for_all(&self, searches: &[SearchRequest]) -> bool {
        self.request.slots().into_iter().all(|slot| {
            let Some(path) = slot.name.record_path() else {
                return true;
            };
            let is_id = |search: &SearchRequest| search.record.has_id_at(path);
            slot.filters.is_empty() && searches.iter().all(is_id)
        })
    }
}

impl RecordPlan {
    /// Returns whether the id is the value at this path. No record is without an id.
    fn has_id_at(&self, path: &Path) -> bool {
        let [Template(pieces)] = &self.id.0[..] else {
            return false;
        };
        matches!(&pieces[..], [TemplatePiece::Slot(slot)] if slot.name == Name::Own(path.clone()))
    }
}

impl RequestPlan {
    /// Calls of one run: each value of its `for`, its pages, and the `before` requests.
    fn calls(&self) -> CallCount {
        let before = self.before.iter().map(|before| before.request.pages());
        // The last one alone may have several pages, and the request is made for each.
        let pages_before = before.clone().next_back().unwrap_or(CallCount::just(1));
        let before = before.fold(CallCount::default(), CallCount::plus);
        let own = self.pages().times(pages_before);
        own.plus(before).times(self.values())
    }

    fn pages(&self) -> CallCount {
        CallCount {
            least: 1,
            most: if self.pager.is_some() { PAGES } else { 1 },
        }
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
        let each = self.each.as_ref();
        let each = each.map(|each| format!("for each of {}", each.in_words()));
        each.into_iter().chain(self.further_notes()).collect()
    }

    /// The same for a request that is made for each contact.
    fn notes_for_contacts(&self) -> Vec<String> {
        let each = self.each.as_ref();
        let each = each.map(|each| format!("with {}", each.in_words()));
        let notes = each.into_iter().chain(self.further_notes());
        let notes = notes.map(|note| format!("{note} for each"));
        let all = format!("in all, for 1 to {CONTACTS} contacts");
        [all].into_iter().chain(notes).collect()
    }

    fn further_notes(&self) -> impl Iterator<Item = String> {
        let pages = self.pager.is_some();
        let pages = pages.then(|| format!("up to {PAGES} pages"));
        let before = self.before.len();
        let plural = if before == 1 { "" } else { "s" };
        let before = (before > 0).then(|| format!("after {before} other request{plural}"));
        pages.into_iter().chain(before)
    }
}

impl EachValue {
    /// "2 values".
    fn in_words(&self) -> String {
        let CallCount { least, most } = self.count();
        if least == most {
            format!("{most} values")
        } else {
            format!("{least} to {most} values")
        }
    }

    /// How many values there are.
    fn count(&self) -> CallCount {
        let values = self.values.iter();
        let fixed = values.filter(|value| value.is_literal()).count();
        let are_all = fixed == self.values.len();
        CallCount {
            least: count(fixed),
            most: count(if are_all { fixed } else { MOST_EACH }),
        }
    }
}

/// A small count.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
