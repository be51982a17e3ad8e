//! Loads the details of contacts as a file says.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use serde_json::Value;

use super::FileConnector;
use super::fill::SlotScope;
use super::mapping::members;
use super::name::Name;
use super::plan::{DetailsList, DetailsRequest, DetailsSource, DropRule, RowOwner};
use super::run::scope_of;
use super::slot::{Template, TemplateSlot};
use crate::connector::record::{Enrichment, List, joined};
use crate::connector::{CrmSession, refusals};
use crate::domain::json::text;
use crate::domain::user::Settings;
use crate::domain::{Contact, LookupError};

/// The choices of one part, for each contact.
type Choices = Vec<Result<List<Value>, LookupError>>;

impl FileConnector {
    pub(super) async fn load_details(
        &self,
        crm: &CrmSession,
        contacts: &[Contact],
    ) -> Vec<Enrichment> {
        let parts = self.plan.details.iter();
        let parts = parts.filter(|part| part.is_wanted(crm.settings()));
        let parts: Vec<&DetailsRequest> = parts.collect();
        let loading = parts.iter().map(|part| self.load_part(crm, part, contacts));
        let loaded = by_contact(join_all(loading).await, contacts.len());
        let of_contacts = contacts.iter().zip(loaded);
        let enrichments = of_contacts.map(|(contact, choices)| {
            let names = parts.iter().map(|part| part.name.as_str());
            enrichment(crm, contact, names.zip(choices))
        });
        enrichments.collect()
    }

    async fn load_part(
        &self,
        crm: &CrmSession,
        part: &DetailsRequest,
        contacts: &[Contact],
    ) -> Choices {
        match &part.source {
            DetailsSource::Fixed(choices) => {
                let fixed = || List::of(choices.clone());
                contacts.iter().map(|_| Ok(fixed())).collect()
            }
            DetailsSource::Request(list) if list.serves_several() => {
                let asked = if list.per_answer { &[] } else { contacts };
                let rows = self.rows(crm, part, list, asked).await;
                let theirs = |contact| self.choices(crm, list, contact, &rows);
                contacts.iter().map(theirs).collect()
            }
            DetailsSource::Request(list) => {
                let each = contacts.iter().map(|contact| async {
                    let asked = std::slice::from_ref(contact);
                    let rows = self.rows(crm, part, list, asked).await;
                    self.choices(crm, list, contact, &rows)
                });
                join_all(each).await
            }
        }
    }

    /// The choices of a contact among these rows.
    fn choices(
        &self,
        crm: &CrmSession,
        list: &DetailsList,
        contact: &Contact,
        rows: &Result<List<Value>, LookupError>,
    ) -> Result<List<Value>, LookupError> {
        let rows = rows.as_ref().map_err(Clone::clone)?;
        let scope = SlotScope {
            kept: &self.plan.kept,
            ..scope_of(crm)
        };
        let is_theirs = |row: &&Value| {
            let owner = list.owner.as_ref();
            owner.is_none_or(|owner| owner.is_of(&scope, contact, row))
        };
        let theirs = rows.items.iter().filter(is_theirs);
        let choices = theirs.filter_map(|row| list.choice(&scope, row));
        Ok(rows.with(choices.collect()))
    }

    /// The rows of one part, of all values of its `for`.
    async fn rows(
        &self,
        crm: &CrmSession,
        part: &DetailsRequest,
        list: &DetailsList,
        contacts: &[Contact],
    ) -> Result<List<Value>, LookupError> {
        let scope = SlotScope {
            contacts,
            kept: &self.plan.kept,
            ..scope_of(crm)
        };
        let record = contacts.first().filter(|_| list.names_record_in_path());
        let rounds = list.request.rounds(&scope);
        let lists = rounds.iter().map(|round| async {
            let scope = list.request.in_round(&scope, round.as_ref());
            let about = record.map(|contact| refusal_name(contact, round.as_deref()));
            let calls = crm.part(&part.part, about.as_deref());
            list.request.list(calls, &scope).await
        });
        let lists = without_refused(join_all(lists).await);
        let lists: Result<Vec<_>, LookupError> = lists.into_iter().collect();
        Ok(joined(lists?))
    }
}

/// The choices of each contact, from those of each part.
fn by_contact(parts: Vec<Choices>, contacts: usize) -> Vec<Choices> {
    let mut of_contacts: Vec<Choices> = (0..contacts).map(|_| Vec::new()).collect();
    for part in parts {
        for (of_contact, choices) in of_contacts.iter_mut().zip(part) {
            of_contact.push(choices);
        }
    }
    of_contacts
}

/// What a refusal is about: the contact, and in a round of a `for` also the value of that round.
/// The value may be the id of a record that was deleted.
fn refusal_name(contact: &Contact, round: Option<&str>) -> String {
    match round {
        Some(value) => format!("{} {value}", contact.id),
        None => contact.id.clone(),
    }
}

/// Leaves out the values that the CRM refuses for good, if there are others that it answers.
fn without_refused<T>(mut lists: Vec<Result<T, LookupError>>) -> Vec<Result<T, LookupError>> {
    if lists.iter().any(Result::is_ok) {
        lists.retain(|list| !matches!(list, Err(error) if refusals::is_lasting(error)));
    }
    lists
}

impl RowOwner {
    /// Whether a row is of this contact.
    fn is_of(&self, scope: &SlotScope<'_>, contact: &Contact, row: &Value) -> bool {
        let ids = one_or_more(scope.kept_of(contact, &self.record));
        let owners = self.of.all(row, scope).into_iter();
        owners
            .flat_map(one_or_more)
            .any(|owner| is_same_id(&ids, owner))
    }
}

fn one_or_more(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        value => vec![value],
    }
}

/// An id may be a number in one reply and a text in another.
fn is_same_id(ids: &[&Value], owner: &Value) -> bool {
    let owner = text(Some(owner));
    !owner.is_empty() && ids.iter().any(|id| text(Some(id)) == owner)
}

/// The choices of a contact by name. Parts with the same name are joined, each choice once. If one
/// of them failed, the others are still offered.
fn enrichment<'p>(
    crm: &CrmSession,
    contact: &Contact,
    parts: impl Iterator<Item = (&'p str, Result<List<Value>, LookupError>)>,
) -> Enrichment {
    let mut enrichment = Enrichment {
        info: contact.additional_info.clone(),
        ..Enrichment::default()
    };
    let mut offered: HashMap<&str, Offered> = HashMap::new();
    for (name, choices) in parts {
        let offered = offered.entry(name).or_default();
        let choices = choices.map(|list| {
            offered.add_new(&list.items);
            list.with(offered.choices.clone())
        });
        enrichment.add(crm.log_throttle(), name, choices);
    }
    enrichment
}

/// The choices of one name.
#[derive(Default)]
pub(super) struct Offered {
    pub(super) choices: Vec<Value>,
    /// The `const` of each choice, to find repeated ones fast: a reply may have tens of thousands.
    known: HashSet<String>,
}

impl Offered {
    /// Adds choices, each `const` once.
    pub(super) fn add_new(&mut self, choices: &[Value]) {
        for choice in choices {
            if self.known.insert(choice["const"].to_string()) {
                self.choices.push(choice.clone());
            }
        }
    }
}

impl DetailsRequest {
    fn is_wanted(&self, settings: &Settings) -> bool {
        self.if_setting
            .as_ref()
            .is_none_or(|setting| settings.is_on(setting))
    }
}

impl DetailsList {
    /// The choice of a row; `None` if it is dropped. One without `const` is left out later, and
    /// makes the details incomplete.
    pub(super) fn choice(&self, scope: &SlotScope<'_>, row: &Value) -> Option<Value> {
        let drops = |rule: &DropRule| rule.drops(scope, row);
        if self.drop.as_ref().is_some_and(drops) {
            return None;
        }
        let scope = SlotScope {
            own: Some(row),
            ..*scope
        };
        let mut choice = members(&self.choice, &scope);
        // The form shows these even if they are empty.
        for (name, _) in &self.choice {
            choice.entry(name.as_str()).or_insert(Value::Null);
        }
        Some(Value::Object(choice))
    }

    /// Whether "not found" may be about the record.
    fn names_record_in_path(&self) -> bool {
        let paths = self.request.with_before().flat_map(|request| &request.path);
        let mut slots = paths.flat_map(Template::slots);
        slots.any(|slot| match slot.name {
            Name::For(_) => self.is_for_each_record(),
            _ => is_of_record(slot),
        })
    }

    fn is_for_each_record(&self) -> bool {
        let each = self.request.each_templates();
        each.flat_map(Template::slots).any(is_of_record)
    }
}

fn is_of_record(slot: &TemplateSlot) -> bool {
    matches!(slot.name, Name::Record(_))
}

impl DropRule {
    fn drops(&self, scope: &SlotScope<'_>, row: &Value) -> bool {
        let mut found = self.at.all(row, scope).into_iter();
        self.applies(scope) && found.any(|found| self.values.contains(found))
    }

    /// Whether the user's setting leaves the rule on.
    fn applies(&self, scope: &SlotScope<'_>) -> bool {
        let setting = self.unless_setting.as_ref().zip(scope.settings);
        setting.is_none_or(|(setting, settings)| !settings.is_on(setting))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fuzz::worked;

    #[test]
    fn a_choice_is_offered_once_however_many_there_are() {
        let choices: Vec<Value> = (0..40_000).map(|n| json!({"const": n % 20_000})).collect();
        let begun = worked();
        let mut offered = Offered::default();
        offered.add_new(&choices);
        assert_eq!(offered.choices, choices[..20_000]);
        assert!(worked().saturating_sub(begun) < std::time::Duration::from_secs(5));
    }
}
