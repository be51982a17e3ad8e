//! Limited places for look-ups: for callers that wait for a CRM, for loads, for asking whose a
//! credential is, and for batches.
//!
//! A CRM that hangs or is paused fills places, and so does a user whose quota is used up. Each pool
//! is shared by scope and connector ([`Shares`]), so that they fill only their own places. Stored
//! answers are served without a place.

use super::asker::Asker;
use super::{Resolver, ResolverConfig};
use crate::admission::Credential;
use crate::domain::{Identity, Lane, LookupError};
use crate::share::{Claim, Share, Shares};

#[derive(Debug, Clone)]
pub(super) struct Places {
    callers: Shares,
    loads: Shares,
    whoami: Shares,
    jobs: Shares,
}

impl Places {
    pub(super) fn new(config: &ResolverConfig) -> Self {
        let shares = if config.is_one_connector {
            Shares::of_one_connector
        } else {
            Shares::new
        };
        Self {
            callers: shares(config.max_loads),
            loads: shares(config.max_loads),
            whoami: shares(config.max_loads),
            jobs: shares(config.max_jobs),
        }
    }
}

impl Resolver {
    /// A place for a caller that waits for the CRM. Batches have places of their own (`jobs`).
    pub(super) fn wait_place(
        &self,
        asker: &Asker,
        identity: Option<&Identity>,
    ) -> Result<Share, LookupError> {
        let claim = self.claim(asker, identity, Lane::CallPop);
        self.places
            .callers
            .enter(claim)
            .ok_or(LookupError::Overloaded)
    }

    /// A place for a load. The load keeps it even if its callers leave.
    pub(super) fn load_place(
        &self,
        asker: &Asker,
        identity: Option<&Identity>,
        lane: Lane,
    ) -> Option<Share> {
        self.places.loads.enter(self.claim(asker, identity, lane))
    }

    /// A place for asking whose credential it is.
    pub(super) fn whoami_place(&self, asker: &Asker, lane: Lane) -> Option<Share> {
        let identity = self.known_identity(asker);
        self.places
            .whoami
            .enter(self.claim(asker, identity.as_ref(), lane))
    }

    /// A place for a batch.
    pub(super) fn job_place(&self, asker: &Asker) -> Result<Share, LookupError> {
        let identity = self.known_identity(asker);
        let claim = self.claim(asker, identity.as_ref(), Lane::CallPop);
        self.places.jobs.enter(claim).ok_or(LookupError::Overloaded)
    }

    /// What this process knows of the credential.
    pub(super) fn known(&self, asker: &Asker) -> Option<Credential> {
        let admissions = &self.deps.admissions;
        admissions.known(asker.user_tag(), asker.auth_tag())
    }

    pub(super) fn known_identity(&self, asker: &Asker) -> Option<Identity> {
        self.known(asker).map(|credential| credential.identity)
    }

    /// Returns whether the CRM has accepted the credential, and not refused it since. Only then
    /// does a look-up continue after its callers have left.
    pub(super) fn has_been_verified(&self, asker: &Asker) -> bool {
        self.known(asker).is_some()
    }

    fn claim<'a>(&self, asker: &'a Asker, identity: Option<&Identity>, lane: Lane) -> Claim<'a> {
        Claim {
            connector: asker.platform().name(),
            scope: asker.scope(identity),
            lane,
            verified: self.has_been_verified(asker),
        }
    }
}
