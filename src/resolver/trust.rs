//! How long a credential's known owner is trusted, and what happens if the owner is not known.

use std::sync::Arc;
use std::time::Duration;

use super::Resolver;
use super::asker::Asker;
use super::load_task::LoadKey;
use super::question::{Answer, Question};
use crate::admission::Credential;
use crate::cache::{Fetched, Stored};
use crate::clock;
use crate::connector::{CrmSession, IdentitySource};
use crate::domain::{Freshness, Identity, Lane, LookupError, Timestamp};
use crate::urgency::Urgency;

/// If an answer may be stored, the CRM is first asked whose credential it is. If it has not replied
/// after this time, the search starts too.
const HEAD_START: Duration = Duration::from_millis(150);

impl Resolver {
    /// A look-up under an unknown credential. If anything is stored for the number, for any owner,
    /// the CRM is first asked whose credential it is: the answer may make the search unnecessary.
    /// Otherwise both start together.
    pub(super) async fn identify(
        &self,
        question: &Question,
        fetched: &Fetched,
    ) -> Result<Answer, LookupError> {
        let asker = question.asker();
        let _place = self
            .wait_place(asker, None)
            .inspect_err(|_| self.deps.cache.missed(fetched))?;
        if self.may_ask_who(asker) && self.may_be_stored(question, fetched) {
            let (lane, deadline) = (question.trigger.lane(), self.deadline(question));
            let who = self.who(asker, &question.span, lane, deadline);
            if let Some(Ok(identity)) = clock::timeout(HEAD_START, who).await {
                let key = question.key_of(&identity);
                let stored = self.deps.cache.pick(fetched, &key);
                return self.serve_or_load(question, identity, stored).await;
            }
        }
        self.deps.cache.missed(fetched);
        self.load(question, asker.identity_given()).await
    }

    /// Returns whether anything is stored for the number under the claimed user id.
    fn may_be_stored(&self, question: &Question, fetched: &Fetched) -> bool {
        let user = question.asker().user_tag();
        let identities = self.deps.admissions.identities(user);
        let mut keys = identities.iter().map(|identity| question.key_of(identity));
        !fetched.is_empty() || keys.any(|key| self.deps.cache.in_memory(&key).is_some())
    }

    /// An answer is stored, but the credential was accepted too long ago: the CRM is asked again.
    /// Only if the CRM cannot be reached is the answer served anyway, labelled stale. A caller's
    /// deadline, the quota or a full daemon is no reason to serve it.
    pub(super) async fn renew(
        &self,
        question: &Question,
        known: Identity,
    ) -> Result<Answer, LookupError> {
        let asker = question.asker();
        if self.may_ask_who(asker) {
            let (lane, deadline) = (question.trigger.lane(), self.deadline(question));
            let seat = self.ask_who(asker, &question.span, lane, deadline);
            let urgency = Arc::clone(seat.urgency());
            let named = self.named(asker, seat);
            match self.unless_out_of_reach(&urgency, named).await {
                None => return self.stale_by_now(question, known).await,
                Some(Ok(identity)) => {
                    let stored = self.stored_by_now(question, identity).await;
                    return self.serve_or_load(question, identity, stored).await;
                }
                Some(Err(error)) if !is_left_to_a_search(&error, known) => return Err(error),
                Some(Err(_)) => {}
            }
        }
        let seat = self.start(self.request(question, Some(known)).anew());
        let urgency = Arc::clone(seat.urgency());
        let answer = self.wait_for(seat, question);
        match self.unless_out_of_reach(&urgency, answer).await {
            Some(answer) => answer,
            None => self.stale_by_now(question, known).await,
        }
    }

    /// The CRM has accepted the credential in a call that began at `asked`. If the credential was
    /// not verified before, its other loads count as verified too, and one call of each window of
    /// the session's quota is reserved for verified credentials.
    pub(super) async fn admit(
        &self,
        asker: &Asker,
        (identity, asked): (Identity, Timestamp),
        session: Option<&CrmSession>,
    ) {
        let (user, auth) = (asker.user_tag(), asker.auth_tag());
        let was_verified = self.has_been_verified(asker);
        let news = async {
            // It is not verified if the CRM has refused it since.
            if was_verified || !self.has_been_verified(asker) {
                return;
            }
            self.verify_loads(asker);
            if let Some(session) = session {
                // Boxed: it is rare, and the future of each load would hold it.
                Box::pin(session.prove()).await;
            }
        };
        // In this order: this process knows of the admission at the first poll.
        tokio::join!(
            biased;
            self.deps.admissions.admit(user, auth, identity, asked),
            news
        );
    }

    /// All running loads of the user under the credential count as verified from now on. Otherwise
    /// younger loads would keep overtaking them while they wait for the quota.
    pub(super) fn verify_loads(&self, asker: &Asker) {
        let (user, auth) = (asker.user_tag(), asker.auth_tag());
        let is_meant = |load: &LoadKey| load.auth == auth && load.question.user() == user;
        self.loads.verify(is_meant);
        if let Some(seat) = self.whoami.running(&auth) {
            seat.urgency().set_verified(true);
        }
    }

    async fn serve_or_load(
        &self,
        question: &Question,
        identity: Identity,
        stored: Option<Stored>,
    ) -> Result<Answer, LookupError> {
        match stored {
            Some(stored) => self.serve(question, identity, stored).await,
            None => self.load(question, Some(identity)).await,
        }
    }

    /// What is stored now. While the CRM was asked it may have been removed or replaced.
    pub(super) async fn stored_by_now(
        &self,
        question: &Question,
        identity: Identity,
    ) -> Option<Stored> {
        let key = question.key_of(&identity);
        self.deps.cache.lookup(question.key(), &key).await
    }

    /// What is stored now, labelled stale, under a credential whose trust could not be renewed. The
    /// answer is loaded if nothing is stored any more, or if the CRM has refused the credential
    /// meanwhile or named another owner.
    async fn stale_by_now(
        &self,
        question: &Question,
        identity: Identity,
    ) -> Result<Answer, LookupError> {
        let known = self.lookup_credential(question.asker()).await;
        let owner = known.map(|credential| credential.identity);
        let stored = self.stored_by_now(question, identity).await;
        match stored.filter(|_| owner == Some(identity)) {
            Some(stored) => Ok(Answer {
                freshness: Freshness::Stale,
                ..stored.into()
            }),
            None => self.load(question, owner.or(Some(identity))).await,
        }
    }

    /// The `result` of calling the CRM. `None` if the CRM was called and cannot be reached, or if
    /// there is no result within `lookup.soft_deadline` of the first call.
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

    /// Returns whether a hit should ask the CRM about a verified credential in the background: its
    /// trust ends soon, or the CRM has not said yet whose it is.
    pub(super) fn is_renewal_due(&self, asker: &Asker, credential: &Credential) -> bool {
        let is_unsaid =
            !credential.identity.is_known() && asker.platform().identity() == IdentitySource::Crm;
        credential.due || (is_unsaid && self.may_ask_who(asker))
    }

    /// After a hit: renews trust that ends soon, and asks again whose credential it is if the CRM
    /// has not said it.
    pub(super) fn keep_trust(&self, question: &Question, credential: &Credential) {
        let (asker, identity) = (question.asker(), credential.identity);
        if question.only_if_cached || !self.is_renewal_due(asker, credential) {
            return;
        }
        let (key, scope) = (
            (asker.user_tag(), asker.auth_tag()),
            asker.scope(Some(&identity)),
        );
        if !self.renewing.take(key, scope, self.deps.clock.now()) {
            return;
        }
        let (resolver, question) = (self.clone(), question.clone());
        self.deps.tasks.spawn(async move {
            let renewed = Box::pin(resolver.renew_behind(&question, identity)).await;
            let failed = renewed.is_err().then(|| resolver.deps.clock.now());
            resolver.renewing.ended(key, scope, failed);
        });
    }

    async fn renew_behind(
        &self,
        question: &Question,
        identity: Identity,
    ) -> Result<(), LookupError> {
        let asker = question.asker();
        if self.may_ask_who(asker) {
            let who = self.who(asker, &question.span, Lane::Revalidate, None);
            match who.await {
                Err(error) if is_unsaid(&error) => {}
                said => return said.map(|_| ()),
            }
        }
        let request = self.request(question, Some(identity)).anew();
        let seat = self.start(request.behind(Lane::Revalidate));
        seat.wait().await.map(|_| ())
    }
}

/// The CRM did not say whose a credential is: returns whether a search may still verify it. A
/// search may not if the CRM has named the owner before and refuses the credential now.
fn is_left_to_a_search(error: &LookupError, known: Identity) -> bool {
    is_unsaid(error) && !(*error == LookupError::CrmUnauthenticated && known.is_known())
}

/// Returns whether the CRM answered without naming an owner, which says nothing about the
/// credential.
fn is_unsaid(error: &LookupError) -> bool {
    matches!(
        error,
        LookupError::CrmUnauthenticated | LookupError::CrmForbidden | LookupError::CrmBadReply(_)
    )
}
