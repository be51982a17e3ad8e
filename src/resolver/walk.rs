//! The steps of every look-up: what is stored, what the CRM says, and in which order.

use std::time::Duration;

use super::Resolver;
use super::asker::Asker;
use super::decision::{Decision, StoredFacts, Wish, decide};
use super::load_task::Loaded;
use super::question::{Answer, Question, Trigger};
use super::watch::LookupProgress;
use crate::admission::{Credential, Trust};
use crate::cache::{Fetched, Stored};
use crate::clock;
use crate::domain::{Freshness, Identity, Lane, LookupError};
use crate::flight::Seat;
use crate::share::Share;

/// Longest time that a ringing phone waits for the CRM if the stored answer is a stale "nobody".
pub(crate) const NEWS: Duration = Duration::from_millis(800);

impl Resolver {
    /// The answer that can be served at once: a fresh one in memory, under a credential that needs
    /// no check. `None` says nothing about the question: continue with [`find`](Self::find).
    #[must_use]
    pub(crate) fn stored(&self, question: &Question) -> Option<Answer> {
        if question.trigger == Trigger::ManualRefresh {
            return None;
        }
        let asker = question.asker();
        let credential = self.known(asker).filter(Credential::is_verified)?;
        if !question.only_if_cached && self.is_renewal_due(asker, &credential) {
            return None;
        }
        let key = question.key_of(&credential.identity);
        self.deps.cache.fresh_hit(&key).map(Answer::from)
    }

    /// Answers one question.
    ///
    /// Dropping the future only ends the waiting: a load that has begun under a verified credential
    /// continues and its answer is stored.
    ///
    /// # Errors
    /// [`LookupError::NotCached`] if only a stored answer was wanted, or else the CRM's failure.
    pub(crate) async fn find(&self, question: &Question) -> Result<Answer, LookupError> {
        if question.trigger == Trigger::ManualRefresh {
            return Box::pin(self.refresh(question)).await;
        }
        let known = self.known(question.asker());
        if let Some(credential) = known.filter(Credential::is_verified) {
            let key = question.key_of(&credential.identity);
            if let Some(stored) = self.deps.cache.hit(&key) {
                self.keep_trust(question, &credential);
                return Box::pin(self.serve(question, credential.identity, stored)).await;
            }
        }
        Box::pin(self.look_further(question)).await
    }

    /// Answers what memory does not answer under a verified credential: asks Redis, then the CRM.
    async fn look_further(&self, question: &Question) -> Result<Answer, LookupError> {
        let asker = question.asker();
        // Together, so that there is one wait for Redis.
        let (fetched, credential) = tokio::join!(
            self.deps.cache.fetch(question.key()),
            self.lookup_credential(asker)
        );
        match credential {
            Some(credential) => self.find_known(question, credential, &fetched).await,
            None if decide(question.into(), None, None) == Decision::NotCached => {
                self.deps.cache.missed(&fetched);
                Err(LookupError::NotCached)
            }
            None => self.identify(question, &fetched).await,
        }
    }

    /// A look-up under a credential that the CRM has accepted before.
    async fn find_known(
        &self,
        question: &Question,
        credential: Credential,
        fetched: &Fetched,
    ) -> Result<Answer, LookupError> {
        let (asker, identity) = (question.asker(), credential.identity);
        let key = question.key_of(&identity);
        let stored = self.deps.cache.pick(fetched, &key);
        let facts = stored.as_ref().map(StoredFacts::from);
        match (
            decide(question.into(), Some(credential.trust), facts),
            stored,
        ) {
            (Decision::NotCached, _) => Err(LookupError::NotCached),
            (Decision::Renew, _) => {
                let _place = self.wait_place(asker, Some(&identity))?;
                self.renew(question, identity).await
            }
            (_, Some(stored)) => {
                self.keep_trust(question, &credential);
                self.serve(question, identity, stored).await
            }
            (_, None) => {
                let _place = self.wait_place(asker, Some(&identity))?;
                self.load(question, Some(identity)).await
            }
        }
    }

    /// Serves what is stored for a verified credential. A stale answer is refreshed. If it says
    /// "nobody", a ringing phone first waits for the CRM for a moment.
    pub(super) async fn serve(
        &self,
        question: &Question,
        identity: Identity,
        stored: Stored,
    ) -> Result<Answer, LookupError> {
        let wish = Wish::from(question);
        let decision = decide(wish, Some(Trust::Verified), Some((&stored).into()));
        if decision == Decision::Serve {
            return Ok(stored.into());
        }
        if decision == Decision::AwaitNews {
            question.show(|| LookupProgress::Stored(stored.clone().into()));
            return match self.news(question, identity).await? {
                Some(answer) => Ok(answer),
                None => self.serve_without_news(question, identity).await,
            };
        }
        self.revalidate(question, identity);
        Ok(stored.into())
    }

    /// Serves what is stored by now. While the CRM was asked, the answer may have been invalidated
    /// or replaced, its end may have come, or the CRM may have refused the credential.
    async fn serve_without_news(
        &self,
        question: &Question,
        identity: Identity,
    ) -> Result<Answer, LookupError> {
        let stored = self.stored_by_now(question, identity).await;
        let is_trusted = self.known_identity(question.asker()) == Some(identity);
        let Some(stored) = stored.filter(|_| is_trusted) else {
            let _place = self.wait_place(question.asker(), Some(&identity))?;
            return self.load(question, Some(identity)).await;
        };
        if stored.freshness != Freshness::Fresh {
            self.revalidate(question, identity);
        }
        Ok(stored.into())
    }

    /// The CRM's answer within a moment. `None` if there is none. Does not ask if a background
    /// refresh of the question failed a moment ago.
    ///
    /// # Errors
    /// [`LookupError::CrmUnauthenticated`]: nothing stored may be served then.
    async fn news(
        &self,
        question: &Question,
        identity: Identity,
    ) -> Result<Option<Answer>, LookupError> {
        if self.rests(question.key()) {
            return Ok(None);
        }
        let Ok(_place) = self.wait_place(question.asker(), Some(&identity)) else {
            return Ok(None);
        };
        let patience = self.patience(question).min(NEWS);
        let mut request = self.request(question, Some(identity));
        request.lane = Lane::CallPop;
        request.deadline = clock::after(patience);
        let seat = self.start(request);
        match clock::timeout(patience, self.wait_for(seat, question)).await {
            Some(Err(LookupError::CrmUnauthenticated)) => Err(LookupError::CrmUnauthenticated),
            answer => Ok(answer.and_then(Result::ok)),
        }
    }

    /// Asks the CRM and waits for its answer. The caller must have a place to wait.
    pub(super) async fn load(
        &self,
        question: &Question,
        identity: Option<Identity>,
    ) -> Result<Answer, LookupError> {
        question.show(|| LookupProgress::Asking);
        let seat = self.start(self.request(question, identity));
        self.wait_for(seat, question).await
    }

    /// Asks the CRM, whatever is stored. If that takes long, a stored answer is served, and the
    /// refresh continues in the background.
    async fn refresh(&self, question: &Question) -> Result<Answer, LookupError> {
        let (_place, seat) = self.begin_refresh(question).await?;
        let behind = question.is_watched().then(|| seat.another());
        let fresh = self.wait_for(seat, question);
        tokio::pin!(fresh);
        if question.is_watched() {
            self.show_stored(question).await;
        }
        if let Some(answer) = clock::timeout(self.patience(question), &mut fresh).await {
            return answer;
        }
        match self.stored_meanwhile(question).await {
            Some(stored) => {
                question.keep(|| behind);
                Ok(stored)
            }
            None => fresh.await,
        }
    }

    /// Starts to ask the CRM, whatever is stored. Also returns the place that the caller holds
    /// while it waits.
    pub(super) async fn begin_refresh(
        &self,
        question: &Question,
    ) -> Result<(Share, Seat<Loaded>), LookupError> {
        let asker = question.asker();
        let credential = self.lookup_credential(asker).await;
        let known = credential.map(|credential| credential.identity);
        let place = self.wait_place(asker, known.as_ref())?;
        let identity = known.or_else(|| asker.identity_given());
        let seat = self.start(self.request(question, identity).anew());
        Ok((place, seat))
    }

    /// What a person who asked for a refresh sees until the CRM answers.
    async fn show_stored(&self, question: &Question) {
        let stored = self.stored_meanwhile(question).await;
        question.show(|| stored.map_or(LookupProgress::Asking, LookupProgress::Stored));
    }

    /// What is stored for the question, labelled stale, if the credential is verified.
    async fn stored_meanwhile(&self, question: &Question) -> Option<Answer> {
        let credential = self.lookup_credential(question.asker()).await;
        let credential = credential.filter(Credential::is_verified)?;
        let key = question.key_of(&credential.identity);
        let stored = self.deps.cache.lookup(question.key(), &key).await?;
        Some(Answer {
            freshness: Freshness::Stale,
            ..stored.into()
        })
    }

    /// What this process or another replica knows of the credential.
    pub(super) async fn lookup_credential(&self, asker: &Asker) -> Option<Credential> {
        let (admissions, was_verified) = (&self.deps.admissions, self.has_been_verified(asker));
        let known = admissions.lookup(asker.user_tag(), asker.auth_tag()).await;
        if known.is_some() && !was_verified {
            self.verify_loads(asker);
        }
        known
    }
}
