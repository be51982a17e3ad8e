//! Whose a credential is, as the CRM says.
//!
//! The CRM is asked once for many look-ups under one credential. Its answer also verifies the
//! credential. If it does not name an owner, the credential's own tag serves as the identity, and
//! only a search verifies it.

use std::sync::Arc;

use super::asker::Asker;
use super::{Resolver, TOO_LONG};
use crate::clock::Instant;
use crate::connector::CrmSession;
use crate::domain::error::BadReply;
use crate::domain::{Identity, Lane, LookupError, Timestamp, WhoAmI};
use crate::flight::{Join, LoadResult, NewLoad, Seat};
use crate::trace::Span;
use crate::urgency::{Demand, Urgency};

/// What the CRM has said of a credential.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamedCredential {
    pub(super) identity: Identity,
    /// When it was asked.
    asked: Timestamp,
}

impl Resolver {
    /// Returns whether the CRM can be asked now whose credential it is.
    pub(super) fn may_ask_who(&self, asker: &Asker) -> bool {
        asker.platform().profile().names_users && self.deps.admissions.may_ask_who(asker.auth_tag())
    }

    /// Whose credential it is, as the CRM says. It is verified then.
    pub(super) async fn who(
        &self,
        asker: &Arc<Asker>,
        span: &Span,
        lane: Lane,
        deadline: Option<Instant>,
    ) -> Result<Identity, LookupError> {
        self.named(asker, self.ask_who(asker, span, lane, deadline))
            .await
    }

    /// What the CRM says when a flight asks whose the credential is. A caller that joined it may
    /// claim another user id than its leader, so the credential is then verified for that id too.
    pub(super) async fn named(
        &self,
        asker: &Asker,
        seat: Seat<NamedCredential>,
    ) -> Result<Identity, LookupError> {
        let joined = seat.joined();
        let named = seat.wait().await?;
        let identity = asker.identity_said(named.identity);
        if joined {
            self.admit(asker, (identity, named.asked), None).await;
        }
        Ok(identity)
    }

    /// A seat on the flight that asks the CRM whose credential it is. Many look-ups under one
    /// credential share it.
    pub(super) fn ask_who(
        &self,
        asker: &Arc<Asker>,
        span: &Span,
        lane: Lane,
        deadline: Option<Instant>,
    ) -> Seat<NamedCredential> {
        let demand = Demand {
            lane,
            deadline,
            limit: Some(self.config.timeout),
            verified: self.has_been_verified(asker),
        };
        self.whoami
            .join_or_lead(asker.auth_tag(), Join::Any, demand, |urgency, _| {
                let place = self.whoami_place(asker, lane)?;
                let span = span.step("whoami");
                let (resolver, asker) = (self.clone(), Arc::clone(asker));
                let load = resolver.whoami(asker, urgency, span.clone());
                Some(NewLoad { place, span, load })
            })
    }

    async fn whoami(
        self,
        asker: Arc<Asker>,
        urgency: Arc<Urgency>,
        span: Span,
    ) -> LoadResult<NamedCredential> {
        let named = Box::pin(self.call_whoami(&asker, &urgency, span.clone())).await;
        span.set("outcome", if named.is_ok() { "said" } else { "unsaid" });
        span.end();
        named
    }

    async fn call_whoami(
        &self,
        asker: &Asker,
        urgency: &Arc<Urgency>,
        span: Span,
    ) -> LoadResult<NamedCredential> {
        let began = self.deps.clock.now();
        let admissions = &self.deps.admissions;
        // Another look-up may have asked since this one decided to.
        if let Some((identity, asked)) = admissions.named(asker.user_tag(), asker.auth_tag()) {
            urgency.want();
            return Ok(NamedCredential { identity, asked });
        }
        // If the credential was named before, it is known whose quota the call spends.
        let known = self.known_identity(asker);
        urgency.set_verified(known.is_some());
        let owner = admissions.owner_of(known, asker.auth_tag());
        let session = asker.session(owner.as_ref(), Arc::clone(urgency), span)?;
        let said = tokio::select! {
            said = asker.platform().connector().whoami(&session) => said,
            () = urgency.overdue() => Err(TOO_LONG),
        };
        if urgency.has_called() {
            let is_named = matches!(said, Ok(Some(_)));
            admissions.asked_who(asker.auth_tag(), is_named);
        }
        match said {
            Ok(Some(who)) => {
                urgency.want();
                Ok(self.learn(asker, &session, &who, began).await)
            }
            Ok(None) => Err(LookupError::CrmBadReply(BadReply::Shape)),
            Err(error) => Err(self.unnamed(asker, known, error).await),
        }
    }

    /// The CRM has not said whose credential it is. If it has named the owner before (`known`) and
    /// refuses the credential now, the credential is revoked. Otherwise a search decides.
    async fn unnamed(
        &self,
        asker: &Asker,
        known: Option<Identity>,
        error: LookupError,
    ) -> LookupError {
        let was_named = known.is_some_and(|known| known.is_known());
        if error == LookupError::CrmUnauthenticated && was_named {
            self.revoke(asker.auth_tag()).await;
        }
        error
    }

    /// Stores what the CRM said when it was asked at `began`.
    async fn learn(
        &self,
        asker: &Asker,
        session: &CrmSession,
        who: &WhoAmI,
        began: Timestamp,
    ) -> NamedCredential {
        let place = asker.platform().place(asker.user());
        let said = self.deps.keys.identity(&place, who);
        let identity = asker.identity_said(said);
        let belongs = session.belongs_to(asker.scope(Some(&identity)));
        self.deps.tasks.spawn(belongs);
        self.admit(asker, (identity, began), Some(session)).await;
        NamedCredential {
            identity: said,
            asked: began,
        }
    }
}
