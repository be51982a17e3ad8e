//! Reads how records, choices and details are mapped.

use serde_json::{Map, Value};

use super::super::keys;
use super::super::name::{Name, Site};
use super::super::plan::{
    BatchLimits, DetailsList, DetailsRequest, DetailsSource, DropRule, NumberUse, RecordPlan,
    RowOwner, SearchRequest, TextField, ValueField, ValueTemplate,
};
use super::super::tree::{Entry, Faults, Node, NodeValue};
use super::request::{RequestSite, request};
use super::table::{Table, path, scalars, template, text};
use crate::connector::path::Path;

/// Reads a search. `n` counts them from 1.
pub(super) fn search(
    node: &Node,
    n: usize,
    crm_headers: &[Entry],
    faults: &Faults,
) -> Option<SearchRequest> {
    let table = Table::new(node, &[keys::REQUEST, keys::SEARCH], faults)?;
    let request = request(&table, RequestSite::Search, crm_headers, faults);
    let phones = table.list_of("phones", Path::parse);
    let record = if let Some(node) = table.get("record") {
        record(node, faults)
    } else {
        table.fault("needs record: how its records are mapped");
        None
    };
    let (request, record) = (request?, record?);
    let depends = request.depends();
    let phones = table.has("phones").then_some(phones);
    if depends == NumberUse::Nothing && phones.is_none() {
        table.fault("names no number and no phones, so every record would match");
    }
    let batch = table.get("batch").and_then(|node| batch(node, faults));
    if batch.is_some() && (depends > NumberUse::Lists || phones.is_none()) {
        table.fault("needs phones, and numbers.VIEW or texts instead of number.VIEW and text, for its batch");
    }
    Some(SearchRequest {
        request,
        phones,
        keeps_others: false,
        record,
        only_if_empty: table.switch("only_if_empty"),
        optional: table.switch("optional").then(|| format!("search {n}")),
        if_among: table
            .get("if_among")
            .and_then(|node| if_among(node, faults)),
        is_exact: table.switch("exact"),
        batch,
        depends,
    })
}

/// A setting, and the word that it must have.
fn if_among(node: &Node, faults: &Faults) -> Option<(String, String)> {
    let [entry] = Table::open(node, faults)?.entries() else {
        faults.add(&node.place, "takes one setting and one word");
        return None;
    };
    Some((entry.key.clone(), text(&entry.node, faults)?.to_owned()))
}

fn batch(node: &Node, faults: &Faults) -> Option<BatchLimits> {
    let whole = |count: Option<u64>, default| {
        count
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(default)
    };
    if let NodeValue::Number(number) = &node.value {
        return Some(BatchLimits {
            values: whole(number.as_u64().filter(|count| *count > 0), 1),
            text: usize::MAX,
        });
    }
    let table = Table::new(node, &[keys::BATCH], faults)?;
    Some(BatchLimits {
        values: whole(table.count("values"), usize::MAX),
        text: whole(table.count("text"), usize::MAX),
    })
}

/// Reads `[record]`.
pub(super) fn record(node: &Node, faults: &Faults) -> Option<RecordPlan> {
    let table = Table::new(node, &[keys::RECORD], faults)?;
    let field = |key| {
        table
            .get(key)
            .map_or_else(TextField::default, |node| texts(node, faults))
    };
    match table.get("id") {
        None => table.fault("needs id"),
        Some(node) => {
            let ids = texts(node, &Faults::default());
            if ids.0.iter().any(|id| id.literal().is_some()) {
                let message = "has no slot, so all records would have one id; a value is {{path}}";
                faults.add(&node.place, message);
            }
        }
    }
    Some(RecordPlan {
        id: field("id"),
        kind: field("kind"),
        name: field("name"),
        title: field("title"),
        company: field("company"),
        email: field("email"),
        created: field("created"),
        last_activity: field("last_activity"),
        info: table
            .get("info")
            .map_or_else(Vec::new, |node| values(node, faults)),
        info_at: None,
    })
}

fn texts(node: &Node, faults: &Faults) -> TextField {
    let nodes = match &node.value {
        NodeValue::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    let templates = nodes
        .into_iter()
        .filter_map(|node| template(node, Site::Record, faults));
    TextField(templates.collect())
}

/// Names and values.
fn values(node: &Node, faults: &Faults) -> Vec<(String, ValueField)> {
    let Some(table) = Table::open(node, faults) else {
        return Vec::new();
    };
    let value = |entry: &Entry| {
        let nodes = match &entry.node.value {
            NodeValue::List(items) => items.iter().collect(),
            _ => vec![&entry.node],
        };
        let templates = nodes
            .into_iter()
            .filter_map(|node| value_template(node, faults));
        (entry.key.clone(), ValueField(templates.collect()))
    };
    table.entries().iter().map(value).collect()
}

fn value_template(node: &Node, faults: &Faults) -> Option<ValueTemplate> {
    match &node.value {
        NodeValue::Text(_) => {
            let template = template(node, Site::Record, faults)?;
            Some(match template.literal() {
                Some(text) => ValueTemplate::Literal(text.into()),
                None => ValueTemplate::Text(template),
            })
        }
        _ => scalars(node, faults)
            .into_iter()
            .next()
            .map(ValueTemplate::Literal),
    }
}

/// Reads a part of the details. `n` counts them from 1.
pub(super) fn details(
    node: &Node,
    n: usize,
    crm_headers: &[Entry],
    faults: &Faults,
) -> Option<DetailsRequest> {
    let table = Table::new(node, &[keys::REQUEST, keys::DETAILS], faults)?;
    let name = table.text("name");
    if name.is_none() && !table.has("name") {
        table.fault("needs name: the key in additional_info");
    }
    let source = if table.has("choices") {
        DetailsSource::Fixed(choices(&table, faults))
    } else {
        DetailsSource::Request(Box::new(details_list(&table, crm_headers, faults)?))
    };
    let name = name?.to_owned();
    Some(DetailsRequest {
        part: format!("{name} {n}"),
        name,
        source,
        if_setting: table.text("if_setting").map(str::to_owned),
    })
}

/// Fixed choices: objects of scalars.
fn choices(table: &Table<'_>, faults: &Faults) -> Vec<Value> {
    let choice = |node: &Node| {
        let table = Table::open(node, faults)?;
        let member = |entry: &Entry| {
            let value = scalars(&entry.node, faults).into_iter().next()?;
            Some((entry.key.clone(), value))
        };
        let choice: Map<String, Value> = table.entries().iter().filter_map(member).collect();
        Some(Value::Object(choice))
    };
    table
        .tables("choices")
        .into_iter()
        .filter_map(choice)
        .collect()
}

fn details_list(table: &Table<'_>, crm_headers: &[Entry], faults: &Faults) -> Option<DetailsList> {
    let request = request(table, RequestSite::Details, crm_headers, faults);
    let choice = table
        .get("choice")
        .map_or_else(Vec::new, |node| values(node, faults));
    if !choice.iter().any(|(name, _)| name == "const") {
        table.fault("needs choice with const, the id of a choice");
    }
    let request = request?;
    let named = |is_list: bool| {
        request
            .slots()
            .into_iter()
            .find_map(|slot| match &slot.name {
                Name::Records(path) if is_list => Some(path.clone()),
                Name::Record(path) if !is_list => Some(path.clone()),
                _ => None,
            })
    };
    let owner = match (named(true), named(false), table.path("of")) {
        (Some(record), _, Some(of)) => Some(RowOwner {
            of,
            record,
            is_shared: true,
        }),
        (None, Some(record), Some(of)) => Some(RowOwner {
            of,
            record,
            is_shared: false,
        }),
        (Some(_), _, None) => {
            table.fault("needs of: where a row names its record");
            None
        }
        (None, None, Some(_)) => {
            table.fault("has of without record.PATH or records.PATH in the request");
            None
        }
        (None, _, None) => None,
    };
    let per_answer = table.word("per", &[("answer", ())]).is_some();
    let is_about_record = |slot: &&super::super::slot::Slot| {
        matches!(slot.name, Name::Record(_) | Name::Records(_)) || slot.name.is_number()
    };
    if !table.has("per") && !request.slots().iter().any(is_about_record) {
        table.fault("names no record; per = \"answer\" gives all contacts the same choices");
    }
    Some(DetailsList {
        request,
        choice,
        drop: table.get("drop").and_then(|node| drop_rule(node, faults)),
        owner,
        per_answer,
    })
}

fn drop_rule(node: &Node, faults: &Faults) -> Option<DropRule> {
    let table = Table::open(node, faults)?;
    let mut rule = None;
    for entry in table
        .entries()
        .iter()
        .filter(|entry| entry.key != "unless_setting")
    {
        if rule.is_some() {
            faults.add(&entry.place, "is a second path; drop takes one");
        }
        let path = Node {
            place: entry.place.clone(),
            value: NodeValue::Text(entry.key.clone()),
        };
        let at = super::table::path(&path, faults)?;
        rule = Some((at, scalars(&entry.node, faults)));
    }
    let setting = table
        .get("unless_setting")
        .and_then(|node| text(node, faults));
    let Some((at, values)) = rule else {
        table.fault("needs a path and its values");
        return None;
    };
    Some(DropRule {
        at,
        values,
        unless_setting: setting.map(str::to_owned),
    })
}

/// A list of paths under a key of `[whoami]`.
pub(super) fn ids(table: &Table<'_>, faults: &Faults) -> Vec<Path> {
    let Some(node) = table.get("id") else {
        table.fault("needs id: the path of the user's id, and of the account's");
        return Vec::new();
    };
    match &node.value {
        NodeValue::List(items) => {
            if !(1..=2).contains(&items.len()) {
                faults.add(
                    &node.place,
                    "must be the path of the user's id, and of the account's",
                );
            }
            items.iter().filter_map(|item| path(item, faults)).collect()
        }
        _ => path(node, faults).into_iter().collect(),
    }
}
