//! Puts the parts of a file together: a profile and a plan.

use super::super::plan::{Plan, SearchRequest};
use super::super::{FileConnector, keys};
use super::inputs::{InputNames, inputs, unsaid_by_whoami};
use super::table::Table;
use super::{crm, errors, spellings};
use crate::connector::credential::CredentialForm;
use crate::connector::headers::RateSignals;
use crate::connector::profile::{Inputs, Profile, StopRule};
use crate::connector::reply_class::ReplyRule;
use crate::connector::token::TokenRequest;
use crate::domain::Spelling;

/// What both kinds of files say in their own way.
pub(super) struct Parts {
    pub(super) crm: Option<crm::CrmSection>,
    pub(super) plan: Plan,
    pub(super) credential: Option<CredentialForm>,
    /// How a token is fetched, if one is.
    pub(super) token: Option<TokenRequest>,
    /// The names of the secrets.
    pub(super) secrets: Vec<String>,
    /// What the credential reads, and the requests in App Connect's form.
    pub(super) names: InputNames,
    /// Rules for replies. They count after the rules in the file's own tables.
    pub(super) replies: Vec<ReplyRule>,
    pub(super) finds_extensions: bool,
}

impl Parts {
    /// The connector, with what the tables of our own language say.
    pub(super) fn assemble(self, tables: &Table<'_>) -> Option<FileConnector> {
        let said = Said::read(tables);
        let stop = stop(tables, &self.plan);
        let mut plan = self.plan;
        plan.kept = plan.kept_paths();
        let crm = self.crm?;
        let inputs = inputs(&plan, &crm.base, self.names);
        check_whoami(tables, &plan, &inputs);
        let profile = Profile {
            spellings: said.spellings,
            stop,
            inputs,
            base: crm.base,
            hosts: crm.hosts,
            numbers_at_once: plan.numbers_at_once(),
            contacts_at_once: plan.contacts_at_once(),
            shares_details: plan.shares_details(),
            credential: self.credential?,
            token: self.token,
            reads_by_post: plan.reads_by_post(),
            replies: said.replies.into_iter().chain(self.replies).collect(),
            rate: said.rate,
            names_users: plan.whoami.is_some(),
            finds_extensions: self.finds_extensions,
            ..Profile::new(Spelling::E164, crm.quotas)
        };
        Some(FileConnector::new(profile, plan, self.secrets))
    }
}

/// What a file says of all its searches and of all replies.
struct Said {
    spellings: Vec<Spelling>,
    rate: RateSignals,
    replies: Vec<ReplyRule>,
}

impl Said {
    fn read(tables: &Table<'_>) -> Self {
        let rate = tables.table("rate", &[keys::RATE]);
        let errors = tables.tables("errors").into_iter();
        Self {
            spellings: spellings(tables),
            rate: rate
                .as_ref()
                .map_or_else(RateSignals::default, errors::rate),
            replies: errors.filter_map(errors::error_rule).collect(),
        }
    }
}

/// If a `whoami` does not send what other requests send, another tenant may answer it.
fn check_whoami(tables: &Table<'_>, plan: &Plan, inputs: &Inputs) {
    let unsaid = unsaid_by_whoami(plan, inputs).join(", ");
    if !unsaid.is_empty() {
        tables.fault(format!(
            "has a whoami that does not send {unsaid} to the CRM, but other requests do: it may name \
             a user of another tenant"
        ));
    }
}

fn stop(tables: &Table<'_>, plan: &Plan) -> StopRule {
    let said = tables.word("stop", &[("never", StopRule::Never)]);
    if plan.searches.iter().all(SearchRequest::asks_once) {
        StopRule::AfterOneSearch
    } else {
        said.unwrap_or(StopRule::AtFirstContact)
    }
}
