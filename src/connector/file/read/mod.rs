//! Reads a connector file: a profile and a plan, or every fault with its place.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::json_tree::of_json;
use super::name::Name;
use super::plan::{DetailsRequest, DetailsSource, Plan, SearchRequest, WhoAmIRequest};
use super::slot::Slot;
use super::tree::{Entry, Fault, Faults, MAX_FILE, Node, NodeValue, of_toml};
use super::{FileConnector, keys};
use crate::connector::path::Path;
use crate::connector::request::{Method, ReadByPost};
use crate::connector::sheet::About;
use crate::domain::Spelling;

mod auth;
mod checks;
mod connection;
mod crm;
mod errors;
mod inputs;
mod paging;
mod parts;
mod proxy;
mod record;
mod request;
mod table;

pub(crate) use auth::Secrets;
pub(super) use errors::CLASSES;
use inputs::InputNames;
use parts::Parts;
use table::Table;

/// The most searches and the most details of one file.
const MOST_REQUESTS: usize = 16;

/// How many contacts one request for details serves at most.
const CONTACTS_AT_ONCE: NonZeroUsize = NonZeroUsize::new(25).unwrap();

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
) -> Result<Arc<FileConnector>, Vec<Fault>> {
    if source.len() > MAX_FILE {
        return Err(vec![Fault::of_file("is larger than 64 KiB")]);
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

/// That the file is written in the language of the other kind.
fn other_language(kind: SpecKind, source: &str) -> Option<Fault> {
    let is_json = source.trim_start().starts_with('{');
    let message = match (kind, is_json) {
        (SpecKind::File, true) => {
            "is JSON, and a connector file is TOML: App Connect's proxyConfig has kind = \"proxy\" in the \
             settings, and a name that ends in .json"
        }
        (SpecKind::Proxy, false) if serde_json::from_str::<serde_json::Value>(source).is_err() => {
            "is not JSON, and App Connect's proxyConfig is: a connector file in TOML has kind = \"file\" in the \
             settings, and a name that ends in .toml"
        }
        _ => return None,
    };
    let first = source.len() - source.trim_start().len();
    Some(Fault::at(first..first + 1, message))
}

/// The names of the secrets that a file uses. None if it has faults.
pub(crate) fn secret_names(kind: SpecKind, source: &str) -> Vec<String> {
    let connector = read_spec(kind, source, Secrets::Any);
    connector.map_or_else(|_| Vec::new(), |connector| connector.secrets.clone())
}

fn connector(root: &Node, secrets: Secrets<'_>, faults: &Faults) -> Option<FileConnector> {
    let file = Table::new(root, &[keys::FILE], faults)?;
    match (file.count("format"), file.get("format")) {
        (Some(1), _) => {}
        (Some(_), Some(node)) => {
            faults.add(
                &node.place,
                "must be 1: a newer file needs a newer contactd",
            );
        }
        _ => file.fault("needs format = 1"),
    }
    let crm_table = file.table("crm", &[keys::CRM]);
    let crm_headers = crm_table.as_ref().and_then(|table| table.get("headers"));
    let crm_headers = crm_headers.and_then(|node| Table::open(node, faults));
    let crm_headers = crm_headers.map_or(&[][..], |table| table.entries());
    let crm = if let Some(table) = &crm_table {
        crm::crm(table, faults)
    } else {
        file.fault("needs [crm]");
        None
    };
    let plan = plan(&file, crm_headers, faults);
    let auth_table = file.table("auth", &[keys::AUTH]);
    let auth_slots = auth::auth_slots(auth_table.as_ref(), faults);
    let token = auth::token(auth_table.as_ref(), secrets, faults);
    let credential = auth::auth(auth_table, secrets, faults);
    let secrets = auth_slots.iter().filter_map(|slot| match &slot.name {
        Name::Secret(name) => Some(name.clone()),
        _ => None,
    });
    let secrets = secrets.collect();
    let mut names = InputNames::default();
    for slot in &auth_slots {
        names.add_slot(slot);
    }
    let parts = Parts {
        crm,
        plan,
        credential,
        secrets,
        names,
        token,
        replies: Vec::new(),
        finds_extensions: false,
    };
    parts.assemble(&file, faults)
}

fn plan(file: &Table<'_>, crm_headers: &[Entry], faults: &Faults) -> Plan {
    let shared = (file.get("request"), file.get("record"));
    if let Some(node) = shared.0 {
        Table::new(node, &[keys::REQUEST, keys::SEARCH, keys::DETAILS], faults);
    }
    let searches = numbered(file, "search").filter_map(|(n, node)| {
        let merged = with_defaults(node, shared, &[keys::REQUEST, keys::SEARCH]);
        record::search(&merged, n + 1, crm_headers, faults)
    });
    let plan = Plan {
        about: about(file),
        searches: searches.collect(),
        details: details(file, shared.0, crm_headers, faults),
        whoami: whoami(file, crm_headers, faults),
        kept: Vec::new(),
    };
    if file.tables("search").is_empty() {
        file.fault("needs at least one [[search]]");
    }
    plan
}

/// The tables of a list, counted from 0.
fn numbered<'n>(file: &Table<'n>, key: &str) -> impl Iterator<Item = (usize, &'n Node)> {
    let nodes = file.tables(key);
    if nodes.len() > MOST_REQUESTS {
        file.fault(format!("has more than {MOST_REQUESTS} tables {key}"));
    }
    nodes.into_iter().enumerate()
}

fn details(
    file: &Table<'_>,
    shared: Option<&Node>,
    crm_headers: &[Entry],
    faults: &Faults,
) -> Vec<DetailsRequest> {
    let details = numbered(file, "details").filter_map(|(n, node)| {
        let merged = with_defaults(node, (shared, None), &[keys::REQUEST, keys::DETAILS]);
        record::details(&merged, n + 1, crm_headers, faults)
    });
    details.collect()
}

fn about(file: &Table<'_>) -> About {
    let table = file.table("about", &[keys::ABOUT]);
    let lines = |key| {
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        table
            .as_ref()
            .map_or_else(Vec::new, |table| table.list_of(key, text))
    };
    let name = file.text("name").unwrap_or_default().to_owned();
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

fn spellings(file: &Table<'_>, _: &Faults) -> Vec<Spelling> {
    let parse = |text: &str| {
        Spelling::parse(text).ok_or_else(|| {
            format!(
                "\"{text}\" is no spelling: they are e164, digits, national, local, local_digits, \
                 international, formats, and patterns with #"
            )
        })
    };
    let spellings = file.list_of("spellings", parse);
    if file.has("spellings") {
        spellings
    } else {
        vec![Spelling::E164]
    }
}

fn whoami(file: &Table<'_>, crm_headers: &[Entry], faults: &Faults) -> Option<WhoAmIRequest> {
    let table = file.table("whoami", &[keys::REQUEST, keys::WHOAMI])?;
    let request = request::request(&table, request::RequestSite::WhoAmI, crm_headers, faults);
    let mut ids = record::ids(&table, faults).into_iter();
    Some(WhoAmIRequest {
        user: ids.next()?,
        account: ids.next(),
        request: request?,
    })
}

/// A table with the keys of the file's defaults that it may have and does not have. Parameters,
/// headers and record fields are merged one by one.
fn with_defaults(
    own: &Node,
    (request, record): (Option<&Node>, Option<&Node>),
    known: &[&[keys::Key]],
) -> Node {
    let NodeValue::Table(entries) = &own.value else {
        return own.clone();
    };
    let mut entries = entries.clone();
    let is_known = |key: &str| {
        known
            .iter()
            .any(|keys| keys.iter().any(|(name, _)| *name == key))
    };
    let has_method = entries
        .iter()
        .any(|entry| matches!(entry.key.as_str(), "get" | "read_by_post"));
    let defaults = request.into_iter().flat_map(|node| match &node.value {
        NodeValue::Table(entries) => entries.as_slice(),
        _ => &[],
    });
    let is_fixed = entries.iter().any(|entry| entry.key == "choices");
    for default in defaults.filter(|entry| is_known(&entry.key) && !is_fixed) {
        let is_method = matches!(default.key.as_str(), "get" | "read_by_post");
        if !(is_method && has_method) {
            add_default(&mut entries, default);
        }
    }
    if let Some(record) = record {
        let default = Entry {
            key: "record".to_owned(),
            place: record.place.clone(),
            node: record.clone(),
        };
        add_default(&mut entries, &default);
    }
    Node {
        place: own.place.clone(),
        value: NodeValue::Table(entries),
    }
}

fn add_default(entries: &mut Vec<Entry>, default: &Entry) {
    let is_merged = matches!(default.key.as_str(), "query" | "headers" | "record");
    let own = entries.iter_mut().find(|entry| entry.key == default.key);
    match (own, &default.node.value) {
        (None, _) => entries.push(default.clone()),
        (Some(own), NodeValue::Table(defaults)) if is_merged => {
            if let NodeValue::Table(own) = &mut own.node.value {
                for default in defaults {
                    if own.iter().all(|entry| entry.key != default.key) {
                        own.push(default.clone());
                    }
                }
            }
        }
        (Some(_), _) => {}
    }
}

/// The raw values of a record that details use.
fn kept(plan: &Plan) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    for slot in details_slots(plan) {
        if let Name::Record(path) | Name::Records(path) = &slot.name
            && !paths.contains(path)
        {
            paths.push(path.clone());
        }
    }
    paths
}

fn details_slots(plan: &Plan) -> impl Iterator<Item = &Slot> {
    plan.details
        .iter()
        .flat_map(|details| match &details.source {
            DetailsSource::Request(list) => list.request.slots(),
            DetailsSource::Fixed(_) => Vec::new(),
        })
}

/// How many numbers one call may ask for: what the smallest batch of the searches allows.
fn numbers_at_once(searches: &[SearchRequest]) -> NonZeroUsize {
    let batches: Option<Vec<usize>> = searches
        .iter()
        .map(|search| search.batch.map(|batch| batch.values))
        .collect();
    let least = batches.and_then(|batches| batches.into_iter().min());
    least
        .and_then(NonZeroUsize::new)
        .unwrap_or(NonZeroUsize::MIN)
}

/// Contacts are enriched together if a request serves several.
fn contacts_at_once(plan: &Plan) -> NonZeroUsize {
    let is_request = |part: &&DetailsRequest| matches!(part.source, DetailsSource::Request(_));
    let mut requests = plan.details.iter().filter(is_request);
    if requests.any(|part| serves_several(&part.source)) {
        CONTACTS_AT_ONCE
    } else {
        NonZeroUsize::MIN
    }
}

/// Whether the number of contacts does not change the number of calls.
fn serves_several(source: &DetailsSource) -> bool {
    match source {
        DetailsSource::Request(list) => list.is_shared() || list.per_answer,
        DetailsSource::Fixed(_) => true,
    }
}

/// The paths of the file's POSTs.
fn reads_by_post(plan: &Plan) -> Vec<ReadByPost> {
    let searches = plan.searches.iter().map(|search| &search.request);
    let details = plan
        .details
        .iter()
        .filter_map(|details| match &details.source {
            DetailsSource::Request(list) => Some(&list.request),
            DetailsSource::Fixed(_) => None,
        });
    let whoami = plan.whoami.iter().map(|whoami| &whoami.request);
    let requests = searches.chain(details).chain(whoami).flat_map(|request| {
        let before = request.before.iter().map(|before| &before.request);
        before.chain([request])
    });
    let posts = requests.filter(|request| request.method == Method::ReadByPost);
    posts
        .map(|request| ReadByPost(request.path_form()))
        .collect()
}
