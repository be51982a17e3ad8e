//! Puts the parts of a file together: a profile and a plan.

use super::super::plan::{NumberUse, Plan, SearchRequest};
use super::super::tree::Faults;
use super::super::{FileConnector, keys};
use super::inputs::{InputNames, inputs, unsaid_by_whoami};
use super::table::Table;
use super::{contacts_at_once, kept, numbers_at_once, reads_by_post, serves_several, spellings};
use super::{crm, errors};
use crate::connector::credential::CredentialForm;
use crate::connector::headers::RateSignals;
use crate::connector::profile::{Profile, StopRule};
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
    /// Replies whose meaning differs, after those of the tables.
    pub(super) replies: Vec<ReplyRule>,
    pub(super) finds_extensions: bool,
}

impl Parts {
    /// The connector, with what the tables of our own language say.
    pub(super) fn assemble(self, tables: &Table<'_>, faults: &Faults) -> Option<FileConnector> {
        let Self {
            crm,
            mut plan,
            names,
            ..
        } = self;
        let spellings = spellings(tables, faults);
        let rate = tables.table("rate", &[keys::RATE]);
        let errors = tables.tables("errors").into_iter();
        let mut replies: Vec<_> = errors
            .filter_map(|node| errors::error_rule(node, faults))
            .collect();
        replies.extend(self.replies);
        let stop = stop(tables, &plan);
        plan.kept = kept(&plan);
        let crm = crm?;
        let inputs = inputs(&plan, &crm.base, names);
        let unsaid = unsaid_by_whoami(&plan, &inputs).join(", ");
        if !unsaid.is_empty() {
            tables.fault(format!(
                "has a whoami that does not say {unsaid} to the CRM, as other requests do, so that its \
                 user may be another tenant's"
            ));
        }
        let profile = Profile {
            spellings,
            stop,
            inputs,
            base: crm.base,
            hosts: crm.hosts,
            numbers_at_once: numbers_at_once(&plan.searches),
            contacts_at_once: contacts_at_once(&plan),
            shares_details: plan.details.iter().all(|part| serves_several(&part.source)),
            credential: self.credential?,
            token: self.token,
            reads_by_post: reads_by_post(&plan),
            replies,
            rate: rate.map_or_else(RateSignals::default, |table| errors::rate(&table, faults)),
            names_users: plan.whoami.is_some(),
            finds_extensions: self.finds_extensions,
            ..Profile::new(Spelling::E164, crm.quotas)
        };
        Some(FileConnector::new(profile, plan, self.secrets))
    }
}

fn stop(tables: &Table<'_>, plan: &Plan) -> StopRule {
    let said = tables.word("stop", &[("never", StopRule::Never)]);
    let asks_once = |search: &SearchRequest| search.depends <= NumberUse::Lists;
    if plan.searches.iter().all(asks_once) {
        StopRule::AfterOneSearch
    } else {
        said.unwrap_or(StopRule::AtFirstContact)
    }
}
