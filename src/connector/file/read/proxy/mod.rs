//! Reads App Connect's `proxyConfig`: the operation `findContact`, and under `contactd` the tables of
//! our own language. What else is in it is for App Connect and is ignored.

use std::sync::Arc;

use super::super::keys;
use super::super::plan::{NumberUse, Plan, RequestPlan, SearchRequest};
use super::super::proxy::ProxyRequest;
use super::super::tree::{Entry, Faults, Node, NodeValue};
use super::connection::is_own;
use super::crm::{self, CrmSection};
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
    let root = Table::open(node, faults)?;
    let operations = root.open_said("operations");
    let file = ProxyFile {
        defaults: root.open_said("requestDefaults"),
        find: operations.and_then(|operations| operations.open_said("findContact")),
        own: Table::new(
            root.said("contactd").unwrap_or(&none),
            &[keys::CONTACTD],
            faults,
        )?,
        secret: SecretKey::of(&root, secrets),
        root,
        faults,
    };
    let parts = file.parts()?;
    parts.assemble(&file.own, faults)
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
        let mut names = InputNames::default();
        let headers = self.fixed_headers();
        let crm = Some(CrmSection {
            base: address.base,
            hosts: self.own.list_of("hosts", str::parse),
            quotas: self.quotas()?,
        });
        names.info.extend(auth.info);
        let (mut searches, mut shown, mut finds_extensions) = (Vec::new(), Vec::new(), false);
        if let Some(request) = request {
            names.info.extend(request.proxy.reads.info.iter().cloned());
            names
                .asked_info
                .extend(request.proxy.reads.info.iter().cloned());
            names.host |= request.proxy.reads.host;
            names.required_info.extend(request.in_path);
            shown.extend(&request.proxy.reads.credential);
            finds_extensions = request.reads_extension;
            searches.extend(self.search(request.proxy, request.depends));
        }
        Some(Parts {
            crm,
            plan: Plan {
                about: self.about(),
                searches,
                details: details(&self.own, None, &headers, self.faults),
                whoami: whoami(&self.own, &headers, self.faults),
                kept: Vec::new(),
            },
            credential: Some(auth.form.showing(auth::shown_pieces(&shown))),
            secrets: self.secret.names(),
            names,
            token: None,
            replies: vec![rule(201, ReplyClass::Found), rule(204, ReplyClass::Nobody)],
            finds_extensions,
        })
    }

    fn about(&self) -> About {
        let meta = self.root.open_said("meta");
        let name = meta.and_then(|meta| {
            let name = meta.text_said("displayName");
            name.or_else(|| meta.text_said("name"))
        });
        About {
            name: name.unwrap_or("App Connect proxy").to_owned(),
            ..About::default()
        }
    }

    /// The search. `None` without a mapping: nothing could be found.
    fn search(&self, proxy: ProxyRequest, depends: NumberUse) -> Option<SearchRequest> {
        let find = self.find.as_ref()?;
        let mapping = find.open_said("responseMapping")?;
        let list = mapping::list(&mapping, self.faults);
        let item = mapping::item(&mapping, self.faults)?;
        let phones = self.own.list_of("phones", Path::parse);
        let has_phones = self.own.has("phones");
        if depends == NumberUse::Nothing && !has_phones {
            find.fault(
                "sends no number, so every record would match; contactd.phones says where a record has its numbers",
            );
        }
        Some(SearchRequest {
            request: self.request(proxy, list?),
            phones: Some(if has_phones { phones } else { vec![item.phone] }),
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

    fn request(&self, proxy: ProxyRequest, list: Path) -> RequestPlan {
        let pages = self.own.get("pages");
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
            pager: pages.and_then(|node| pager(node, self.faults)),
            each: None,
            before: Vec::new(),
        }
    }

    /// The quota of `contactd`, or a careful one: the lowest that a CRM with an own file documents
    /// (Clio, 50 calls a minute), in small bursts.
    fn quotas(&self) -> Option<Quotas> {
        if let Some(node) = self.own.get("quota") {
            return crm::quotas(node, self.faults);
        }
        let minute = std::time::Duration::from_secs(60);
        let careful = Quota::new(50, minute, 10, Scope::User, 0.5).ok()?;
        Some(careful.into())
    }

    /// The default headers that our own requests can have too: those without placeholders.
    fn fixed_headers(&self) -> Vec<Entry> {
        let headers = self
            .defaults
            .as_ref()
            .and_then(|table| table.open_said("defaultHeaders"));
        let entries = headers.map_or(&[][..], |table| table.entries());
        let is_fixed = |entry: &&Entry| {
            let name = entry.key.to_ascii_lowercase();
            let is_text =
                matches!(&entry.node.value, NodeValue::Text(text) if !text.contains("{{"));
            is_text && !is_own(&name)
        };
        entries.iter().filter(is_fixed).cloned().collect()
    }
}
