//! Reads searches, and how their records are mapped.

use super::super::keys;
use super::super::name::{Name, Site};
use super::super::plan::{
    BatchLimits, NumberUse, RecordPlan, SearchRequest, TextField, ValueField, ValueTemplate,
};
use super::super::slot::Template;
use super::super::tree::NodeValue;
use super::field::{Field, TableEntry};
use super::request::{RequestSite, request};
use super::table::Table;
use crate::connector::path::Path;

/// Reads a search. `n` counts them from 1.
pub(super) fn search(
    field: Field<'_>,
    n: usize,
    headers: &[TableEntry<'_>],
) -> Option<SearchRequest> {
    let table = field.table(&[keys::REQUEST, keys::SEARCH])?;
    let request = request(&table, RequestSite::Search, headers);
    let phones = table.list_of("phones", Path::parse);
    let record = table.require("record", "needs record: how its records are mapped");
    let record = record.and_then(record_plan);
    let (request, record) = (request?, record?);
    let search = SearchRequest {
        depends: request.depends(),
        request,
        phones: table.has("phones").then_some(phones),
        keeps_others: false,
        record,
        only_if_empty: table.switch("only_if_empty"),
        optional: table.switch("optional").then(|| format!("search {n}")),
        if_among: table.get("if_among").and_then(if_among),
        is_exact: table.switch("exact"),
        batch: table.get("batch").and_then(batch),
    };
    check_numbers(&table, &search);
    Some(search)
}

/// A setting, and the word that it must have.
fn if_among(field: Field<'_>) -> Option<(String, String)> {
    let entry = field.only_entry("takes one setting and one word")?;
    Some((entry.key.to_owned(), entry.value.text()?.to_owned()))
}

/// A search must be about a number, or show whose records it finds.
fn check_numbers(table: &Table<'_>, search: &SearchRequest) {
    let shows_none = search.phones.is_none();
    if search.depends == NumberUse::Nothing && shows_none {
        table.fault("names no number and no phones, so every record would match");
    }
    if search.batch.is_some() && (!search.asks_once() || shows_none) {
        table.fault(
            "has a batch, so it needs phones, and its slots must be numbers.VIEW or texts, not \
             number.VIEW or text",
        );
    }
}

fn batch(field: Field<'_>) -> Option<BatchLimits> {
    let size = |count| usize::try_from(count).ok();
    if let NodeValue::Number(_) = field.value() {
        let values = field.value().whole_number().filter(|&count| count > 0);
        return Some(BatchLimits {
            values: values.and_then(size).unwrap_or(1),
            text: usize::MAX,
        });
    }
    let table = field.table(&[keys::BATCH])?;
    let limit = |key| table.count(key).and_then(size).unwrap_or(usize::MAX);
    Some(BatchLimits {
        values: limit("values"),
        text: limit("text"),
    })
}

/// Reads `[record]`.
fn record_plan(field: Field<'_>) -> Option<RecordPlan> {
    let table = field.table(&[keys::RECORD])?;
    let texts = |key| table.get(key).map(text_field).unwrap_or_default();
    let id = texts("id");
    check_id(&table, &id);
    Some(RecordPlan {
        id,
        kind: texts("kind"),
        name: texts("name"),
        title: texts("title"),
        company: texts("company"),
        email: texts("email"),
        created: texts("created"),
        last_activity: texts("last_activity"),
        info: values(&table, "info"),
        info_at: None,
    })
}

fn check_id(table: &Table<'_>, id: &TextField) {
    let Some(field) = table.require("id", "needs id") else {
        return;
    };
    let is_of_record = |template: &Template| {
        template
            .slots()
            .any(|slot| matches!(slot.name, Name::Own(_)))
    };
    if !id.0.iter().all(is_of_record) {
        field.fault(
            "has no value of the record, so all records would have the same id; write {{path}} for the value at a path",
        );
    }
}

fn text_field(field: Field<'_>) -> TextField {
    let fields = field.one_or_more().into_iter();
    let templates = fields.filter_map(|field| field.template(Site::Record));
    TextField(templates.collect())
}

/// Names and values of the table under a key.
pub(super) fn values(table: &Table<'_>, key: &str) -> Vec<(String, ValueField)> {
    table.entries_of(key).into_iter().map(value).collect()
}

fn value(entry: TableEntry<'_>) -> (String, ValueField) {
    (entry.key.to_owned(), value_field(entry.value))
}

fn value_field(field: Field<'_>) -> ValueField {
    let fields = field.one_or_more().into_iter();
    ValueField(fields.filter_map(value_template).collect())
}

fn value_template(field: Field<'_>) -> Option<ValueTemplate> {
    let NodeValue::Text(_) = field.value() else {
        return field.scalar().map(ValueTemplate::Literal);
    };
    let template = field.template(Site::Record)?;
    Some(match template.literal() {
        Some(text) => ValueTemplate::Literal(text.into()),
        None => ValueTemplate::Text(template),
    })
}
