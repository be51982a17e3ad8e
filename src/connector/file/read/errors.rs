//! Reads `[rate]` and `[[errors]]`: signals of a CRM that differ from the usual ones.

use http::header::HeaderName;

use super::super::keys;
use super::super::tree::{Faults, Node, NodeValue};
use super::table::{Table, parsed, path, scalars, text};
use crate::connector::headers::RateSignals;
use crate::connector::reply_class::{ReplyClass, ReplyCondition, ReplyRule, ReplySign};

pub(super) fn rate(table: &Table<'_>, faults: &Faults) -> RateSignals {
    let header = |key: &str| {
        let node = table.get(key)?;
        let name = HeaderName::from_bytes(text(node, faults)?.as_bytes());
        parsed(
            name.map_err(|_| "is not the name of a header"),
            node,
            faults,
        )
    };
    RateSignals {
        remaining: header("remaining"),
        limit: header("limit"),
        reset: header("reset"),
    }
}

/// Reads one rule of `[[errors]]`.
pub(super) fn error_rule(node: &Node, faults: &Faults) -> Option<ReplyRule> {
    const CLASSES: [(&str, ReplyClass); 7] = [
        ("rate_limited", ReplyClass::RateLimited),
        ("unauthenticated", ReplyClass::Unauthenticated),
        ("forbidden", ReplyClass::Forbidden),
        ("unavailable", ReplyClass::Unavailable),
        ("bad_reply", ReplyClass::Bad),
        ("partial", ReplyClass::Partial),
        ("nothing", ReplyClass::Nobody),
    ];
    let table = Table::new(node, &[keys::ERRORS], faults)?;
    let statuses = table.get("status").map(|node| statuses(node, faults));
    let conditions = conditions(&table, faults);
    if table.has("not_json") && !conditions.is_empty() {
        table.fault("has not_json beside a condition on the body");
    }
    if statuses.is_none() && conditions.is_empty() {
        table.fault(
            "needs a condition: status, header, where, where_not, where_present or where_absent",
        );
    }
    let Some(class) = table.word("means", &CLASSES) else {
        if !table.has("means") {
            table.fault("needs means");
        }
        return None;
    };
    Some(ReplyRule {
        // Without a status the body of an answer decides.
        statuses: statuses.unwrap_or_else(|| vec![200..=200]).into(),
        sign: if table.switch("not_json") {
            ReplySign::NoJson
        } else if conditions.is_empty() {
            ReplySign::Any
        } else {
            ReplySign::All(conditions)
        },
        class,
    })
}

fn statuses(node: &Node, faults: &Faults) -> Vec<std::ops::RangeInclusive<u16>> {
    let status = |value: serde_json::Value| {
        let status = value.as_u64().and_then(|status| u16::try_from(status).ok());
        let status = status.filter(|status| (100..600).contains(status));
        if status.is_none() {
            faults.add(&node.place, "must be an HTTP status or a list of them");
        }
        status.map(|status| status..=status)
    };
    scalars(node, faults)
        .into_iter()
        .filter_map(status)
        .collect()
}

fn conditions(table: &Table<'_>, faults: &Faults) -> Vec<ReplyCondition> {
    let mut conditions = Vec::new();
    let entries = |key| {
        let table = table.get(key).and_then(|node| Table::open(node, faults));
        table.map_or(&[][..], |table| table.entries())
    };
    for entry in entries("header") {
        let name = HeaderName::from_bytes(entry.key.as_bytes());
        if let (Ok(name), Some(value)) = (name, text(&entry.node, faults)) {
            conditions.push(ReplyCondition::Header(name, value.to_owned()));
        }
    }
    for (key, is_not) in [("where", false), ("where_not", true)] {
        for entry in entries(key) {
            let path = Node {
                place: entry.place.clone(),
                value: NodeValue::Text(entry.key.clone()),
            };
            let Some(path) = super::table::path(&path, faults) else {
                continue;
            };
            let values = scalars(&entry.node, faults);
            conditions.push(if is_not {
                ReplyCondition::IsNot(path, values)
            } else {
                ReplyCondition::Is(path, values)
            });
        }
    }
    let paths = |key| match table.get(key) {
        None => Vec::new(),
        Some(Node {
            value: NodeValue::List(items),
            ..
        }) => items.iter().filter_map(|item| path(item, faults)).collect(),
        Some(node) => path(node, faults).into_iter().collect::<Vec<_>>(),
    };
    conditions.extend(
        paths("where_present")
            .into_iter()
            .map(ReplyCondition::Present),
    );
    conditions.extend(
        paths("where_absent")
            .into_iter()
            .map(ReplyCondition::Absent),
    );
    conditions
}
