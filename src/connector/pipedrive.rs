//! Pipedrive: persons by phone (API v2), their open deals (v2) and leads (v1).
//!
//! Its search compares the digits of a phone field, so the national significant number finds every
//! stored spelling. It also finds other people's numbers that contain it.
//!
//! Success is 200 with `success: true` and `data`, which is null for an empty list of leads or
//! deals. A failure has `success: false`, `error` and sometimes `errorCode`, an HTTP status
//! (pipedrive.readme.io/docs/core-api-concepts-responses). A client that continues after a 429 gets
//! 403 and a Cloudflare page (ibid., core-api-concepts-rate-limiting). A list ends without a
//! `next_cursor` (v2) or with `more_items_in_collection: false` (v1; ibid.,
//! core-api-concepts-pagination).

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{join, join_all};
use serde_json::{Map, Value, json};

use super::calls::Calls;
use super::hosts::host_patterns;
use super::pages::Pager;
use super::profile::{Profile, documented_quota};
use super::record::{Enrichment, List, Record};
use super::reply_class::{ReplyClass, ReplyRule, ReplySign};
use super::request::Request;
use super::success::ListForm;
use super::{Connector, CrmSession, Search};
use crate::budget::Quotas;
use crate::domain::json::{text, texts};
use crate::domain::{Contact, LookupError, MatchQuality, Spelling, WhoAmI};

/// The largest page of these lists (Pipedrive's documentation: 100 in search, 500 elsewhere).
const PAGE: &str = "100";

const FOUND: ListForm = ListForm {
    list: Cow::Borrowed("/data/items"),
    null_is_empty: false,
    success: Some(Cow::Borrowed("success")),
};
const LIST: ListForm = ListForm {
    list: Cow::Borrowed("/data"),
    null_is_empty: true,
    success: Some(Cow::Borrowed("success")),
};

const PAGES_V2: Pager = Pager::Cursor {
    at: Cow::Borrowed("/additional_data/next_cursor"),
    parameter: Cow::Borrowed("cursor"),
};
const PAGES_V1: Pager = Pager::Offset {
    at: Cow::Borrowed("/additional_data/pagination/next_start"),
    parameter: Cow::Borrowed("start"),
    more: Some(Cow::Borrowed(
        "/additional_data/pagination/more_items_in_collection",
    )),
};

#[derive(Debug)]
pub(super) struct Pipedrive(Arc<Profile>);

impl Pipedrive {
    pub(super) fn new() -> Self {
        Self(Arc::new(Profile {
            hosts: host_patterns(&["*.pipedrive.com"]),
            replies: vec![ReplyRule {
                statuses: vec![403..=403].into(),
                sign: ReplySign::NoJson,
                class: ReplyClass::RateLimited,
            }],
            names_users: true,
            ..Profile::new(Spelling::National, quotas())
        }))
    }
}

/// Ten search requests in two seconds for each token, and 20 requests in two seconds on the
/// smallest plan. The documentation does not say whether searches are part of the 20, so other
/// calls get ten (core-api-concepts-rate-limiting).
fn quotas() -> Quotas {
    let ten = documented_quota(10, 2, 10);
    Quotas {
        search: Some(ten),
        ..ten.into()
    }
}

#[async_trait]
impl Connector for Pipedrive {
    fn profile(&self) -> &Arc<Profile> {
        &self.0
    }

    /// `GET /v1/users/me` (Pipedrive's API reference, "Get current user data").
    async fn whoami(&self, crm: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        let reply = crm.read(Request::get(&["v1", "users", "me"], &[])).await?;
        let id = |name| text(reply["data"].get(name));
        Ok(WhoAmI::new(id("id"), id("company_id")).filter(|_| reply["success"] == true))
    }

    async fn search(
        &self,
        crm: &CrmSession,
        search: &Search<'_>,
    ) -> Result<List<Record>, LookupError> {
        let Search::Number(term) = search else {
            return Ok(List::default());
        };
        let query = [("term", *term), ("fields", "phone"), ("limit", PAGE)];
        let request = Request::get(&["api", "v2", "persons", "search"], &query);
        let found = crm.search().list(request, &FOUND, &PAGES_V2).await?;
        Ok(found.read(|found| record(&found["item"])).await)
    }

    async fn enrich(&self, crm: &CrmSession, contacts: &[Contact]) -> Vec<Enrichment> {
        join_all(contacts.iter().map(|person| details(crm, person))).await
    }
}

async fn details(crm: &CrmSession, person: &Contact) -> Enrichment {
    let of_person = ("person_id", person.id.as_str());
    let deals = Request::get(
        &["api", "v2", "deals"],
        &[of_person, ("status", "open"), ("limit", PAGE)],
    );
    let leads = Request::get(&["v1", "leads"], &[of_person, ("limit", PAGE)]);
    let (deals, leads) = join(
        choices(crm.part("deals", None), deals, &PAGES_V2),
        choices(crm.part("leads", None), leads, &PAGES_V1),
    )
    .await;
    let mut enrichment = Enrichment::default();
    enrichment.add(crm.log_throttle(), "deals", deals);
    enrichment.add(crm.log_throttle(), "leads", leads);
    enrichment
}

async fn choices(
    calls: Calls<'_>,
    request: Request,
    pager: &Pager,
) -> Result<List<Value>, LookupError> {
    let items = calls.list(request, &LIST, pager).await?;
    Ok(items.map(|item| json!({"const": item["id"], "title": item["title"]})))
}

pub(super) fn record(person: &Value) -> Record {
    // Search items list phones and addresses as texts; other replies of the API as {"value": text}.
    let addresses = ["primary_email", "emails"]
        .iter()
        .flat_map(|field| texts(person.get(field), "value"));
    Record {
        phones: texts(person.get("phones"), "value"),
        contact: Contact {
            id: text(person.get("id")),
            name: text(person.get("name")),
            kind: "contact".to_owned(),
            title: text(person.get("job_title")),
            company: texts(person.get("organization"), "name")
                .into_iter()
                .take(1)
                .collect(),
            email: addresses.take(1).collect(),
            created: text(person.get("add_time")),
            last_activity: text(person.get("update_time")),
            additional_info: Map::new(),
            quality: MatchQuality::Unverified,
        },
    }
}
