//! The Example CRM of this program: the connector to copy when adding a CRM.

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::{Connector, CrmSession, Enrichment, Hits, Record};
use crate::domain::caller::Settings;
use crate::domain::error::BadReply;
use crate::domain::json::{take, text};
use crate::domain::{Contact, Extension, LookupError, MatchQuality, Spelling};

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

    async fn search(&self, session: &CrmSession, phone: &str) -> Result<Hits, LookupError> {
        hits(session, "phone", phone).await
    }

    async fn search_extension(&self, session: &CrmSession, extension: Extension) -> Result<Hits, LookupError> {
        let mut hits = hits(session, "extension", &extension.to_string()).await?;
        // The CRM matches extensions exactly, so the telephone numbers of the record have no say.
        hits.records.iter_mut().for_each(|record| record.phones = vec![extension.to_string()]);
        Ok(hits)
    }

    async fn enrich(&self, session: &CrmSession, _: &Settings, contact: &Contact) -> Enrichment {
        let mut enrichment = Enrichment { info: Map::new(), complete: true };
        let deals = pages(session, &["api", "v1", "contacts", &contact.id, "deals"], &[], "deals").await;
        let choices = deals.map(|(deals, complete)| {
            (deals.iter().map(|deal| json!({"const": deal["id"], "title": deal["title"]})).collect(), complete)
        });
        enrichment.add(session.complaints(), "deals", choices);
        enrichment
    }
}

async fn hits(session: &CrmSession, field: &str, value: &str) -> Result<Hits, LookupError> {
    let (records, complete) = pages(session, &["api", "v1", "contacts"], &[(field, value)], "contacts").await?;
    Ok(Hits { records: records.iter().map(record).collect(), complete })
}

pub(super) fn record(item: &Value) -> Record {
    let phones = item["phones"].as_array().into_iter().flatten();
    Record {
        phones: phones.map(|phone| text(phone.get("number"))).collect(),
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
    session: &CrmSession,
    path: &[&str],
    query: &[(&str, &str)],
    list: &str,
) -> Result<(Vec<Value>, bool), LookupError> {
    let mut items = Vec::new();
    let mut page = "1".to_owned();
    for _ in 0..session.limits().pages {
        let mut query = query.to_vec();
        query.push(("page", &page));
        let mut reply = session.get(path, &query).await?;
        match take(&mut reply, list) {
            Value::Array(list) => items.extend(list),
            _ => return Err(LookupError::CrmBadReply(BadReply::Shape)),
        }
        match reply["next_page"].as_u64() {
            Some(next) => page = next.to_string(),
            None => return Ok((items, true)),
        }
    }
    Ok((items, false))
}
