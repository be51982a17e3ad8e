//! Reads the details of contacts: fixed choices, or a request and how its rows are mapped.

use serde_json::Value;

use super::super::keys;
use super::super::name::Name;
use super::super::plan::{
    DetailsList, DetailsRequest, DetailsSource, DropRule, RequestPlan, RowOwner,
};
use super::super::slot::TemplateSlot;
use super::field::{Field, TableEntry};
use super::record::values;
use super::request::{RequestSite, request};
use super::table::Table;
use crate::connector::path::Path;

/// Reads a part of the details. `n` counts them from 1.
pub(super) fn details(
    field: Field<'_>,
    n: usize,
    headers: &[TableEntry<'_>],
) -> Option<DetailsRequest> {
    let table = field.table(&[keys::REQUEST, keys::DETAILS])?;
    let name = table.require("name", "needs name: the key in additional_info");
    let name = name.and_then(Field::text);
    let source = source(&table, headers)?;
    let name = name?.to_owned();
    Some(DetailsRequest {
        part: format!("{name} {n}"),
        name,
        source,
        if_setting: table.text("if_setting").map(str::to_owned),
    })
}

fn source(table: &Table<'_>, headers: &[TableEntry<'_>]) -> Option<DetailsSource> {
    if table.has("choices") {
        return Some(DetailsSource::Fixed(choices(table)));
    }
    let list = details_list(table, headers)?;
    Some(DetailsSource::Request(Box::new(list)))
}

/// Fixed choices: objects of scalars.
fn choices(table: &Table<'_>) -> Vec<Value> {
    let choices = table.tables("choices").into_iter();
    choices.filter_map(choice).collect()
}

fn choice(field: Field<'_>) -> Option<Value> {
    let members = field.open()?.entries().filter_map(scalar_member);
    Some(members.collect())
}

fn scalar_member(entry: TableEntry<'_>) -> Option<(String, Value)> {
    Some((entry.key.to_owned(), entry.value.scalar()?))
}

fn details_list(table: &Table<'_>, headers: &[TableEntry<'_>]) -> Option<DetailsList> {
    let request = request(table, RequestSite::Details, headers);
    let choice = values(table, "choice");
    if !choice.iter().any(|(name, _)| name == "const") {
        table.fault("needs choice with const, the id of a choice");
    }
    let request = request?;
    let owner = row_owner(table, &request);
    let per_answer = table.word("per", &[("answer", ())]).is_some();
    if !table.has("per") && !request.slots().into_iter().any(is_about_record) {
        table.fault("names no record; per = \"answer\" gives all contacts the same choices");
    }
    Some(DetailsList {
        request,
        choice,
        drop: table.get("drop").and_then(drop_rule),
        owner,
        per_answer,
    })
}

fn is_about_record(slot: &TemplateSlot) -> bool {
    slot.name.is_record() || slot.name.is_number()
}

/// Whose a row is.
fn row_owner(table: &Table<'_>, request: &RequestPlan) -> Option<RowOwner> {
    match (asked_record(request), table.path("of")) {
        (Some((record, is_shared)), Some(of)) => Some(RowOwner {
            of,
            record,
            is_shared,
        }),
        (Some((_, true)), None) => {
            table.reject("needs the key `of`, which says where a row names its record")
        }
        (None, Some(_)) => {
            table.reject("has the key `of`, but the request has no record.PATH or records.PATH")
        }
        (_, None) => None,
    }
}

/// The value by which the request names contacts, and whether one request names all of them.
fn asked_record(request: &RequestPlan) -> Option<(Path, bool)> {
    let slots = request.slots().into_iter();
    let named = slots.filter_map(|slot| match &slot.name {
        Name::Records(path) => Some((path.clone(), true)),
        Name::Record(path) => Some((path.clone(), false)),
        _ => None,
    });
    let named: Vec<_> = named.collect();
    let of_all = named.iter().find(|(_, is_shared)| *is_shared);
    of_all.or(named.first()).cloned()
}

fn drop_rule(field: Field<'_>) -> Option<DropRule> {
    let table = field.open()?;
    let mut rules = table
        .entries()
        .filter(|entry| entry.key != "unless_setting");
    let Some(rule) = rules.next() else {
        return table.reject("needs a path and its values");
    };
    rules.for_each(|more| more.fault("is a second path; drop takes one"));
    Some(DropRule {
        at: rule.path_of_key()?,
        values: rule.value.scalars(),
        unless_setting: table.text("unless_setting").map(str::to_owned),
    })
}
