//! The Example CRM of this program: the connector to copy when adding a CRM.
//!
//! Success is 200 with `{LIST: [...], "next_page": number or null}`, every refusal has an `error`
//! (`src/example_crm`).

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::calls::Calls;
use super::success::{Form, next_number};
use super::{Connector, CrmSession, Enrichment, Hits, Record};
use crate::domain::json::{text, texts};
use crate::domain::user::Settings;
use crate::domain::{Contact, Extension, LookupError, MatchQuality, Spelling, WhoAmI};

const CONTACTS: Form = Form {
    list: "/contacts",
    null_is_empty: false,
    success: None,
};
const DEALS: Form = Form {
    list: "/deals",
    ..CONTACTS
};

/// Speaks the API of `contactd example-crm`.
#[derive(Debug)]
pub(super) struct ExampleCrm;

#[async_trait]
impl Connector for ExampleCrm {
    fn spellings(&self) -> &'static [Spelling] {
        &[Spelling::E164]
    }

    fn finds_extensions(&self) -> bool {
        true
    }

    fn names_users(&self) -> bool {
        true
    }

    async fn whoami(&self, session: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        let reply = session.get(&["api", "v1", "me"], &[]).await?;
        Ok(WhoAmI::new(
            text(reply.get("id")),
            text(reply.get("account_id")),
        ))
    }

    async fn search(&self, session: &CrmSession, phone: &str) -> Result<Hits, LookupError> {
        hits(session, "phone", phone).await
    }

    async fn search_extension(
        &self,
        session: &CrmSession,
        extension: Extension,
    ) -> Result<Hits, LookupError> {
        let mut hits = hits(session, "extension", &extension.to_string()).await?;
        // The CRM matches extensions exactly, so the telephone numbers of the record have no say.
        hits.records
            .iter_mut()
            .for_each(|record| record.phones = vec![extension.to_string()]);
        Ok(hits)
    }

    async fn enrich(&self, session: &CrmSession, _: &Settings, contact: &Contact) -> Enrichment {
        let mut enrichment = Enrichment {
            info: Map::new(),
            complete: true,
        };
        let calls = session.part("deals", Some(&contact.id));
        let deals = pages(
            calls,
            &["api", "v1", "contacts", &contact.id, "deals"],
            &[],
            &DEALS,
        )
        .await;
        let choices = deals.map(|(deals, complete)| {
            (
                deals
                    .iter()
                    .map(|deal| json!({"const": deal["id"], "title": deal["title"]}))
                    .collect(),
                complete,
            )
        });
        enrichment.add(session.log_throttle(), "deals", choices);
        enrichment
    }
}

async fn hits(session: &CrmSession, field: &str, value: &str) -> Result<Hits, LookupError> {
    let (records, complete) = pages(
        session.search(),
        &["api", "v1", "contacts"],
        &[(field, value)],
        &CONTACTS,
    )
    .await?;
    Ok(Hits::read(records, complete, record).await)
}

pub(super) fn record(item: &Value) -> Record {
    Record {
        phones: texts(item.get("phones"), "number"),
        contact: Contact {
            id: text(item.get("id")),
            name: text(item.get("name")),
            kind: text(item.get("kind")),
            title: text(item.get("title")),
            company: text(item.get("company")),
            email: text(item.get("email")),
            created: text(item.get("created_at")),
            last_activity: text(item.get("last_activity_at")),
            additional_info: Map::new(),
            quality: MatchQuality::Unverified,
        },
    }
}

/// All pages of a list, up to the session's limit; false where some were left unread.
async fn pages(
    mut calls: Calls<'_>,
    path: &[&str],
    query: &[(&str, &str)],
    form: &Form,
) -> Result<(Vec<Value>, bool), LookupError> {
    let mut items = Vec::new();
    let mut page = "1".to_owned();
    for _ in 0..calls.most_pages() {
        let mut query = query.to_vec();
        query.push(("page", &page));
        let mut reply = calls.get(path, &query).await?;
        items.extend(calls.entries(form, &mut reply)?);
        match next_number(&reply, &["next_page"])? {
            Some(next) => page = next,
            None => return Ok((items, true)),
        }
        calls = calls.further();
    }
    Ok((items, false))
}
