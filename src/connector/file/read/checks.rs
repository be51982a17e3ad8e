//! Checks of whole requests: that a POST looks as if it only reads, and that names exist.

use super::super::name::Name;
use super::super::plan::{BodyNode, BodyPlan, RequestPlan};
use super::super::slot::{Piece, Template};
use super::super::tree::Faults;
use super::table::Table;
use crate::connector::pages::Pager;
use crate::connector::path::Wanted;

/// Last segments of paths whose POST is known to read.
const READS: [&str; 16] = [
    "search",
    "query",
    "suiteql",
    "coql",
    "read",
    "jsonrpc",
    "search_read",
    "lookup",
    "find",
    "graphql",
    "duplicate",
    "list",
    "filter",
    "searches",
    "queries",
    "web_search_read",
];

/// A POST must look as if it only reads.
pub(super) fn check_post(table: &Table<'_>, plan: &RequestPlan, faults: &Faults) {
    let Some(node) = table.get("read_by_post") else {
        if let Some(node) = table.get("body").or_else(|| table.get("form")) {
            faults.add(&node.place, "belongs to read_by_post; a GET has no body");
        }
        return;
    };
    let last = plan.segments().last();
    let last = last.and_then(Template::literal).unwrap_or_default();
    let last = last.trim_end_matches(".json").to_ascii_lowercase();
    let is_read = READS
        .iter()
        .any(|read| last == *read || last.ends_with(&format!(":{read}")));
    if !is_read && !table.has("reads_because") {
        let message = "does not look like a read, as /contacts/search or /query does; say in reads_because why it \
                       changes nothing";
        faults.add(&node.place, message);
    }
    if let Some(BodyPlan::Json(body)) = &plan.body
        && begins_mutation(body)
    {
        faults.add(&node.place, "sends a GraphQL mutation, which is not a read");
    }
}

fn begins_mutation(node: &BodyNode) -> bool {
    let is_mutation = |text: &str| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.split(|c: char| !is_name(c))
            .any(|word| word == "mutation")
    };
    match node {
        BodyNode::Literal(value) => value.as_str().is_some_and(is_mutation),
        BodyNode::Text(template) => {
            matches!(template.0.first(), Some(Piece::Text(text)) if is_mutation(text))
        }
        BodyNode::List(items) => items.iter().any(begins_mutation),
        BodyNode::Each(item) => begins_mutation(item),
        BodyNode::Object(members) => members.iter().any(|(_, node)| begins_mutation(node)),
    }
}

/// A name of `for` must exist, and a list has the same path for everybody.
pub(super) fn check_names(table: &Table<'_>, plan: &RequestPlan, faults: &Faults) {
    let each = plan.each.as_ref().map(|each| each.name.as_str());
    for slot in plan.slots() {
        if let Name::For(name) = &slot.name
            && each != Some(name.as_str())
        {
            table.fault(format!("has {{{{for.{name}}}}}, and no for with that name"));
        }
    }
    let is_name = |wanted: &Wanted| !matches!(wanted, Wanted::Text(_));
    if plan.list.list.wanted().any(is_name)
        && let Some(node) = table.get("list")
    {
        faults.add(&node.place, "must not have slots");
    }
}

/// A page in a body needs a body.
pub(super) fn check_pages(table: &Table<'_>, plan: &RequestPlan, faults: &Faults) {
    let body_page = plan.pager.as_ref().is_some_and(Pager::is_in_body);
    if body_page && !matches!(plan.body, Some(BodyPlan::Json(_))) {
        let place = table.get("pages").map_or(table.place, |node| &node.place);
        faults.add(place, "has pages in a body, and no JSON body");
    }
}
