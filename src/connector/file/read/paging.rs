//! Reads how a list continues.

use super::super::keys;
use super::super::tree::{Faults, Node, NodeValue};
use super::table::{Table, path, text};
use crate::connector::pages::{PageCount, Pager, Parameter};

/// Reads `pages`. `None` for false.
pub(super) fn pager(node: &Node, faults: &Faults) -> Option<Pager> {
    if matches!(node.value, NodeValue::Bool(false)) {
        return None;
    }
    let table = Table::new(node, &[keys::PAGES], faults)?;
    let more = table.path("more");
    let count = || {
        let size = table.count("size");
        if size.is_none() && more.is_none() {
            table.fault("needs size, the entries of a full page, or more");
        }
        PageCount {
            size: size.unwrap_or(u64::MAX),
            more: more.clone(),
        }
    };
    let to = |key| parameter(table.get(key)?, faults);
    if let Some(link) = table.get("link") {
        return match text(link, faults)? {
            "header" => Some(Pager::LinkHeader),
            _ => Some(Pager::Link {
                at: path(link, faults)?,
            }),
        };
    }
    if let Some(cursor) = table.get("cursor") {
        let at = path(cursor, faults)?;
        let to = to("as").or_else(|| {
            table.fault("needs as: where the cursor goes");
            None
        })?;
        let is_number = table.switch("number");
        return Some(Pager::Cursor {
            at,
            is_number,
            to,
            more,
        });
    }
    if table.has("offset") {
        return Some(Pager::Offset {
            to: to("offset")?,
            count: count(),
        });
    }
    if table.has("page") {
        let first = table.get("first").and_then(|node| match &node.value {
            NodeValue::Number(number) => number.as_u64(),
            _ => None,
        });
        return Some(Pager::Page {
            to: to("page")?,
            count: count(),
            first: first.unwrap_or(1),
        });
    }
    table.fault("needs link, cursor, offset or page");
    None
}

fn parameter(node: &Node, faults: &Faults) -> Option<Parameter> {
    match text(node, faults)?.split_once('.') {
        Some(("query", name)) => Some(Parameter::Query(name.to_owned())),
        Some(("body", keys)) => Some(Parameter::Body(
            keys.split('.').map(str::to_owned).collect(),
        )),
        _ => {
            faults.add(&node.place, "must be query.NAME or body.PATH");
            None
        }
    }
}
