//! Reads requests: what comes before, their list and its pages.

use super::super::keys;
use super::super::literal::Language;
use super::super::name::Site;
use super::super::plan::{BeforeRequest, EachValue, RequestPlan};
use super::super::run::MOST_EACH;
use super::checks::{check_names, check_pages, check_post};
use super::field::TableEntry;
use super::paging::pager;
use super::request_parts::RequestReader;
use super::table::Table;
use crate::connector::path::Path;
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

/// Reads a request. `headers` are those of every request.
pub(super) fn request(
    table: &Table<'_>,
    site: RequestSite,
    headers: &[TableEntry<'_>],
) -> Option<RequestPlan> {
    let each = each_value(table, site);
    let (before, names) = before(table, site, headers);
    let headers = [headers, &table.entries_of("headers")].concat();
    let plan = reader(table, site, &names).request(table, &headers)?;
    let plan = RequestPlan {
        list: list_form(table),
        pager: table.get("pages").and_then(pager),
        each,
        before,
        ..plan
    };
    check_post(table, &plan);
    check_names(table, &plan);
    check_pages(table, &plan);
    Some(plan)
}

fn reader<'a>(table: &Table<'_>, site: RequestSite, names: &'a [String]) -> RequestReader<'a> {
    RequestReader {
        site: site.with(names),
        language: table.word("language", &Language::ALL),
    }
}

fn list_form(table: &Table<'_>) -> ListForm {
    let shape = table.word("shape", &ListShape::ALL);
    ListForm {
        list: table.path("list").unwrap_or_else(|| Path::of_keys(&[])),
        shape: shape.unwrap_or(ListShape::Objects),
    }
}

fn each_value(table: &Table<'_>, site: RequestSite) -> Option<EachValue> {
    let field = table.get("for")?;
    let entry = field.only_entry("takes one name: for.NAME = [ … ]")?;
    let Some(items) = entry.value.items() else {
        return entry.value.reject("must be a list of values");
    };
    if items.len() > MOST_EACH {
        let count = items.len();
        let message = format!("has {count} values; at most {MOST_EACH} are possible");
        entry.value.fault(message);
    }
    let values = items.into_iter();
    let values = values.filter_map(|item| item.template(site.with(&[])));
    Some(EachValue {
        name: entry.key.to_owned(),
        values: values.collect(),
    })
}

/// The requests before, and the names that they take. Each can use the names of those before it.
fn before(
    table: &Table<'_>,
    site: RequestSite,
    headers: &[TableEntry<'_>],
) -> (Vec<BeforeRequest>, Vec<String>) {
    let fields = table.tables("before");
    if fields.len() > MOST_BEFORE {
        table.fault(format!("before has more than {MOST_BEFORE} requests"));
    }
    let (mut requests, mut names) = (Vec::new(), Vec::new());
    let known = [keys::REQUEST, keys::BEFORE];
    let last = fields.len().saturating_sub(1);
    for (n, field) in fields.into_iter().enumerate() {
        let Some(table) = field.table(&known) else {
            continue;
        };
        if let Some(pages) = table.get("pages").filter(|_| n < last) {
            pages.fault("is only possible in the last entry of \"before\"");
        }
        let take = take(&table);
        let request = request_before(&table, site, &names, headers);
        names.extend(take.iter().map(|(name, _)| name.clone()));
        requests.extend(request.map(|request| BeforeRequest { request, take }));
    }
    (requests, names)
}

fn request_before(
    table: &Table<'_>,
    site: RequestSite,
    names: &[String],
    headers: &[TableEntry<'_>],
) -> Option<RequestPlan> {
    let impossible = ["for", "before", "list", "shape"].map(|key| table.get(key));
    for field in impossible.into_iter().flatten() {
        field.fault("is not possible in a request before another one");
    }
    let request = reader(table, site, names).request(table, headers)?;
    let request = RequestPlan {
        pager: table.get("pages").and_then(pager),
        ..request
    };
    check_post(table, &request);
    check_pages(table, &request);
    Some(request)
}

fn take(table: &Table<'_>) -> Vec<(String, Path)> {
    let message = "take is required: the names and paths that the main request uses";
    table.require("take", message);
    let entries = table.entries_of("take").into_iter();
    entries.filter_map(taken).collect()
}

fn taken(entry: TableEntry<'_>) -> Option<(String, Path)> {
    Some((entry.key.to_owned(), entry.value.path()?))
}
