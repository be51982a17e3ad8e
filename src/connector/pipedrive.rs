//! Pipedrive: persons by phone (API v2), their open deals (v2) and leads (v1).
//!
//! Its search reads the digits of a phone field, so the national significant number finds every
//! stored spelling, other people's numbers that contain it among them.
//!
//! Success is 200 with `success: true` and `data`, which is null for an empty list of leads or
//! deals; a failure has `success: false`, `error` and sometimes `errorCode`, an HTTP status
//! (pipedrive.readme.io/docs/core-api-concepts-responses). Whoever goes on after a 429 gets 403 and
//! a page of Cloudflare's (ibid., core-api-concepts-rate-limiting). Lists end without a
//! `next_cursor` (v2) or with `more_items_in_collection: false` (v1; ibid.,
//! core-api-concepts-pagination).

use async_trait::async_trait;
use futures_util::future::join;
use serde_json::{Map, Value, json};

use super::calls::Calls;
use super::reply_class::{Class, Row, Sign};
use super::success::{Form, is_said, next_number, next_text};
use super::{Connector, CrmSession, Enrichment, Hits, Record};
use crate::domain::error::BadReply;
use crate::domain::json::{text, texts};
use crate::domain::user::Settings;
use crate::domain::{Contact, LookupError, MatchQuality, Spelling, WhoAmI};

/// The largest page of these lists (Pipedrive's documentation: 100 in search, 500 elsewhere).
const PAGE: &str = "100";

const FOUND: Form = Form {
    list: "/data/items",
    null_is_empty: false,
    success: Some("success"),
};
const LIST: Form = Form {
    list: "/data",
    null_is_empty: true,
    ..FOUND
};

#[derive(Debug)]
pub(super) struct Pipedrive;

#[async_trait]
impl Connector for Pipedrive {
    fn spellings(&self) -> &'static [Spelling] {
        &[Spelling::National]
    }

    fn names_users(&self) -> bool {
        true
    }

    fn replies(&self) -> &'static [Row] {
        &[Row {
            statuses: |status| status == 403,
            sign: Sign::NoJson,
            class: Class::Limit,
        }]
    }

    /// `GET /v1/users/me` (Pipedrive's API reference, "Get current user data").
    async fn whoami(&self, session: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        let reply = session.get(&["v1", "users", "me"], &[]).await?;
        let id = |name| text(reply["data"].get(name));
        Ok(WhoAmI::new(id("id"), id("company_id")).filter(|_| reply["success"] == true))
    }

    async fn search(&self, session: &CrmSession, term: &str) -> Result<Hits, LookupError> {
        let query = [("term", term), ("fields", "phone")];
        let (items, complete) = pages(
            session.search(),
            Api::V2(&["persons", "search"]),
            &query,
            &FOUND,
        )
        .await?;
        Ok(Hits::read(items, complete, |found| record(&found["item"])).await)
    }

    async fn enrich(&self, session: &CrmSession, _: &Settings, contact: &Contact) -> Enrichment {
        let mut enrichment = Enrichment {
            info: Map::new(),
            complete: true,
        };
        let of_person = ("person_id", contact.id.as_str());
        let (deals, leads) = join(
            choices(
                session.part("deals", None),
                Api::V2(&["deals"]),
                &[of_person, ("status", "open")],
            ),
            choices(
                session.part("leads", None),
                Api::V1(&["leads"]),
                &[of_person],
            ),
        )
        .await;
        enrichment.add(session.log_throttle(), "deals", deals);
        enrichment.add(session.log_throttle(), "leads", leads);
        enrichment
    }
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

async fn choices(
    calls: Calls<'_>,
    api: Api<'_>,
    query: &[(&str, &str)],
) -> Result<(Vec<Value>, bool), LookupError> {
    let (items, complete) = pages(calls, api, query, &LIST).await?;
    Ok((
        items
            .iter()
            .map(|item| json!({"const": item["id"], "title": item["title"]}))
            .collect(),
        complete,
    ))
}

/// The two versions differ in path and in paging.
#[derive(Clone, Copy)]
enum Api<'a> {
    V1(&'a [&'a str]),
    V2(&'a [&'a str]),
}

impl Api<'_> {
    fn path(&self) -> Vec<&str> {
        match self {
            Self::V1(path) => [&["v1"], *path].concat(),
            Self::V2(path) => [&["api", "v2"], *path].concat(),
        }
    }

    /// The parameter that asks for the next page, if there is one.
    fn next(&self, reply: &Value) -> Result<Option<(&'static str, String)>, LookupError> {
        const V1: [&str; 2] = ["additional_data", "pagination"];
        match self {
            Self::V2(_) => {
                let cursor = next_text(reply, &["additional_data", "next_cursor"])?;
                Ok(cursor.map(|cursor| ("cursor", cursor)))
            }
            Self::V1(_) if is_said(reply, &[&V1[..], &["more_items_in_collection"]].concat())? => {
                let start = next_number(reply, &[&V1[..], &["next_start"]].concat())?;
                start
                    .map(|start| Some(("start", start)))
                    .ok_or(LookupError::CrmBadReply(BadReply::Shape))
            }
            Self::V1(_) => Ok(None),
        }
    }
}

/// All pages of a list, up to the session's limit; false where some were left unread.
async fn pages(
    mut calls: Calls<'_>,
    api: Api<'_>,
    query: &[(&str, &str)],
    form: &Form,
) -> Result<(Vec<Value>, bool), LookupError> {
    let mut items = Vec::new();
    let mut next: Option<(&str, String)> = None;
    for _ in 0..calls.most_pages() {
        let mut query = [query, &[("limit", PAGE)]].concat();
        query.extend(next.as_ref().map(|(name, value)| (*name, value.as_str())));
        let mut reply = calls.get(&api.path(), &query).await?;
        items.extend(calls.entries(form, &mut reply)?);
        next = api.next(&reply)?;
        if next.is_none() {
            return Ok((items, true));
        }
        calls = calls.further();
    }
    Ok((items, false))
}
