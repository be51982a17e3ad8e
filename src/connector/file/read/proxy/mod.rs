//! Reads App Connect's `proxyConfig`: the operation `findContact`, and under `contactd` the tables
//! of our own language. What else is in it is for App Connect and is ignored.

use std::sync::Arc;
use std::time::Duration;

use super::super::keys;
use super::super::plan::{NumberUse, Plan, RequestPlan, SearchRequest};
use super::super::proxy::ProxyRequest;
use super::super::tree::{Faults, Node, NodeValue};
use super::connection::is_own;
use super::crm::{self, CrmSection};
use super::defaults::Defaults;
use super::field::{Field, TableEntry};
use super::paging::pager;
use super::table::Table;
use super::{FileConnector, InputNames, Parts, Secrets, details, whoami};
use crate::budget::{Quota, Quotas, Scope};
use crate::connector::path::Path;
use crate::connector::reply_class::{ReplyClass, ReplyRule, ReplySign};
use crate::connector::sheet::About;
use crate::connector::success::{ListForm, ListShape};

mod auth;
mod headers;
mod mapping;
mod request;
mod url;

use auth::{AuthParts, SecretKey};
use mapping::ItemPlan;
use request::FindRequest;

/// What a configuration says before its requests are put together.
struct ProxyFile<'n> {
    root: Table<'n>,
    defaults: Option<Table<'n>>,
    find: Option<Table<'n>>,
    /// Our own tables.
    own: Table<'n>,
    secret: SecretKey,
    faults: &'n Faults,
}

/// Reads a configuration.
pub(super) fn connector(
    node: &Node,
    secrets: Secrets<'_>,
    faults: &Faults,
) -> Option<FileConnector> {
    let none = Node::empty_table("contactd");
    let root = Field::new(node, faults).open()?;
    let own = root.said("contactd");
    let own = own.unwrap_or(Field::new(&none, faults));
    let operations = root.open_said("operations");
    let file = ProxyFile {
        defaults: root.open_said("requestDefaults"),
        find: operations.and_then(|operations| operations.open_said("findContact")),
        own: own.table(&[keys::CONTACTD])?,
        secret: SecretKey::of(&root, secrets),
        root,
        faults,
    };
    let parts = file.parts()?;
    parts.assemble(&file.own)
}

/// App Connect takes every 2xx as a success. Of those with a body, only 200 and 201 are complete.
fn rule(status: u16, class: ReplyClass) -> ReplyRule {
    ReplyRule {
        statuses: vec![status..=status].into(),
        sign: ReplySign::Any,
        class,
    }
}

impl ProxyFile<'_> {
    fn parts(&self) -> Option<Parts> {
        let address = url::address(self)?;
        let auth = AuthParts::read(self);
        let request = match &self.find {
            Some(find) => Some(request::request(self, find, address.url)?),
            None => None,
        };
        let auth = auth?;
        let crm = CrmSection {
            base: address.base,
            hosts: self.own.list_of("hosts", str::parse),
            quotas: self.quotas()?,
        };
        let mut names = InputNames::default();
        names.info.extend(auth.info);
        let mut shown = Vec::new();
        if let Some(request) = &request {
            names.add_proxy(request);
            shown = auth::shown_pieces(&request.proxy.reads.credential);
        }
        Some(Parts {
            crm: Some(crm),
            finds_extensions: request.as_ref().is_some_and(|it| it.reads_extension),
            plan: self.plan(request),
            credential: Some(auth.form.showing(shown)),
            secrets: self.secret.names(),
            names,
            token: None,
            replies: vec![rule(201, ReplyClass::Found), rule(204, ReplyClass::Nobody)],
        })
    }

    fn plan(&self, find: Option<FindRequest>) -> Plan {
        let headers = self.fixed_headers();
        let search = find.and_then(|find| self.search(find.proxy, find.depends));
        Plan {
            about: self.about(),
            searches: search.into_iter().collect(),
            details: details(&self.own, Defaults::default(), &headers, self.faults),
            whoami: whoami(&self.own, &headers),
            kept: Vec::new(),
        }
    }

    fn about(&self) -> About {
        About {
            name: self.name().unwrap_or("App Connect proxy").to_owned(),
            ..About::default()
        }
    }

    fn name(&self) -> Option<&str> {
        let meta = self.root.open_said("meta")?;
        let name = meta.text_said("displayName");
        name.or_else(|| meta.text_said("name"))
    }

    /// The search. `None` without a mapping: nothing could be found.
    fn search(&self, proxy: ProxyRequest, depends: NumberUse) -> Option<SearchRequest> {
        let find = self.find.as_ref()?;
        let mapping = find.open_said("responseMapping")?;
        let list = mapping::list(&mapping);
        let item = mapping::item(&mapping)?;
        let has_phones = self.own.has("phones");
        if depends == NumberUse::Nothing && !has_phones {
            find.fault(
                "sends no number, so every record would match; contactd.phones says where a record has its numbers",
            );
        }
        Some(SearchRequest {
            request: self.request(proxy, list?),
            phones: Some(self.phones(&item)),
            keeps_others: !has_phones,
            record: item.record,
            only_if_empty: false,
            optional: None,
            if_among: None,
            is_exact: self.own.switch("exact"),
            batch: None,
            depends,
        })
    }

    /// Where a record has its numbers: what `contactd` says, or the one that is mapped.
    fn phones(&self, item: &ItemPlan) -> Vec<Path> {
        if self.own.has("phones") {
            self.own.list_of("phones", Path::parse)
        } else {
            vec![item.phone.clone()]
        }
    }

    fn request(&self, proxy: ProxyRequest, list: Path) -> RequestPlan {
        RequestPlan {
            method: proxy.method,
            proxy: Some(Arc::new(proxy)),
            path: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            language: None,
            list: ListForm {
                list,
                shape: ListShape::Loose,
            },
            pager: self.own.get("pages").and_then(pager),
            each: None,
            before: Vec::new(),
        }
    }

    /// The quota in `contactd`, or a careful default: 50 calls a minute, as Clio documents, in
    /// small bursts.
    fn quotas(&self) -> Option<Quotas> {
        if let Some(quota) = self.own.get("quota") {
            return crm::quotas(quota);
        }
        let minute = Duration::from_secs(60);
        let careful = Quota::new(50, minute, 10, Scope::User, 0.5).ok()?;
        Some(careful.into())
    }

    /// The default headers that our own requests can have too: those without slots.
    fn fixed_headers(&self) -> Vec<TableEntry<'_>> {
        let headers = self.default_headers();
        let entries = headers.iter().flat_map(Table::entries);
        entries.filter(is_fixed).collect()
    }

    fn default_headers(&self) -> Option<Table<'_>> {
        self.defaults.as_ref()?.open_said("defaultHeaders")
    }
}

fn is_fixed(header: &TableEntry<'_>) -> bool {
    let NodeValue::Text(text) = header.value.value() else {
        return false;
    };
    !text.contains("{{") && !is_own(&header.key.to_ascii_lowercase())
}

impl InputNames {
    /// What the request in App Connect's form reads.
    fn add_proxy(&mut self, request: &FindRequest) {
        let reads = &request.proxy.reads;
        self.info.extend_from_slice(&reads.info);
        self.asked_info.extend_from_slice(&reads.info);
        self.host |= reads.host;
        self.required_info.extend_from_slice(&request.in_path);
    }
}
