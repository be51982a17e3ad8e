//! Checks that a POST looks as if it only reads.

use super::super::plan::{BodyNode, BodyPlan, RequestPlan};
use super::super::slot::{Piece, Template};
use super::super::tree::Faults;
use super::table::Table;

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
