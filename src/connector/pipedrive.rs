//! Pipedrive: persons by phone (API v2), their open deals (v2) and leads (v1).
//!
//! Its search reads the digits of a phone field, so the national significant number finds every stored spelling, other
//! people's numbers that contain it among them.

use async_trait::async_trait;
use futures_util::future::join;
use serde_json::{Map, Value, json};

use super::{Connector, CrmSession, Enrichment, Hits, Record};
use crate::domain::caller::Settings;
use crate::domain::error::BadReply;
use crate::domain::json::text;
use crate::domain::{Contact, LookupError, MatchQuality, Spelling};

/// The largest page of these lists (Pipedrive's documentation: 100 in search, 500 elsewhere).
const PAGE: &str = "100";

#[derive(Debug)]
pub(super) struct Pipedrive;

#[async_trait]
impl Connector for Pipedrive {
    fn spellings(&self) -> &'static [Spelling] {
        &[Spelling::National]
    }

    async fn search(&self, session: &CrmSession, term: &str) -> Result<Hits, LookupError> {
        let query = [("term", term), ("fields", "phone")];
        let (items, complete) = pages(session, Api::V2(&["persons", "search"]), &query, "/data/items").await?;
        Ok(Hits { records: items.iter().map(|found| record(&found["item"])).collect(), complete })
    }

    async fn enrich(&self, session: &CrmSession, _: &Settings, contact: &Contact) -> Enrichment {
        let mut enrichment = Enrichment { info: Map::new(), complete: true };
        let of_person = ("person_id", contact.id.as_str());
        let (deals, leads) = join(
            choices(session, Api::V2(&["deals"]), &[of_person, ("status", "open")]),
            choices(session, Api::V1(&["leads"]), &[of_person]),
        )
        .await;
        enrichment.add(session.complaints(), "deals", deals);
        enrichment.add(session.complaints(), "leads", leads);
        enrichment
    }
}

pub(super) fn record(person: &Value) -> Record {
    let phones = person["phones"].as_array().into_iter().flatten();
    // Search items list phones as texts; other replies of the API as {"value": text}.
    let phones = phones.map(|phone| text(phone.get("value").or(Some(phone)))).collect();
    Record {
        phones,
        contact: Contact {
            id: text(person.get("id")),
            name: text(person.get("name")),
            kind: "contact".to_owned(),
            title: text(person.get("job_title")),
            company: text(person["organization"].get("name")),
            email: [person.get("primary_email"), person["emails"].get(0)]
                .map(text)
                .into_iter()
                .find(|text| !text.is_empty())
                .unwrap_or_default(),
            created: text(person.get("add_time")),
            last_activity: text(person.get("update_time")),
            additional_info: Map::new(),
            quality: MatchQuality::Unverified,
        },
    }
}

async fn choices(
    session: &CrmSession,
    api: Api<'_>,
    query: &[(&str, &str)],
) -> Result<(Vec<Value>, bool), LookupError> {
    let (items, complete) = pages(session, api, query, "/data").await?;
    Ok((items.iter().map(|item| json!({"const": item["id"], "title": item["title"]})).collect(), complete))
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
    fn next(&self, reply: &Value) -> Option<(&'static str, String)> {
        let more = &reply["additional_data"];
        let (name, value) = match self {
            Self::V2(_) => ("cursor", text(more.get("next_cursor"))),
            Self::V1(_) if more["pagination"]["more_items_in_collection"] == true => {
                ("start", text(more["pagination"].get("next_start")))
            }
            Self::V1(_) => return None,
        };
        (!value.is_empty()).then_some((name, value))
    }
}

/// All pages of a list, up to the session's limit; false where some were left unread.
async fn pages(
    session: &CrmSession,
    api: Api<'_>,
    query: &[(&str, &str)],
    list: &str,
) -> Result<(Vec<Value>, bool), LookupError> {
    let mut items = Vec::new();
    let mut next: Option<(&str, String)> = None;
    for _ in 0..session.limits().pages {
        let mut query = [query, &[("limit", PAGE)]].concat();
        query.extend(next.as_ref().map(|(name, value)| (*name, value.as_str())));
        let mut reply = session.get(&api.path(), &query).await?;
        match reply.pointer_mut(list).map(Value::take) {
            Some(Value::Array(list)) => items.extend(list),
            // An empty list of deals or leads is null; a search always has its list, and a failure may come with 200.
            Some(Value::Null) if list == "/data" && reply["success"] != false => {}
            _ => return Err(LookupError::CrmBadReply(BadReply::Shape)),
        }
        next = api.next(&reply);
        if next.is_none() {
            return Ok((items, true));
        }
    }
    Ok((items, false))
}
