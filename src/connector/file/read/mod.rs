//! Reads a connector file: a profile and a plan, or every fault with its place.

use std::sync::Arc;

use super::json_tree::of_json;
use super::plan::{DetailsRequest, Plan, SearchRequest, WhoAmIRequest};
use super::tree::{Faults, MAX_FILE, Node, SpecFault, of_toml};
use super::{FileConnector, keys};
use crate::connector::path::Path;
use crate::connector::sheet::About;
use crate::domain::Spelling;

mod auth;
mod checks;
mod connection;
mod crm;
mod defaults;
mod details;
mod errors;
mod field;
mod inputs;
mod paging;
mod parts;
mod proxy;
mod record;
mod request;
mod request_parts;
mod table;

pub(crate) use auth::Secrets;
pub(super) use errors::CLASSES;

use auth::AuthSection;
use defaults::Defaults;
use field::{Field, TableEntry};
use inputs::InputNames;
use parts::Parts;
use table::Table;

/// The most searches and the most details of one file.
const MOST_REQUESTS: usize = 16;

/// The language of a connector file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpecKind {
    /// TOML.
    File,
    /// App Connect's `proxyConfig`.
    Proxy,
}

impl SpecKind {
    /// The language that a `kind` of the settings means.
    pub(crate) fn of(kind: &str) -> Self {
        if kind == "proxy" {
            Self::Proxy
        } else {
            Self::File
        }
    }
}

/// Reads a connector file.
///
/// # Errors
/// Every fault, in the order of the file.
pub(crate) fn read_spec(
    kind: SpecKind,
    source: &str,
    secrets: Secrets<'_>,
) -> Result<Arc<FileConnector>, Vec<SpecFault>> {
    if source.len() > MAX_FILE {
        return Err(vec![SpecFault::of_file("is larger than 64 KiB")]);
    }
    if let Some(fault) = other_language(kind, source) {
        return Err(vec![fault]);
    }
    let faults = Faults::default();
    let connector = match kind {
        SpecKind::File => connector(&of_toml(source)?, secrets, &faults),
        SpecKind::Proxy => proxy::connector(&of_json(source)?, secrets, &faults),
    };
    match connector.filter(|_| faults.is_empty()) {
        Some(connector) => Ok(Arc::new(connector)),
        None => Err(faults.sorted()),
    }
}

/// The fault of a file that is written in the language of the other kind; `None` if it is not.
fn other_language(kind: SpecKind, source: &str) -> Option<SpecFault> {
    let is_json = source.trim_start().starts_with('{');
    let message = match (kind, is_json) {
        (SpecKind::File, true) => {
            "is JSON, but a connector file is TOML. If this is App Connect's proxyConfig, set kind = \"proxy\" in the \
             settings, and let the name of the file end in .json"
        }
        (SpecKind::Proxy, false) if serde_json::from_str::<serde_json::Value>(source).is_err() => {
            "is not JSON, but App Connect's proxyConfig is. If this is a connector file, set kind = \"file\" in the \
             settings, and let the name of the file end in .toml"
        }
        _ => return None,
    };
    let first = source.len() - source.trim_start().len();
    Some(SpecFault::at(first..first + 1, message))
}

/// The names of the secrets that a file uses. None if it has faults.
pub(crate) fn secret_names(kind: SpecKind, source: &str) -> Vec<String> {
    let connector = read_spec(kind, source, Secrets::Any);
    connector.map_or_else(|_| Vec::new(), |connector| connector.secrets.clone())
}

fn connector(root: &Node, secrets: Secrets<'_>, faults: &Faults) -> Option<FileConnector> {
    let file = Field::new(root, faults).table(&[keys::FILE])?;
    check_format(&file);
    let crm = file.table("crm", &[keys::CRM]);
    let headers = crm.as_ref().map(|table| table.entries_of("headers"));
    let crm = match &crm {
        Some(table) => crm::crm(table),
        None => file.reject("needs [crm]"),
    };
    let plan = plan(&file, &headers.unwrap_or_default(), faults);
    let auth = file.table("auth", &[keys::AUTH]);
    let auth = AuthSection::read(auth.as_ref(), secrets);
    let mut names = InputNames::default();
    auth.slots.iter().for_each(|slot| names.add_slot(slot));
    let parts = Parts {
        crm,
        plan,
        secrets: auth.secret_names(),
        credential: auth.credential,
        names,
        token: auth.token,
        replies: Vec::new(),
        finds_extensions: false,
    };
    parts.assemble(&file)
}

fn check_format(file: &Table<'_>) {
    if let Some(format) = file.require("format", "needs format = 1")
        && format.count().is_some_and(|count| count != 1)
    {
        format.fault("must be 1: a newer file needs a newer contactd");
    }
}

/// Reads the requests. `headers` are those of every request.
fn plan(file: &Table<'_>, headers: &[TableEntry<'_>], faults: &Faults) -> Plan {
    let defaults = Defaults::of(file);
    let plan = Plan {
        about: about(file),
        searches: searches(file, defaults, headers, faults),
        details: details(file, defaults, headers, faults),
        whoami: whoami(file, headers),
        kept: Vec::new(),
    };
    if file.tables("search").is_empty() {
        file.fault("needs at least one [[search]]");
    }
    plan
}

/// The tables of a list, counted from 1.
fn numbered<'n>(file: &Table<'n>, key: &str) -> impl Iterator<Item = (usize, &'n Node)> {
    let tables = file.tables(key);
    if tables.len() > MOST_REQUESTS {
        file.fault(format!("has more than {MOST_REQUESTS} tables {key}"));
    }
    (1..).zip(tables.into_iter().map(Field::node))
}

fn searches(
    file: &Table<'_>,
    defaults: Defaults<'_>,
    headers: &[TableEntry<'_>],
    faults: &Faults,
) -> Vec<SearchRequest> {
    let searches = numbered(file, "search").filter_map(|(n, node)| {
        let merged = defaults.merged(node, &[keys::REQUEST, keys::SEARCH]);
        record::search(Field::new(&merged, faults), n, headers)
    });
    searches.collect()
}

fn details(
    file: &Table<'_>,
    defaults: Defaults<'_>,
    headers: &[TableEntry<'_>],
    faults: &Faults,
) -> Vec<DetailsRequest> {
    let defaults = defaults.of_requests();
    let details = numbered(file, "details").filter_map(|(n, node)| {
        let merged = defaults.merged(node, &[keys::REQUEST, keys::DETAILS]);
        details::details(Field::new(&merged, faults), n, headers)
    });
    details.collect()
}

fn about(file: &Table<'_>) -> About {
    let table = file.table("about", &[keys::ABOUT]);
    let lines = |key| {
        table
            .as_ref()
            .map_or_else(Vec::new, |table| lines(table, key))
    };
    let name = file.text("name").unwrap_or_default().to_owned();
    if let Some(field) = file.get("name").filter(|_| name.contains(char::is_control)) {
        field.fault("must not have control characters");
    }
    if name.is_empty() {
        file.fault("needs name: the CRM's name");
    }
    About {
        name,
        searches: lines("searches").join(" "),
        auth_header: lines("auth_header").join(" "),
        built_from: lines("built_from"),
        scopes: lines("scopes"),
        unverified: lines("unverified"),
        gaps: lines("gaps"),
    }
}

fn lines(table: &Table<'_>, key: &str) -> Vec<String> {
    table.list_of(key, |line| Ok::<_, String>(line.to_owned()))
}

fn spellings(file: &Table<'_>) -> Vec<Spelling> {
    let spellings = file.list_of("spellings", spelling);
    if file.has("spellings") {
        spellings
    } else {
        vec![Spelling::E164]
    }
}

fn spelling(text: &str) -> Result<Spelling, String> {
    Spelling::parse(text).ok_or_else(|| {
        format!(
            "\"{text}\" is not a spelling; spellings: e164, digits, national, local, local_digits, \
             international, formats, and patterns with #"
        )
    })
}

fn whoami(file: &Table<'_>, headers: &[TableEntry<'_>]) -> Option<WhoAmIRequest> {
    let table = file.table("whoami", &[keys::REQUEST, keys::WHOAMI])?;
    let request = request::request(&table, request::RequestSite::WhoAmI, headers);
    let mut ids = whoami_ids(&table).into_iter();
    Some(WhoAmIRequest {
        user: ids.next()?,
        account: ids.next(),
        request: request?,
    })
}

/// The path of the user's id, and that of the account's if the file names it.
fn whoami_ids(table: &Table<'_>) -> Vec<Path> {
    let message = "needs id: the path of the user's id, and of the account's";
    let Some(field) = table.require("id", message) else {
        return Vec::new();
    };
    let is_odd = |items: Vec<Field<'_>>| !(1..=2).contains(&items.len());
    if field.items().is_some_and(is_odd) {
        field.fault("must be the path of the user's id, and of the account's");
    }
    field.paths()
}
