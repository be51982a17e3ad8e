//! Reads requests: the method and path, parameters, bodies, lists and paging.

use http::header::HeaderName;
use serde_json::Value;

use super::super::keys;
use super::super::literal::Language;
use super::super::name::Site;
use super::super::plan::{Argument, BeforeRequest, BodyNode, BodyPlan, EachValue, RequestPlan};
use super::super::render::each_slot;
use super::super::run::MOST_EACH;
use super::super::slot::{Slot, Template};
use super::super::slot_error::SlotError;
use super::super::tree::{Entry, Faults, Node, NodeValue};
use super::checks::{check_names, check_pages, check_post};
use super::connection::is_own;
use super::paging::pager;
use super::table::{Table, parsed, path, template, text};
use crate::connector::path::Path;
use crate::connector::request::Method;
use crate::connector::success::{ListForm, ListShape};

/// The most requests before another one.
const MOST_BEFORE: usize = 3;

/// Where a request stands, which decides the names in its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestSite {
    Search,
    Details,
    WhoAmI,
}

impl RequestSite {
    fn with(self, before: &[String]) -> Site<'_> {
        match self {
            Self::Search => Site::Search(before),
            Self::Details => Site::Details(before),
            Self::WhoAmI => Site::WhoAmI,
        }
    }
}

/// Reads a request. `crm_headers` are those of every request.
pub(super) fn request(
    table: &Table<'_>,
    site: RequestSite,
    crm_headers: &[Entry],
    faults: &Faults,
) -> Option<RequestPlan> {
    let each = each_value(table, site, faults);
    let (before, names) = before(table, site, crm_headers, faults);
    let site = site.with(&names);
    let language = table.word("language", &Language::ALL);
    let reader = Reader {
        site,
        language,
        faults,
    };
    let (method, path) = reader.method_and_path(table)?;
    let list = ListForm {
        list: table.path("list").unwrap_or_else(|| Path::of_keys(&[])),
        shape: table
            .word("shape", &ListShape::ALL)
            .unwrap_or(ListShape::Objects),
    };
    let own_headers = table.get("headers").map(|node| Table::open(node, faults));
    let own_headers = own_headers
        .flatten()
        .map_or(&[][..], |table| table.entries());
    let headers = crm_headers.iter().chain(own_headers);
    let plan = RequestPlan {
        proxy: None,
        method,
        path,
        query: table
            .get("query")
            .map_or_else(Vec::new, |node| reader.arguments(node)),
        headers: headers.filter_map(|entry| reader.header(entry)).collect(),
        body: reader.body(table),
        language,
        list,
        pager: table.get("pages").and_then(|node| pager(node, faults)),
        each,
        before,
    };
    check_post(table, &plan, faults);
    check_names(table, &plan, faults);
    check_pages(table, &plan, faults);
    Some(plan)
}

fn each_value(table: &Table<'_>, site: RequestSite, faults: &Faults) -> Option<EachValue> {
    let node = table.get("for")?;
    let [entry] = Table::open(node, faults)?.entries() else {
        faults.add(&node.place, "takes one name: for.NAME = [ … ]");
        return None;
    };
    let NodeValue::List(items) = &entry.node.value else {
        faults.add(&entry.node.place, "must be a list of values");
        return None;
    };
    if items.len() > MOST_EACH {
        let message = format!(
            "has {} values; at most {MOST_EACH} are possible",
            items.len()
        );
        faults.add(&entry.node.place, message);
    }
    let value = |item| template(item, site.with(&[]), faults);
    Some(EachValue {
        name: entry.key.clone(),
        values: items.iter().filter_map(value).collect(),
    })
}

/// The requests before, and the names that they take.
fn before(
    table: &Table<'_>,
    site: RequestSite,
    crm_headers: &[Entry],
    faults: &Faults,
) -> (Vec<BeforeRequest>, Vec<String>) {
    let nodes = table.tables("before");
    if nodes.len() > MOST_BEFORE {
        let message = format!("has more than {MOST_BEFORE} requests");
        faults.add(table.place, format!("before {message}"));
    }
    let (mut requests, mut names) = (Vec::new(), Vec::new());
    let last = nodes.len().saturating_sub(1);
    for (n, node) in nodes.into_iter().enumerate() {
        let Some(table) = Table::new(node, &[keys::REQUEST, keys::BEFORE], faults) else {
            continue;
        };
        for key in ["for", "before", "list", "shape"] {
            if let Some(node) = table.get(key) {
                faults.add(
                    &node.place,
                    "is not possible in a request before another one",
                );
            }
        }
        if let Some(node) = table.get("pages").filter(|_| n < last) {
            let message = "is only possible in the last of several requests before another one";
            faults.add(&node.place, message);
        }
        let take = take(&table, faults);
        let earlier = names.clone();
        names.extend(take.iter().map(|(name, _)| name.clone()));
        if let Some(request) = request_before(&table, site, (&earlier, crm_headers), faults) {
            requests.push(BeforeRequest { request, take });
        }
    }
    (requests, names)
}

fn take(table: &Table<'_>, faults: &Faults) -> Vec<(String, Path)> {
    let Some(node) = table.get("take") else {
        table.fault("take is required: the names and paths that the main request uses");
        return Vec::new();
    };
    let table = Table::open(node, faults);
    let entries = table.as_ref().map_or(&[][..], Table::entries);
    let taken = |entry: &Entry| Some((entry.key.clone(), path(&entry.node, faults)?));
    entries.iter().filter_map(taken).collect()
}

fn request_before(
    table: &Table<'_>,
    site: RequestSite,
    (names, crm_headers): (&[String], &[Entry]),
    faults: &Faults,
) -> Option<RequestPlan> {
    let reader = Reader {
        site: site.with(names),
        language: table.word("language", &Language::ALL),
        faults,
    };
    let (method, path) = reader.method_and_path(table)?;
    let plan = RequestPlan {
        proxy: None,
        method,
        path,
        query: table
            .get("query")
            .map_or_else(Vec::new, |node| reader.arguments(node)),
        headers: crm_headers
            .iter()
            .filter_map(|entry| reader.header(entry))
            .collect(),
        body: reader.body(table),
        language: reader.language,
        list: ListForm::objects(&[]),
        pager: table.get("pages").and_then(|node| pager(node, faults)),
        each: None,
        before: Vec::new(),
    };
    check_post(table, &plan, faults);
    check_pages(table, &plan, faults);
    Some(plan)
}

/// Reads the parts of one request.
struct Reader<'a> {
    site: Site<'a>,
    language: Option<Language>,
    faults: &'a Faults,
}

impl Reader<'_> {
    fn method_and_path(&self, table: &Table<'_>) -> Option<(Method, Vec<Template>)> {
        let (method, node) = match (table.get("get"), table.get("read_by_post")) {
            (Some(node), None) => (Method::Get, node),
            (None, Some(node)) => (Method::ReadByPost, node),
            _ => {
                table.fault("needs either get or read_by_post");
                return None;
            }
        };
        Some((method, self.path(node)?))
    }

    fn path(&self, node: &Node) -> Option<Vec<Template>> {
        let source = text(node, self.faults)?;
        let template = parsed(Template::parse(source, self.site), node, self.faults)?;
        let fault = |message: &str| {
            self.faults.add(&node.place, message);
            None
        };
        if !source.starts_with('/') {
            return fault("must begin with a slash");
        }
        let segments = template.segments();
        let literal = |template: &Template| template.literal().map(str::to_owned);
        let is_odd =
            |text: String| matches!(text.as_str(), "." | "..") || text.contains(['?', '#']);
        if segments.iter().filter_map(literal).any(is_odd) {
            return fault("must be a plain path: parameters belong into query");
        }
        let (_, inner) = segments.split_last()?;
        if inner.iter().any(|segment| segment.literal() == Some("")) {
            return fault("has an empty segment");
        }
        if segments
            .iter()
            .any(|segment| segment.slots().any(|slot| slot.pattern.is_some()))
        {
            return fault("must not have patterns");
        }
        Some(segments)
    }

    fn header(&self, entry: &Entry) -> Option<(HeaderName, Template)> {
        let name = HeaderName::from_bytes(entry.key.as_bytes()).ok();
        let name = name.filter(|name| !is_own(name.as_str()));
        let Some(name) = name else {
            let message = "is not a header that a file may set: a credential belongs into [auth]";
            self.faults.add(&entry.place, message);
            return None;
        };
        Some((name, self.template(&entry.node)?))
    }

    fn arguments(&self, node: &Node) -> Vec<(String, Argument)> {
        let Some(table) = Table::open(node, self.faults) else {
            return Vec::new();
        };
        let argument = |entry: &Entry| {
            let argument = match &entry.node.value {
                NodeValue::List(items) => {
                    let templates = items.iter().filter_map(|item| self.template(item));
                    Argument::Many(templates.collect())
                }
                _ => Argument::One(self.template(&entry.node)?),
            };
            Some((entry.key.clone(), argument))
        };
        table.entries().iter().filter_map(argument).collect()
    }

    fn body(&self, table: &Table<'_>) -> Option<BodyPlan> {
        match (table.get("body"), table.get("form")) {
            (Some(node), None) => self.node(node, false).map(BodyPlan::Json),
            (None, Some(node)) => Some(BodyPlan::Form(self.arguments(node))),
            (None, None) => None,
            (Some(_), Some(node)) => {
                self.faults.add(&node.place, "is not possible beside body");
                None
            }
        }
    }

    fn node(&self, node: &Node, in_list_of_one: bool) -> Option<BodyNode> {
        Some(match &node.value {
            NodeValue::Null => BodyNode::Literal(Value::Null),
            NodeValue::Bool(on) => BodyNode::Literal((*on).into()),
            NodeValue::Number(number) => BodyNode::Literal(number.clone().into()),
            NodeValue::Text(_) => {
                let template = self.template_of_each(node, in_list_of_one)?;
                match template.literal() {
                    Some(text) => BodyNode::Literal(text.into()),
                    None => BodyNode::Text(template),
                }
            }
            NodeValue::List(items) => {
                let is_one = items.len() == 1;
                let nodes: Option<Vec<BodyNode>> =
                    items.iter().map(|item| self.node(item, is_one)).collect();
                let mut nodes = nodes?;
                match nodes.as_slice() {
                    [item] if each_slot(item).is_some() => {
                        BodyNode::Each(Box::new(nodes.remove(0)))
                    }
                    _ => BodyNode::List(nodes),
                }
            }
            NodeValue::Table(entries) => {
                let member = |entry: &Entry| {
                    Some((entry.key.clone(), self.node(&entry.node, in_list_of_one)?))
                };
                BodyNode::Object(entries.iter().map(member).collect::<Option<_>>()?)
            }
        })
    }

    fn template(&self, node: &Node) -> Option<Template> {
        self.template_of_each(node, false)
    }

    /// A template whose slots fit their place.
    fn template_of_each(&self, node: &Node, may_repeat: bool) -> Option<Template> {
        let template = template(node, self.site, self.faults)?;
        let is_whole = template.whole().is_some();
        for slot in template.slots() {
            if slot.each && !(may_repeat && is_whole) {
                self.faults.add(&node.place, SlotError::Each.to_string());
            }
            if let Some(message) = self.misfit(slot, is_whole) {
                self.faults.add(&node.place, message);
            }
        }
        if self
            .language
            .is_some_and(|language| template.has_quoted_slot(language.outer_quote()))
        {
            let message = "has a slot inside quotation marks; remove them, the slot becomes a complete \
                 literal with its own";
            self.faults.add(&node.place, message);
        }
        Some(template)
    }

    fn misfit(&self, slot: &Slot, is_whole: bool) -> Option<String> {
        use super::super::slot::Filter;
        let is_joined = slot
            .filters
            .iter()
            .any(|filter| matches!(filter, Filter::Join(_) | Filter::Json));
        let is_list = slot.name.is_list() && !is_joined && !slot.each;
        match self.language {
            None if slot.pattern.is_some() => {
                Some("has a pattern, which needs the request's language".to_owned())
            }
            None if is_list && !is_whole => Some(
                "has a list among other words, which needs the request's language or the filter join".to_owned(),
            ),
            Some(language) if slot.pattern.is_some() && !language.has_patterns() => {
                Some("has a pattern, and this language has none".to_owned())
            }
            Some(language) if is_list && !is_whole && !language.has_lists() => {
                Some("has a list, and this language has none".to_owned())
            }
            _ => None,
        }
    }
}
