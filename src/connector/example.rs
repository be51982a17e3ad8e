//! The Example CRM of this program: the connector to copy when adding a CRM.
//!
//! Success is 200 with `{LIST: [...], "next_page": number or null}`, every refusal has an `error`
//! (`src/example_crm`). Its default quota is 50 calls a second for each user.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::calls::Calls;
use super::pages::{Pager, Parameter};
use super::path::Path;
use super::profile::{Profile, documented_quota};
use super::record::{Enrichment, List, Record};
use super::request::Request;
use super::sheet::{About, CONTACTS, MANY, PAGES};
use super::success::ListForm;
use super::{CallCount, Connector, CrmSession, RequestSheet, Search, Sheet};
use crate::domain::json::{text, texts};
use crate::domain::{Contact, LookupError, MatchQuality, Spelling, WhoAmI};

/// The segment of a path that is the id of a contact.
const CONTACT_ID: usize = 3;

/// Speaks the API of `contactd example-crm`.
#[derive(Debug)]
pub(super) struct ExampleConnector(Arc<Profile>);

impl ExampleConnector {
    pub(super) fn new() -> Self {
        Self(Arc::new(Profile {
            names_users: true,
            finds_extensions: true,
            ..Profile::new(Spelling::E164, documented_quota(50, 1, 50).into())
        }))
    }
}

#[async_trait]
impl Connector for ExampleConnector {
    fn profile(&self) -> &Arc<Profile> {
        &self.0
    }

    fn sheet(&self) -> Sheet {
        let request = |purpose: &str, title: &str, most| RequestSheet {
            purpose: purpose.to_owned(),
            title: title.to_owned(),
            calls: CallCount { least: 1, most },
            per_format: 0,
            notes: Vec::new(),
        };
        Sheet {
            about: About {
                name: "Example CRM".to_owned(),
                searches: "The generated contacts of `contactd example-crm` by any of their phone \
                           numbers, and colleagues by their extension."
                    .to_owned(),
                auth_header: "`Bearer TOKEN`, with any token".to_owned(),
                ..About::default()
            },
            is_tried: true,
            requests: vec![
                request("search", "GET /api/v1/contacts", PAGES),
                request(
                    "details deals",
                    "GET /api/v1/contacts/{id}/deals",
                    PAGES * CONTACTS,
                ),
                request("whoami", "GET /api/v1/me", 1),
            ],
            one: CallCount {
                least: 1,
                most: PAGES + PAGES * CONTACTS,
            },
            nobody: 1,
            many: CallCount {
                least: MANY,
                most: MANY,
            },
            ..Sheet::of(&self.0)
        }
    }

    async fn whoami(&self, crm: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        let reply = crm.read(Request::get(&["api", "v1", "me"], &[])).await?;
        Ok(WhoAmI::new(
            text(reply.get("id")),
            text(reply.get("account_id")),
        ))
    }

    async fn search(
        &self,
        crm: &CrmSession,
        search: &Search<'_>,
    ) -> Result<List<Record>, LookupError> {
        match search {
            Search::Number(number) => contacts(crm, "phone", number.text()).await,
            Search::Extension(extension) => {
                let extension = extension.to_string();
                let records = contacts(crm, "extension", &extension).await?;
                // The CRM compares extensions exactly, so the record's telephone numbers do not
                // count.
                Ok(records.map(|record| Record {
                    phones: vec![extension.clone()],
                    ..record
                }))
            }
        }
    }

    async fn enrich(&self, crm: &CrmSession, contacts: &[Contact]) -> Vec<Enrichment> {
        join_all(contacts.iter().map(|contact| deals(crm, contact))).await
    }
}

async fn contacts(crm: &CrmSession, field: &str, value: &str) -> Result<List<Record>, LookupError> {
    let path = ["api", "v1", "contacts"];
    let items = list(crm.search(), &path, &[(field, value)], "contacts").await?;
    Ok(items.read(record).await)
}

async fn deals(crm: &CrmSession, contact: &Contact) -> Enrichment {
    let path = ["api", "v1", "contacts", &contact.id, "deals"];
    let deals = list(crm.part("deals", Some(&contact.id)), &path, &[], "deals").await;
    let choice = |deal: Value| json!({"const": deal["id"], "title": deal["title"]});
    let mut enrichment = Enrichment::default();
    enrichment.add(
        crm.log_throttle(),
        "deals",
        deals.map(|deals| deals.map(choice)),
    );
    enrichment
}

async fn list(
    calls: Calls<'_>,
    path: &[&str],
    query: &[(&str, &str)],
    list: &str,
) -> Result<List<Value>, LookupError> {
    let first = Request::get(path, query)
        .with_value_at(CONTACT_ID)
        .with_parameter("page", "1".to_owned());
    let pager = Pager::Cursor {
        at: Path::of_keys(&["next_page"]),
        is_number: true,
        to: Parameter::Query("page".to_owned()),
        more: None,
    };
    calls
        .list(first, &ListForm::objects(&[list]), Some(&pager))
        .await
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
            kept: Vec::new(),
        },
    }
}
