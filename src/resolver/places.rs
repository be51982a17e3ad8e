//! Places of look-ups: for callers that wait for a CRM, for loads, for questions whose a credential
//! is, and for batches.
//!
//! A CRM that hangs or rests, and a user whose quota is used up, fill places. Each pool is shared
//! by scope and connector ([`Shares`]), so that they fill their own. What is stored is served
//! without a place.

use super::identity::Whose;
use super::{Asked, Config, Resolver};
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
    pub(super) fn new(config: &Config) -> Self {
        let shares = |most| {
            if config.is_one_connector {
                Shares::of_one_connector(most)
            } else {
                Shares::new(most)
            }
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
    /// A place for a caller that waits for the CRM.
    pub(super) fn wait_place(
        &self,
        asked: Asked<'_>,
        identity: Option<&Identity>,
    ) -> Result<Share, LookupError> {
        // A batch counts as a whole, where it begins.
        let claim = self.claim(asked, identity, Lane::CallPop);
        self.places
            .callers
            .enter(claim)
            .ok_or(LookupError::Overloaded)
    }

    /// A place for a load, also when its callers have left.
    pub(super) fn load_place(&self, asked: Asked<'_>, whose: Whose, lane: Lane) -> Option<Share> {
        let identity = match &whose {
            Whose::Settled(identity) => Some(identity),
            Whose::Unknown => None,
        };
        self.places.loads.enter(self.claim(asked, identity, lane))
    }

    /// A place for the question whose a credential is.
    pub(super) fn whoami_place(&self, asked: Asked<'_>, lane: Lane) -> Option<Share> {
        let known = self.rooms.admissions.known(asked.user(), asked.auth);
        self.places.whoami.enter(self.claim(
            asked,
            known.map(|known| known.identity).as_ref(),
            lane,
        ))
    }

    /// A place for a batch.
    pub(super) fn job_place(&self, asked: Asked<'_>) -> Result<Share, LookupError> {
        let known = self.rooms.admissions.known(asked.user(), asked.auth);
        let claim = self.claim(
            asked,
            known.map(|known| known.identity).as_ref(),
            Lane::CallPop,
        );
        self.places.jobs.enter(claim).ok_or(LookupError::Overloaded)
    }

    /// Whether the CRM has accepted the credential, and not refused it since. Only then a look-up
    /// goes on when its callers have left.
    pub(super) fn is_trusted(&self, asked: Asked<'_>) -> bool {
        self.rooms
            .admissions
            .known(asked.user(), asked.auth)
            .is_some()
    }

    fn claim<'a>(&self, asked: Asked<'a>, identity: Option<&Identity>, lane: Lane) -> Claim<'a> {
        let (connector, scope) = (asked.question.platform.name(), asked.scope(identity));
        Claim {
            connector,
            scope,
            lane,
            proven: self.is_trusted(asked),
        }
    }
}
