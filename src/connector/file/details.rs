//! Loads the details of contacts as a file says.

use std::collections::HashMap;

use futures_util::future::join_all;
use serde_json::Value;

use super::FileConnector;
use super::fill::SlotScope;
use super::mapping::members;
use super::name::Name;
use super::plan::{DetailsList, DetailsRequest, DetailsSource, DropRule, RowOwner};
use super::run::scope_of;
use super::search::joined;
use super::slot::{Template, TemplateSlot};
use crate::connector::record::{Enrichment, List};
use crate::connector::{CrmSession, refusals};
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
        let wanted = self
            .plan
            .details
            .iter()
            .filter(|part| part.is_wanted(crm.settings()));
        let parts: Vec<&DetailsRequest> = wanted.collect();
        let loading = parts.iter().map(|part| self.load_part(crm, part, contacts));
        let loaded = join_all(loading).await;
        let mut parts_of: Vec<_> = contacts.iter().map(|_| Vec::new()).collect();
        for (part, choices) in parts.iter().zip(loaded) {
            for (of_contact, choices) in parts_of.iter_mut().zip(choices) {
                of_contact.push((part.name.as_str(), choices));
            }
        }
        let of_contacts = contacts.iter().zip(parts_of);
        of_contacts
            .map(|(contact, parts)| enrichment(crm, contact, parts))
            .collect()
    }

    async fn load_part(
        &self,
        crm: &CrmSession,
        part: &DetailsRequest,
        contacts: &[Contact],
    ) -> Choices {
        let list = match &part.source {
            DetailsSource::Fixed(choices) => {
                let fixed = || List {
                    items: choices.clone(),
                    ..List::default()
                };
                return contacts.iter().map(|_| Ok(fixed())).collect();
            }
            DetailsSource::Request(list) => list,
        };
        if list.is_shared() || list.per_answer {
            let asked = if list.per_answer {
                &contacts[..0]
            } else {
                contacts
            };
            let rows = self.rows(crm, part, list, asked).await;
            return contacts
                .iter()
                .map(|contact| self.choices(crm, list, contact, &rows))
                .collect();
        }
        let each = contacts.iter().map(|contact| async {
            let rows = self
                .rows(crm, part, list, std::slice::from_ref(contact))
                .await;
            self.choices(crm, list, contact, &rows)
        });
        join_all(each).await
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
        Ok(List {
            items: theirs.filter_map(|row| list.choice(&scope, row)).collect(),
            complete: rows.complete,
            full_page: rows.full_page,
            unasked: rows.unasked,
        })
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
        let record = list
            .names_record_in_path()
            .then(|| contacts.first())
            .flatten();
        let rounds = list.request.rounds(&scope);
        let lists = rounds.iter().map(|round| async {
            let scope = list.request.in_round(&scope, round.as_ref());
            // A refusal may be about the value of the round, such as a deleted record.
            let about = record.map(|contact| match round {
                Some(value) => format!("{} {value}", contact.id),
                None => contact.id.clone(),
            });
            let calls = crm.part(&part.part, about.as_deref());
            list.request.list(calls, &scope).await
        });
        let mut lists = join_all(lists).await;
        // One value that the CRM refuses for good does not cost the others.
        if lists.iter().any(Result::is_ok) {
            lists.retain(|list| {
                list.as_ref()
                    .err()
                    .is_none_or(|error| !refusals::is_lasting(error))
            });
        }
        let lists: Result<Vec<_>, LookupError> = lists.into_iter().collect();
        Ok(joined(lists?))
    }
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
    let text = |value: &Value| crate::domain::json::text(Some(value));
    let owner = text(owner);
    !owner.is_empty() && ids.iter().any(|id| text(id) == owner)
}

/// The choices of a contact by name. Parts with the same name are joined, each choice once. If one
/// of them failed, the others are still offered.
fn enrichment(
    crm: &CrmSession,
    contact: &Contact,
    parts: Vec<(&str, Result<List<Value>, LookupError>)>,
) -> Enrichment {
    let mut enrichment = Enrichment {
        info: contact.additional_info.clone(),
        ..Enrichment::default()
    };
    let mut offered: HashMap<&str, Vec<Value>> = HashMap::new();
    for (name, choices) in parts {
        let offered = offered.entry(name).or_default();
        let choices = choices.map(|list| {
            for choice in list.items {
                let is_known = offered
                    .iter()
                    .any(|known| known["const"] == choice["const"]);
                if !is_known {
                    offered.push(choice);
                }
            }
            List {
                items: offered.clone(),
                complete: list.complete,
                full_page: list.full_page,
                unasked: list.unasked,
            }
        });
        enrichment.add(crm.log_throttle(), name, choices);
    }
    enrichment
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
        if self
            .drop
            .as_ref()
            .is_some_and(|rule| rule.drops(scope, row))
        {
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
        let before = self.request.before.iter().map(|before| &before.request);
        let paths = before
            .chain([&self.request])
            .flat_map(|request| &request.path);
        let mut slots = paths.flat_map(Template::slots);
        let each = self.request.each.iter().flat_map(|each| &each.values);
        let mut each = each.flat_map(Template::slots);
        let is_record = |slot: &TemplateSlot| matches!(slot.name, Name::Record(_));
        let each_is_record = each.any(is_record);
        slots.any(|slot| is_record(slot) || (each_is_record && matches!(slot.name, Name::For(_))))
    }
}

impl DropRule {
    fn drops(&self, scope: &SlotScope<'_>, row: &Value) -> bool {
        let is_off = |setting: &String| {
            !scope
                .settings
                .is_some_and(|settings| settings.is_on(setting))
        };
        self.unless_setting.as_ref().is_none_or(is_off)
            && self
                .at
                .all(row, scope)
                .into_iter()
                .any(|found| self.values.contains(found))
    }
}
