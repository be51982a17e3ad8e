//! Checks of whole requests: that a POST looks as if it only reads, and that names exist.

use super::super::plan::{Argument, BodyNode, BodyPlan, RequestPlan};
use super::super::slot::{Template, TemplatePiece};
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
pub(super) fn check_post(table: &Table<'_>, plan: &RequestPlan) {
    let Some(post) = table.get("read_by_post") else {
        if let Some(body) = table.get("body").or_else(|| table.get("form")) {
            body.fault("belongs to read_by_post; a GET has no body");
        }
        return;
    };
    if !is_known_read(plan) && !table.has("reads_because") {
        post.fault(
            "does not look like a read, unlike /contacts/search or /query; say in reads_because why it changes \
             nothing",
        );
    }
    if let Some(BodyPlan::Json(body)) = &plan.body
        && begins_mutation(body)
    {
        post.fault("sends a GraphQL mutation, which is not a read");
    }
}

/// Whether the path ends as those of reads do: `/search`, `/search.json`, `/contacts:search`.
fn is_known_read(plan: &RequestPlan) -> bool {
    let last = plan.segments().last().and_then(Template::literal);
    let last = last.unwrap_or_default().trim_end_matches(".json");
    let last = last.to_ascii_lowercase();
    let verb = last.rsplit(':').next();
    verb.is_some_and(|verb| READS.contains(&verb))
}

fn begins_mutation(node: &BodyNode) -> bool {
    match node {
        BodyNode::Literal(value) => value.as_str().is_some_and(names_mutation),
        BodyNode::Text(template) => {
            matches!(template.0.first(), Some(TemplatePiece::Text(text)) if names_mutation(text))
        }
        BodyNode::List(items) => items.iter().any(begins_mutation),
        BodyNode::Each(item) => begins_mutation(item),
        BodyNode::Object(members) => members.iter().any(|(_, node)| begins_mutation(node)),
    }
}

fn names_mutation(text: &str) -> bool {
    let mut words = text.split(|c: char| !is_of_name(c));
    words.any(|word| word == "mutation")
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A name of `for` must exist. The path of a list is the same for everybody, so it has no slots.
pub(super) fn check_names(table: &Table<'_>, plan: &RequestPlan) {
    for name in unknown_for_names(plan) {
        table.fault(format!(
            "uses {{{{for.{name}}}}}, but for.{name} is not defined"
        ));
    }
    let is_slot = |wanted: &Wanted| !matches!(wanted, Wanted::Text(_));
    if plan.list.list.wanted().any(is_slot)
        && let Some(list) = table.get("list")
    {
        list.fault("must not have slots");
    }
}

/// If the page is a parameter of the body, the request needs a JSON body. The page must not replace
/// a parameter of the query that has a slot.
pub(super) fn check_pages(table: &Table<'_>, plan: &RequestPlan) {
    let is_in_body = plan.pager.as_ref().is_some_and(Pager::is_in_body);
    let has_body = matches!(plan.body, Some(BodyPlan::Json(_)));
    if let Some(pages) = table.get("pages").filter(|_| is_in_body && !has_body) {
        pages.fault("puts the page into the body, but the request has no JSON body");
    }
    let parameter = plan.pager.as_ref().and_then(Pager::in_query);
    let is_replaced = |(name, argument): &(String, Argument)| {
        parameter == Some(name) && argument.templates().iter().any(|it| !it.is_literal())
    };
    let replaces = plan.query.iter().any(is_replaced);
    if let Some(pages) = table.get("pages").filter(|_| replaces) {
        pages.fault(
            "would replace a parameter of the query that has a slot: the next page would ask for \
             something else",
        );
    }
}

fn unknown_for_names(plan: &RequestPlan) -> impl Iterator<Item = &str> {
    let known = plan.each.as_ref().map(|each| each.name.as_str());
    let slots = plan.slots().into_iter();
    let names = slots.filter_map(|slot| slot.name.for_name());
    names.filter(move |name| known != Some(*name))
}
