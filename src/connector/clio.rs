//! Clio Manage, API v4: contacts by a text search per spelling, and their matters, as client and by
//! relationship.
//!
//! Success is 200 with `{"data": [...], "meta": {"paging": {"next": link}}}`, without a `next` on
//! the last page; a failure has an `error` (docs.developers.clio.com/api-docs: paging, errors).

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::future::join;
use serde_json::{Map, Value, json};

use super::calls::Calls;
use super::success::{Form, next_text};
use super::{Connector, CrmSession, Enrichment, Hits, LogThrottle, Record};
use crate::domain::json::{take, text, texts};
use crate::domain::user::Settings;
use crate::domain::{Contact, LookupError, MatchQuality, Spelling, WhoAmI};

/// The largest page (Clio's documentation).
const PAGE: &str = "200";
const CONTACT_FIELDS: &str = "id,type,name,title,primary_email_address,primary_phone_number,created_at,updated_at,\
                              company{name},phone_numbers{number}";
const MATTER_FIELDS: &str = "id,display_number,description,status";

const LIST: Form = Form {
    list: "/data",
    null_is_empty: false,
    success: None,
};

/// App Connect's switch: offer closed matters too.
const SEE_CLOSED: &str = "clioSeeClosedMatters";

#[derive(Debug)]
pub(super) struct Clio;

#[async_trait]
impl Connector for Clio {
    fn spellings(&self) -> &'static [Spelling] {
        &[Spelling::E164]
    }

    fn settings(&self) -> &'static [&'static str] {
        &[SEE_CLOSED]
    }

    fn names_users(&self) -> bool {
        true
    }

    /// `GET /api/v4/users/who_am_i.json` (Clio's API reference, "Return the data for the current
    /// User").
    async fn whoami(&self, session: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        let reply = session
            .get(
                &["api", "v4", "users", "who_am_i.json"],
                &[("fields", "id,account{id}")],
            )
            .await?;
        let user = &reply["data"];
        Ok(WhoAmI::new(
            text(user.get("id")),
            text(user["account"].get("id")),
        ))
    }

    async fn search(&self, session: &CrmSession, text: &str) -> Result<Hits, LookupError> {
        let query = [("query", text), ("fields", CONTACT_FIELDS)];
        let (items, complete) = pages(session.search(), "contacts.json", &query).await?;
        Ok(Hits::read(items, complete, record).await)
    }

    async fn enrich(
        &self,
        session: &CrmSession,
        settings: &Settings,
        contact: &Contact,
    ) -> Enrichment {
        let related_fields = format!("matter{{{MATTER_FIELDS}}}");
        let (as_client, related) = join(
            pages(
                session.part("matters", None),
                "matters.json",
                &[("client_id", &contact.id), ("fields", MATTER_FIELDS)],
            ),
            pages(
                session.part("relationships", None),
                "relationships.json",
                &[("contact_id", &contact.id), ("fields", &related_fields)],
            ),
        )
        .await;
        let related = related.map(|(items, complete)| {
            // A relationship whose matter the user may not see has a null matter.
            let matters = items.into_iter().map(|mut item| take(&mut item, "matter"));
            (
                matters.filter(|matter| !matter.is_null()).collect(),
                complete,
            )
        });
        matters(
            session.log_throttle(),
            as_client,
            related,
            settings.is_on(SEE_CLOSED),
        )
    }
}

type List = Result<(Vec<Value>, bool), LookupError>;

/// The client's matters, then related ones, each once. What one of the two lists holds is offered
/// even where the other failed.
fn matters(
    log_throttle: &LogThrottle,
    as_client: List,
    related: List,
    see_closed: bool,
) -> Enrichment {
    let mut enrichment = Enrichment {
        info: Map::new(),
        complete: true,
    };
    let (mut choices, mut known) = (Vec::new(), HashSet::new());
    for list in [as_client, related] {
        let list = list.map(|(matters, complete)| {
            for matter in matters {
                let id = text(matter.get("id"));
                let new = id.is_empty() || known.insert(id);
                if new && (see_closed || matter["status"] != "Closed") {
                    choices.push(json!({
                        "const": matter["id"], "title": matter["display_number"],
                        "description": matter["description"], "status": matter["status"],
                    }));
                }
            }
            (choices.clone(), complete)
        });
        enrichment.add(log_throttle, "matters", list);
    }
    enrichment
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

/// All pages of a list, up to the session's limit; false where some were left unread.
async fn pages(mut calls: Calls<'_>, list: &str, query: &[(&str, &str)]) -> List {
    let query = [query, &[("limit", PAGE)]].concat();
    let mut reply = calls.get(&["api", "v4", list], &query).await?;
    let mut items = Vec::new();
    for page in 1.. {
        items.extend(calls.entries(&LIST, &mut reply)?);
        let Some(next) = next_text(&reply, &["meta", "paging", "next"])? else {
            return Ok((items, true));
        };
        if page >= calls.most_pages() {
            break;
        }
        calls = calls.further();
        reply = calls.follow(&next).await?;
    }
    Ok((items, false))
}
