//! Connectors from files: one readable TOML file, or App Connect's JSON, instead of Rust.
//!
//! A file is read once, at start (`read`). Reading knows every name, place and limit, and reports
//! every fault with its place (`tree`). The result is a [`Profile`] for the rest of the module and
//! a plan of requests. `slot` and `literal` decide how a value is written, `fill` and `render`
//! write it, `run` sends it, `mapping` reads the reply, and `search` and `details` put them in
//! order.
//!
//! The language has no expressions: a path, a slot and a filter cannot loop, and none of them can
//! fail. It is taught in `deploy/connectors/README.md`.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::group::GroupResult;
use super::profile::Profile;
use super::record::{Enrichment, List, Record};
use super::success::says_failed;
use super::{Connector, CrmSession, NumberSearch, Reached, Search, Sheet};
use crate::domain::json::text;
use crate::domain::{Contact, LookupError, WhoAmI};

mod details;
#[cfg(any(test, fuzzing))]
mod exercise;
mod fill;
mod json_tree;
mod keys;
mod literal;
mod many;
mod mapping;
mod name;
mod plan;
mod proxy;
mod reach;
mod read;
mod render;
mod run;
mod schema;
mod search;
mod sheet;
mod slot;
mod slot_error;
#[cfg(test)]
mod tests;
mod tree;
mod uses;

pub(crate) use read::{Secrets, SpecKind, read_spec, secret_names};
pub(crate) use schema::schema;
pub(crate) use tree::SpecFault;

use super::path::{NoNames, Path};
use plan::{Plan, WhoAmIRequest};
use run::scope_of;

/// A connector that carries out a file.
pub(crate) struct FileConnector {
    profile: Arc<Profile>,
    plan: Plan,
    /// The names of the secrets that it needs.
    secrets: Vec<String>,
}

impl fmt::Debug for FileConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileConnector")
            .field("name", &self.plan.about.name)
            .finish_non_exhaustive()
    }
}

impl FileConnector {
    fn new(profile: Profile, plan: Plan, secrets: Vec<String>) -> Self {
        Self {
            profile: Arc::new(profile),
            plan,
            secrets,
        }
    }
}

#[async_trait]
impl Connector for FileConnector {
    fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    fn sheet(&self) -> Sheet {
        self.cost_sheet()
    }

    fn reached(&self) -> Vec<Reached> {
        self.reached_places()
    }

    async fn whoami(&self, crm: &CrmSession) -> Result<Option<WhoAmI>, LookupError> {
        let Some(plan) = &self.plan.whoami else {
            return Ok(None);
        };
        let Some(request) = plan.request.render(&scope_of(crm)) else {
            return Ok(None);
        };
        let reply = crm.read(request).await?;
        Ok(plan.identity(&reply))
    }

    async fn search(
        &self,
        crm: &CrmSession,
        search: &Search<'_>,
    ) -> Result<List<Record>, LookupError> {
        match search {
            Search::Number(search) => self.search_number(crm, *search).await,
            Search::Extension(extension) => self.search_extension(crm, *extension).await,
        }
    }

    async fn search_many(
        &self,
        crm: &CrmSession,
        searches: &[NumberSearch<'_>],
    ) -> Result<Vec<GroupResult>, LookupError> {
        self.search_numbers(crm, searches).await
    }

    async fn enrich(&self, crm: &CrmSession, contacts: &[Contact]) -> Vec<Enrichment> {
        self.load_details(crm, contacts).await
    }
}

impl WhoAmIRequest {
    /// Whose credential it is, if the reply says so.
    fn identity(&self, reply: &Value) -> Option<WhoAmI> {
        if says_failed(reply) {
            return None;
        }
        let account = self.account.as_ref().map(|path| only_id(path, reply));
        // Without the account that the file names, ids of two accounts could be equal.
        if account.as_ref().is_some_and(String::is_empty) {
            return None;
        }
        WhoAmI::new(only_id(&self.user, reply), account.unwrap_or_default())
    }
}

/// The only id at a path. Empty if there are several, because it is unknown which one the
/// credential is for.
fn only_id(path: &Path, reply: &Value) -> String {
    match path.all(reply, &NoNames).as_slice() {
        [id] => text(Some(id)),
        _ => String::new(),
    }
}
