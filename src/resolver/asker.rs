//! Who asks: what all questions of one call or one batch have in common.
//!
//! Made once and shared in an `Arc`. No field changes afterwards, so its tags always belong to its
//! user and credential.

use std::sync::Arc;

use super::observed::Observer;
use crate::budget::QuotaOutlook;
use crate::connector::{CrmSession, IdentitySource, Platform};
use crate::domain::{
    AuthHeader, AuthTag, GroupTag, Identity, Lane, LookupError, NumberFormat, Party, QuestionKey,
    QuestionPrefix, Region, ScopeTag, User, UserTag,
};
use crate::trace::Span;
use crate::urgency::Urgency;

/// A user of a platform, with the credential and the settings that a request brought.
#[derive(Debug)]
pub(crate) struct Asker {
    platform: Arc<Platform>,
    user: User,
    credential: AuthHeader,
    formats: Vec<NumberFormat>,
    keys: QuestionPrefix,
    auth_tag: AuthTag,
    /// Watches the calls that are made for its questions.
    observer: Option<Observer>,
}

impl Asker {
    /// Hashes the credential, and the prefix that all keys of its questions share.
    #[must_use]
    pub(crate) fn new(
        platform: Arc<Platform>,
        user: User,
        credential: AuthHeader,
        formats: Vec<NumberFormat>,
    ) -> Self {
        let auth_tag = platform.auth_tag(&user, &credential);
        let keys = platform.keys().prefix(&platform.crm(), &user, &formats);
        Self {
            platform,
            user,
            credential,
            formats,
            keys,
            auth_tag,
            observer: None,
        }
    }

    /// The same asker, whose calls are watched.
    #[must_use]
    pub(crate) fn observed_by(self, observer: Option<Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Whether its calls are watched.
    pub(super) fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    #[must_use]
    pub(crate) fn platform(&self) -> &Platform {
        &self.platform
    }

    #[must_use]
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// The formats in which the user writes numbers.
    pub(super) fn formats(&self) -> &[NumberFormat] {
        &self.formats
    }

    /// The claimed user.
    pub(super) fn user_tag(&self) -> UserTag {
        self.keys.user()
    }

    pub(super) fn auth_tag(&self) -> AuthTag {
        self.auth_tag
    }

    /// The key of the question about `party`, at the cost of one short hash.
    pub(super) fn key(&self, party: Party) -> QuestionKey {
        self.keys.question(party)
    }

    /// Which searches may be made in one call.
    pub(super) fn group(&self) -> GroupTag {
        self.keys.group(self.auth_tag)
    }

    /// The regions in which the phone fields of this user's CRM were typed.
    pub(super) fn regions(&self) -> &[Region] {
        self.platform.regions_for(&self.user)
    }

    /// Whose quota its calls spend, by what is known of the credential's owner.
    pub(super) fn scope(&self, identity: Option<&Identity>) -> ScopeTag {
        self.platform.scope(&self.user, self.auth_tag, identity)
    }

    /// A session with the CRM under the credential. `owner` is the credential's owner, if known.
    pub(super) fn session(
        &self,
        owner: Option<&Identity>,
        urgency: Arc<Urgency>,
        span: Span,
    ) -> Result<CrmSession, LookupError> {
        let credential = (&self.credential, self.auth_tag);
        let session = self
            .platform
            .session(&self.user, credential, owner, urgency, span)?;
        Ok(match &self.observer {
            Some(observer) => session.watched_by(observer.witness()),
            None => session,
        })
    }

    /// The texts that a search asks for, in their order.
    pub(super) fn spellings(&self, party: &Party, owner: Option<&Identity>) -> Vec<String> {
        let scope = self.scope(owner);
        self.platform.spellings(scope, party, &self.formats)
    }

    /// The quota of its searches in this lane.
    pub(super) async fn search_quota(
        &self,
        owner: Option<&Identity>,
        lane: (Lane, bool),
    ) -> QuotaOutlook {
        let scopes = self.platform.scopes(&self.user, self.auth_tag, owner);
        self.platform.search_quota(scopes, lane).await
    }

    /// Returns `said`, or the claimed identity if the settings leave the identity to the caller.
    pub(super) fn identity_said(&self, said: Identity) -> Identity {
        match self.platform.identity() {
            IdentitySource::Crm => said,
            IdentitySource::Caller => Identity::Caller,
        }
    }

    /// The identity of the credential if the CRM names none.
    pub(super) fn identity_unsaid(&self) -> Identity {
        self.identity_said(Identity::Credential(self.auth_tag))
    }

    /// The identity if it is known without asking the CRM.
    pub(super) fn identity_given(&self) -> Option<Identity> {
        match self.platform.identity() {
            IdentitySource::Crm => None,
            IdentitySource::Caller => Some(Identity::Caller),
        }
    }
}
