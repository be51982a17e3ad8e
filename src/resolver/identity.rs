//! Whose a credential is, and how long that is believed.
//!
//! The CRM says who a credential is (`whoami`), once for many look-ups under it. What it says is at
//! the same time the proof that the credential is good. Where it does not say, the credential's own
//! tag stands for the identity, and only a search proves it.

use std::sync::Arc;
use std::time::Duration;

use super::{Answer, Asked, LoadRequest, Resolver, TOO_LONG};
use crate::admission::Credential;
use crate::cache::{Fetched, Stored};
use crate::clock::{self, Instant};
use crate::connector::IdentitySource;
use crate::domain::error::BadReply;
use crate::domain::{Freshness, Identity, Lane, LookupError, Timestamp};
use crate::flight::{Join, LoadResult, Seat};
use crate::trace::Span;
use crate::urgency::{Asker, Urgency};

/// How long the question who somebody is goes before the search if there may be an answer in store.
const HEAD_START: Duration = Duration::from_millis(150);

/// Whose an answer will be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    Settled(Identity),
    /// The CRM is asked beside the search.
    Unknown,
}

/// What the CRM has said of a credential.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) identity: Identity,
    /// When it was asked.
    asked: Timestamp,
}

impl Resolver {
    /// The identity of a credential whose CRM does not say it.
    pub(super) fn unsaid(asked: Asked<'_>) -> Identity {
        match asked.question.platform.identity() {
            IdentitySource::Crm => Identity::Credential(asked.auth),
            IdentitySource::Caller => Identity::Caller,
        }
    }

    /// Whose an answer under this credential will be.
    pub(super) fn whose(asked: Asked<'_>, credential: Option<&Credential>) -> Whose {
        match (credential, asked.question.platform.identity()) {
            (Some(credential), _) => Whose::Settled(credential.identity),
            (None, IdentitySource::Crm) => Whose::Unknown,
            (None, IdentitySource::Caller) => Whose::Settled(Identity::Caller),
        }
    }

    /// Whether the CRM can be asked now who the credential is.
    pub(super) fn may_ask_who(&self, asked: Asked<'_>) -> bool {
        asked.question.platform.profile().names_users
            && self.rooms.admissions.may_ask_who(asked.auth)
    }

    /// A look-up under a credential that nobody knows. If something is stored for the number,
    /// whomever it belongs to, the question who this is goes first: its answer may make the search
    /// needless. Otherwise both go together.
    pub(super) async fn introduce(
        &self,
        asked: Asked<'_>,
        fetched: Fetched,
    ) -> Result<Answer, LookupError> {
        if asked.question.only_if_cached {
            self.rooms.cache.missed(&fetched);
            return Err(LookupError::NotCached);
        }
        let _place = self
            .wait_place(asked, None)
            .inspect_err(|_| self.rooms.cache.missed(&fetched))?;
        if self.may_ask_who(asked) && self.may_be_stored(asked, &fetched) {
            let lane = asked.question.trigger.lane();
            let deadline = asked
                .question
                .deadline
                .or_else(|| clock::after(self.config.timeout));
            let known = clock::timeout(HEAD_START, self.who(asked, lane, deadline)).await;
            if let Some(Ok(identity)) = known {
                return match self.rooms.cache.pick(&fetched, &asked.key.of(&identity)) {
                    Some(stored) => self.serve(asked, identity, stored).await,
                    None => self.load(asked, Whose::Settled(identity)).await,
                };
            }
        }
        self.rooms.cache.missed(&fetched);
        self.load(asked, Self::whose(asked, None)).await
    }

    /// Whether anything is stored for the number under the claimed user id.
    fn may_be_stored(&self, asked: Asked<'_>, fetched: &Fetched) -> bool {
        let identities = self.rooms.admissions.identities(asked.user());
        !fetched.is_empty()
            || identities.iter().any(|identity| {
                self.rooms
                    .cache
                    .in_memory(&asked.key.of(identity))
                    .is_some()
            })
    }

    /// A stored answer under a credential that was accepted some time ago: the CRM is asked once
    /// more. Only if it cannot be reached the answer is served all the same, labelled stale; never
    /// because a caller, the quota or the daemon itself has no time for the question.
    pub(super) async fn renew(
        &self,
        asked: Asked<'_>,
        credential: Credential,
    ) -> Result<Answer, LookupError> {
        let deadline = asked
            .question
            .deadline
            .or_else(|| clock::after(self.config.timeout));
        if self.may_ask_who(asked) {
            let seat = self.ask_who(asked, asked.question.trigger.lane(), deadline);
            let urgency = Arc::clone(seat.urgency());
            match self
                .unless_out_of_reach(&urgency, self.heard(asked, seat))
                .await
            {
                None => return self.stale_by_now(asked, credential.identity).await,
                Some(Ok(identity)) => {
                    return match self.stored_by_now(asked, identity).await {
                        Some(stored) => self.serve(asked, identity, stored).await,
                        None => self.load(asked, Whose::Settled(identity)).await,
                    };
                }
                Some(Err(LookupError::CrmUnauthenticated)) if credential.identity.is_known() => {
                    return Err(LookupError::CrmUnauthenticated);
                }
                // The CRM does not say who it is, so a search has to show that the credential is
                // good.
                Some(Err(error)) if is_unsaid(&error) => {}
                Some(Err(error)) => return Err(error),
            }
        }
        let seat = self.board(
            asked,
            LoadRequest {
                must_ask: true,
                ..self.trip(asked, Whose::Settled(credential.identity))
            },
        );
        let urgency = Arc::clone(seat.urgency());
        match self
            .unless_out_of_reach(&urgency, self.wait_for(seat, asked.question))
            .await
        {
            Some(answer) => answer,
            None => self.stale_by_now(asked, credential.identity).await,
        }
    }

    /// What is stored now: while the CRM was asked it may have been erased or replaced.
    async fn stored_by_now(&self, asked: Asked<'_>, identity: Identity) -> Option<Stored> {
        self.rooms
            .cache
            .lookup(&asked.key, &asked.key.of(&identity))
            .await
    }

    /// As [`Self::stored_by_now`] under a credential whose trust could not be renewed, labelled
    /// stale. Unless it has been refused meanwhile.
    async fn stale_by_now(
        &self,
        asked: Asked<'_>,
        identity: Identity,
    ) -> Result<Answer, LookupError> {
        let known = self.rooms.admissions.lookup(asked.user(), asked.auth).await;
        let stored = self.stored_by_now(asked, identity).await;
        match stored.filter(|_| known.is_some()) {
            Some(stored) => Ok(Answer {
                freshness: Freshness::Stale,
                ..stored.into()
            }),
            None => self.load(asked, Whose::Settled(identity)).await,
        }
    }

    /// The result of something that calls the CRM; `None` if the CRM was called and cannot be
    /// reached, or leaves the call without a reply for longer than `lookup.soft_deadline`.
    async fn unless_out_of_reach<T>(
        &self,
        urgency: &Urgency,
        result: impl Future<Output = Result<T, LookupError>>,
    ) -> Option<Result<T, LookupError>> {
        tokio::select! {
            biased;
            result = result => match result {
                Err(LookupError::CrmUnavailable(_)) if urgency.has_called() => None,
                result => Some(result),
            },
            () = urgency.on_the_wire_for(self.config.soft_deadline) => None,
        }
    }

    /// Behind a hit: renews trust that ends soon, and asks again who somebody is where the CRM has
    /// not said it.
    pub(super) fn keep_trust(&self, asked: Asked<'_>, credential: &Credential) {
        let unsaid = !credential.identity.is_known()
            && asked.question.platform.identity() == IdentitySource::Crm;
        let wanted = credential.due || (unsaid && self.may_ask_who(asked));
        if !wanted {
            return;
        }
        let (key, scope) = (
            (asked.user(), asked.auth),
            asked.scope(Some(&credential.identity)),
        );
        if !self.renewing.take(key, scope, self.rooms.clock.now()) {
            return;
        }
        let (resolver, question, identity) =
            (self.clone(), asked.question.clone(), credential.identity);
        self.rooms.tasks.spawn(async move {
            let renewed =
                Box::pin(resolver.renew_behind(resolver.asked(&question), identity)).await;
            resolver.renewing.ended(
                key,
                scope,
                renewed.is_err().then(|| resolver.rooms.clock.now()),
            );
        });
    }

    async fn renew_behind(&self, asked: Asked<'_>, identity: Identity) -> Result<(), LookupError> {
        if self.may_ask_who(asked) {
            match self.who(asked, Lane::Revalidate, None).await {
                Err(error) if is_unsaid(&error) => {}
                said => return said.map(|_| ()),
            }
        }
        let trip = LoadRequest {
            must_ask: true,
            lane: Lane::Revalidate,
            deadline: None,
            ..self.trip(asked, Whose::Settled(identity))
        };
        self.board(asked, trip).wait().await.map(|_| ())
    }

    /// Who the credential is, by the CRM's word; it is proven then.
    pub(super) async fn who(
        &self,
        asked: Asked<'_>,
        lane: Lane,
        deadline: Option<Instant>,
    ) -> Result<Identity, LookupError> {
        self.heard(asked, self.ask_who(asked, lane, deadline)).await
    }

    /// What the CRM says in a flight. Whoever has joined it may claim another user id than the one
    /// that leads it.
    pub(super) async fn heard(
        &self,
        asked: Asked<'_>,
        seat: Seat<Known>,
    ) -> Result<Identity, LookupError> {
        let joined = seat.joined();
        let known = seat.wait().await?;
        let identity = Self::believed(asked, known.identity);
        if joined {
            self.rooms
                .admissions
                .admit(asked.user(), asked.auth, identity, known.asked)
                .await;
        }
        Ok(identity)
    }

    /// What the CRM says counts, unless the settings leave it to the caller.
    pub(super) fn believed(asked: Asked<'_>, said: Identity) -> Identity {
        match asked.question.platform.identity() {
            IdentitySource::Crm => said,
            IdentitySource::Caller => Identity::Caller,
        }
    }

    /// A seat on the flight that asks the CRM who the credential is. Many look-ups under one
    /// credential share it.
    pub(super) fn ask_who(
        &self,
        asked: Asked<'_>,
        lane: Lane,
        deadline: Option<Instant>,
    ) -> Seat<Known> {
        let asker = Asker {
            lane,
            deadline,
            trusted: self.is_trusted(asked),
        };
        let begin = || {
            Some((
                self.whoami_place(asked, lane)?,
                asked.question.span.step("whoami"),
            ))
        };
        self.whoami
            .join_or_lead(asked.auth, Join::Any, asker, begin, |span, urgency, _| {
                let (resolver, question) = (self.clone(), asked.question.clone());
                async move {
                    let asked = resolver.asked(&question);
                    let known = Box::pin(resolver.whoami(asked, &urgency, span.clone())).await;
                    span.set("outcome", if known.is_ok() { "said" } else { "unsaid" });
                    span.end();
                    known
                }
            })
    }

    async fn whoami(
        &self,
        asked: Asked<'_>,
        urgency: &Arc<Urgency>,
        span: Span,
    ) -> LoadResult<Known> {
        let (rooms, question) = (&self.rooms, asked.question);
        let (platform, began) = (&question.platform, rooms.clock.now());
        // Of a credential that was named before it is known whose quota it spends.
        let named = rooms
            .admissions
            .known(asked.user(), asked.auth)
            .map(|known| known.identity);
        urgency.set_proven(named.is_some());
        let credential = (&question.auth, asked.auth);
        let owner = rooms.admissions.owner_of(named, asked.auth);
        let session = platform.session(
            &question.user,
            credential,
            owner.as_ref(),
            Arc::clone(urgency),
            span,
        )?;
        let said = tokio::select! {
            said = platform.connector().whoami(&session) => said,
            () = urgency.overdue(self.config.timeout) => Err(TOO_LONG),
        };
        if urgency.has_called() {
            rooms
                .admissions
                .asked_who(asked.auth, matches!(said, Ok(Some(_))));
        }
        match said {
            Ok(Some(who)) => {
                urgency.want();
                let identity =
                    rooms
                        .keys
                        .identity(&platform.crm(), question.user.host.as_ref(), &who);
                let believed = Self::believed(asked, identity);
                let scope = platform.scope(&question.user, asked.auth, Some(&believed));
                rooms.tasks.spawn(session.belongs_to(scope));
                rooms
                    .admissions
                    .admit(asked.user(), asked.auth, believed, began)
                    .await;
                Ok(Known {
                    identity,
                    asked: began,
                })
            }
            Ok(None) => Err(LookupError::CrmBadReply(BadReply::Shape)),
            Err(error) => {
                // One that the CRM has named before is not accepted any more. Of any other a search
                // shows it.
                if error == LookupError::CrmUnauthenticated
                    && named.is_some_and(|named| named.is_known())
                {
                    self.revoke(asked).await;
                }
                Err(error)
            }
        }
    }
}

/// Whether the CRM has answered without saying who the credential is, which says nothing about the
/// credential.
fn is_unsaid(error: &LookupError) -> bool {
    matches!(
        error,
        LookupError::CrmUnauthenticated | LookupError::CrmForbidden | LookupError::CrmBadReply(_)
    )
}
