//! What a look-up would do now, and why: for people who ask why a name is missing.
//!
//! Decides with the functions of a look-up ([`decide`]), and carries nothing out: the CRM is not
//! called, and nothing is stored, refreshed or promoted. What is stored is only read under a
//! credential that is verified for the user, so that nobody else learns of it.

use std::time::Duration;

use super::Resolver;
use super::asker::Asker;
use super::decision::{Decision, StoredFacts, decide};
use super::plan::{CrmAccess, LookupPlan, plan};
use super::question::{Answer, Question};
use super::walk::NEWS;
use crate::admission::{Credential, Trust};
use crate::budget::QuotaOutlook;
use crate::cache::TierAnswer;
use crate::clock;
use crate::domain::{Identity, LookupError, Party};

/// What a look-up would find and do now.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// Whom the question is about.
    pub(crate) party: Party,
    /// The texts that a search asks for, in their order.
    pub(crate) spellings: Vec<String>,
    /// What the credential may see, by tier.
    pub(crate) stored: Vec<TierAnswer>,
    trust: Option<Trust>,
    /// Whether the owner of the credential is known.
    pub(crate) is_identity_known: bool,
    pub(crate) quota: QuotaOutlook,
    pub(crate) plan: LookupPlan,
}

impl Explanation {
    /// The trust in the credential, in the words of the public contract (there: its standing).
    #[must_use]
    pub(crate) fn standing(&self) -> &'static str {
        match self.trust {
            Some(Trust::Verified) => "proven",
            Some(Trust::Lapsed) => "lapsed",
            None => "unknown",
        }
    }
}

impl Resolver {
    /// Explains what [`find`](Self::find) would do about the question now. Reads Redis as a look-up
    /// does.
    pub(crate) async fn explain(&self, question: &Question) -> Explanation {
        let asker = question.asker();
        let credential = self.lookup_credential(asker).await;
        let stored = match credential.filter(Credential::is_verified) {
            Some(credential) => self.visible(question, &credential).await,
            None => Vec::new(),
        };
        let trust = credential.map(|credential| credential.trust);
        let identity = credential.map(|credential| credential.identity);
        let identity = identity.or_else(|| asker.identity_given());
        let best = stored.first().map(|answer| &answer.stored);
        let decision = decide(question.into(), trust, best.map(StoredFacts::from));
        let quota = self.quota_of(question, identity.as_ref()).await;
        let access = self.access(question, identity.as_ref(), decision, &quota);
        let party = question.key().party();
        Explanation {
            party,
            spellings: asker.spellings(&party, self.owner(asker, identity).as_ref()),
            trust,
            is_identity_known: !matches!(identity, None | Some(Identity::Credential(_))),
            quota,
            plan: plan(
                decision,
                (trust, best.map(|stored| stored.freshness)),
                access,
            ),
            stored,
        }
    }

    /// Asks the CRM, whatever is stored, and waits for nothing but its answer.
    ///
    /// # Errors
    /// The CRM's failure.
    pub(crate) async fn ask_anew(&self, question: &Question) -> Result<Answer, LookupError> {
        let (_place, seat) = self.begin_refresh(question).await?;
        self.wait_for(seat, question).await
    }

    async fn visible(&self, question: &Question, credential: &Credential) -> Vec<TierAnswer> {
        let key = question.key_of(&credential.identity);
        self.deps.cache.inspect(question.key(), &key).await
    }

    /// Whose quota a load would spend.
    fn owner(&self, asker: &Asker, identity: Option<Identity>) -> Option<Identity> {
        let admissions = &self.deps.admissions;
        admissions.owner_of(identity, asker.auth_tag())
    }

    async fn quota_of(&self, question: &Question, identity: Option<&Identity>) -> QuotaOutlook {
        let asker = question.asker();
        let lane = (question.trigger.lane(), self.has_been_verified(asker));
        let owner = self.owner(asker, identity.copied());
        asker.search_quota(owner.as_ref(), lane).await
    }

    /// What would keep the look-up from asking the CRM.
    fn access(
        &self,
        question: &Question,
        identity: Option<&Identity>,
        decision: Decision,
        quota: &QuotaOutlook,
    ) -> CrmAccess {
        let (asker, lane) = (question.asker(), question.trigger.lane());
        let has_room = self.wait_place(asker, identity).is_ok()
            && self.load_place(asker, identity, lane).is_some();
        let time = self.time_for(question, decision);
        if !has_room {
            CrmAccess::Full
        } else if !quota.turn_in.is_zero() && time.is_some_and(|time| quota.turn_in >= time) {
            CrmAccess::NoCallBefore(quota.turn_in)
        } else if self.rests(question.key()) {
            CrmAccess::Rests
        } else {
            CrmAccess::Open
        }
    }

    /// How long a call may wait for its turn.
    fn time_for(&self, question: &Question, decision: Decision) -> Option<Duration> {
        if decision == Decision::AwaitNews {
            return Some(self.patience(question).min(NEWS));
        }
        let deadline = self.deadline(question)?;
        Some(deadline.saturating_duration_since(clock::now()))
    }
}
