//! Clio Manage, API v4: contacts by one text search per spelling, and their matters, both as client
//! and by relationship.
//!
//! Success is 200 with `{"data": [...], "meta": {"paging": {"next": link}}}`, without a `next` on
//! the last page; a failure has an `error` (docs.developers.clio.com/api-docs: paging, errors).

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{join, join_all};
use serde_json::{Map, Value, json};

use super::calls::Calls;
use super::hosts::host_patterns;
use super::pages::Pager;
use super::profile::{Inputs, Profile, documented_quota};
use super::record::{Enrichment, List, Record};
use super::request::Request;
use super::success::ListForm;
use super::{Connector, CrmSession, LogThrottle, Search};
use crate::domain::json::{take, text, texts};
use crate::domain::{Contact, LookupError, MatchQuality, Spelling, WhoAmI};

/// The hosts of Clio's regions.
const HOSTS: [&str; 4] = [
    "app.clio.com",
    "eu.app.clio.com",
    "au.app.clio.com",
    "ca.app.clio.com",
];

/// The largest page (Clio's documentation).
const PAGE: &str = "200";
const CONTACT_FIELDS: &str = "id,type,name,title,primary_email_address,primary_phone_number,created_at,updated_at,\
                              company{name},phone_numbers{number}";
const MATTER_FIELDS: &str = "id,display_number,description,status";

const LIST: ListForm = ListForm {
    list: Cow::Borrowed("/data"),
    null_is_empty: false,
    success: None,
};
const PAGES: Pager = Pager::Link {
    at: Cow::Borrowed("/meta/paging/next"),
};

/// App Connect's setting: offer closed matters too.
const SEE_CLOSED: &str = "clioSeeClosedMatters";

#[derive(Debug)]
pub(super) struct Clio(Arc<Profile>);

impl Clio {
    /// 50 requests a minute at peak hours for each token (docs.developers.clio.com/api-docs: rate
    /// limits).
    pub(super) fn new() -> Self {
        Self(Arc::new(Profile {
            inputs: Inputs {
                settings: vec![SEE_CLOSED.to_owned()],
                info: Vec::new(),
            },
            hosts: host_patterns(&HOSTS),
            names_users: true,
            ..Profile::new(Spelling::E164, documented_quota(50, 60, 10).into())
        }))
    }
}

#[async_trait]
impl Connector for Clio {
    fn profile(&self) -> &Arc<Profile> {
        &self.0
    }

    /// `GET /api/v4/users/who_am_i.json` (Clio's API reference, "Return the data for the current
    /// User").
    async fn whoami(&self, crm: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        let path = ["api", "v4", "users", "who_am_i.json"];
        let request = Request::get(&path, &[("fields", "id,account{id}")]);
        let reply = crm.read(request).await?;
        let user = &reply["data"];
        Ok(WhoAmI::new(
            text(user.get("id")),
            text(user["account"].get("id")),
        ))
    }

    async fn search(
        &self,
        crm: &CrmSession,
        search: &Search<'_>,
    ) -> Result<List<Record>, LookupError> {
        let Search::Number(phone) = search else {
            return Ok(List::default());
        };
        let query = [("query", *phone), ("fields", CONTACT_FIELDS)];
        let found = list(crm.search(), "contacts.json", &query).await?;
        Ok(found.read(record).await)
    }

    async fn enrich(&self, crm: &CrmSession, contacts: &[Contact]) -> Vec<Enrichment> {
        join_all(contacts.iter().map(|contact| details(crm, contact))).await
    }
}

async fn details(crm: &CrmSession, contact: &Contact) -> Enrichment {
    let related_fields = format!("matter{{{MATTER_FIELDS}}}");
    let as_client = [
        ("client_id", contact.id.as_str()),
        ("fields", MATTER_FIELDS),
    ];
    let related = [
        ("contact_id", contact.id.as_str()),
        ("fields", &related_fields),
    ];
    let (as_client, related) = join(
        list(crm.part("matters", None), "matters.json", &as_client),
        list(
            crm.part("relationships", None),
            "relationships.json",
            &related,
        ),
    )
    .await;
    let see_closed = crm.settings().is_on(SEE_CLOSED);
    let related = related.map(matters_of);
    matters(crm.log_throttle(), [as_client, related], see_closed)
}

/// The matters of relationships. A matter is null if the user may not see it.
fn matters_of(relationships: List<Value>) -> List<Value> {
    let mut matters = relationships.map(|mut relationship| take(&mut relationship, "matter"));
    matters.items.retain(|matter| !matter.is_null());
    matters
}

/// The client's matters, then related ones, each once. If one of the two lists failed, the other's
/// matters are still offered.
fn matters(
    log_throttle: &LogThrottle,
    lists: [Result<List<Value>, LookupError>; 2],
    see_closed: bool,
) -> Enrichment {
    let (mut enrichment, mut choices) = (Enrichment::default(), Vec::new());
    let mut known = HashSet::new();
    for list in lists {
        let list = list.map(|matters| {
            let mut is_new = |matter: &Value| {
                let id = text(matter.get("id"));
                id.is_empty() || known.insert(id)
            };
            let is_offered = |matter: &Value| see_closed || matter["status"] != "Closed";
            let new = matters.items.into_iter().filter(|matter| is_new(matter));
            choices.extend(new.filter(is_offered).map(|matter| choice(&matter)));
            List {
                items: choices.clone(),
                complete: matters.complete,
            }
        });
        enrichment.add(log_throttle, "matters", list);
    }
    enrichment
}

fn choice(matter: &Value) -> Value {
    json!({
        "const": matter["id"], "title": matter["display_number"],
        "description": matter["description"], "status": matter["status"],
    })
}

async fn list(
    calls: Calls<'_>,
    list: &str,
    query: &[(&str, &str)],
) -> Result<List<Value>, LookupError> {
    let request = Request::get(&["api", "v4", list], query);
    let request = request.with_parameter("limit", PAGE.to_owned());
    calls.list(request, &LIST, &PAGES).await
}

pub(super) fn record(item: &Value) -> Record {
    let fields = ["phone_numbers", "primary_phone_number"];
    Record {
        phones: fields
            .iter()
            .flat_map(|field| texts(item.get(field), "number"))
            .collect(),
        contact: Contact {
            id: text(item.get("id")),
            name: text(item.get("name")),
            kind: text(item.get("type")),
            title: text(item.get("title")),
            company: text(item["company"].get("name")),
            email: text(item.get("primary_email_address")),
            created: text(item.get("created_at")),
            last_activity: text(item.get("updated_at")),
            additional_info: Map::new(),
            quality: MatchQuality::Unverified,
        },
    }
}
