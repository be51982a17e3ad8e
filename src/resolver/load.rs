//! A load: ask the CRM once, store the answer, give it to everybody who waits.

use std::time::Duration;

use super::TOO_LONG;
use super::answering::{AnswerOwner, Answering};
use super::load_request::Reuse;
use super::load_task::{Load, Loaded, SearchTiming};
use crate::admission::Credential;
use crate::cache::LoadTicket;
use crate::clock::{self, Stopwatch};
use crate::connector::{self, CrmSession, Found};
use crate::domain::{Freshness, LookupError};
use crate::flight::LoadResult;
use crate::lease::{Acquired, Leases};

/// How often Redis is checked while another replica loads the same question.
const WATCH: Duration = Duration::from_millis(20);

impl Load {
    pub(super) async fn run(self) -> LoadResult<Loaded> {
        // Boxed: a load's future is large, and lives for as long as the CRM takes.
        let result = Box::pin(self.load()).await;
        let platform = self.request.asker.platform().name();
        self.span.set("platform", platform.to_owned());
        self.span.set("lane", self.urgency.lane().label());
        self.span.set("outcome", outcome(&result));
        self.span.end();
        if let Err(error) = &result {
            self.log(error);
            if *error == LookupError::CrmUnauthenticated {
                self.resolver.revoke(self.request.asker.auth_tag()).await;
            }
        }
        result
    }

    fn log(&self, error: &LookupError) {
        let platform = self.request.asker.platform();
        platform.log_throttle().about("load", error, |suppressed| {
            let (platform, trace_id) = (platform.name(), self.span.trace_id());
            tracing::warn!(platform, trace_id, %error, suppressed, "a look-up in the CRM failed");
        });
    }

    /// Returns the answer that another flight or replica has stored by now, if stored answers count
    /// and that one is good enough. Otherwise returns the CRM's answer.
    async fn load(&self) -> LoadResult<Loaded> {
        let deps = &self.resolver.deps;
        if let Some(leases) = &deps.leases
            && self.request.reuse == Reuse::Fresh
        {
            return Box::pin(self.load_in_turn(leases)).await;
        }
        let begin = async { Ok(deps.cache.begin(&self.request.key).await) };
        self.load_since(self.in_time(begin).await?).await
    }

    /// Replicas take turns by a lease. If Redis is down, each asks the CRM.
    async fn load_in_turn(&self, leases: &Leases) -> LoadResult<Loaded> {
        let (key, auth) = (&self.request.key, self.request.asker.auth_tag());
        let cache = &self.resolver.deps.cache;
        loop {
            // Sent together and in this order: the previous holder of the lease may have stored the
            // answer.
            let begun = async {
                let lease = leases.acquire(key, auth, self.urgency.lane());
                Ok(tokio::join!(lease, cache.begin(key)))
            };
            let (lease, ticket) = self.in_time(begun).await?;
            match lease {
                Acquired::Lease(lease) => return lease.keep(self.load_since(ticket)).await,
                Acquired::Unavailable => return self.load_since(ticket).await,
                Acquired::Held => {
                    if let Some(stored) = self.good_enough(&ticket).await {
                        return Ok(stored);
                    }
                    let watch = async {
                        clock::sleep(WATCH).await;
                        Ok(())
                    };
                    self.in_time(watch).await?;
                }
            }
        }
    }

    /// The answer that was stored when the load began, if that is good enough. Otherwise the CRM's.
    async fn load_since(&self, ticket: LoadTicket) -> LoadResult<Loaded> {
        match self.good_enough(&ticket).await {
            Some(stored) => Ok(stored),
            None => self.ask(ticket).await,
        }
    }

    /// Ends a step if a ringing phone has waited for this load for too long. Background work waits
    /// for its turn in the CRM's quota without a limit; its calls have limits of their own.
    async fn in_time<T>(&self, step: impl Future<Output = LoadResult<T>>) -> LoadResult<T> {
        tokio::select! {
            biased;
            result = step => result,
            () = self.urgency.overdue() => Err(TOO_LONG),
        }
    }

    /// A stored answer that makes the CRM call unnecessary: fresh, and visible to this credential.
    async fn good_enough(&self, ticket: &LoadTicket) -> Option<Loaded> {
        if self.request.reuse == Reuse::Never {
            return None;
        }
        let known = self.resolver.lookup_credential(&self.request.asker).await;
        let credential = known.filter(Credential::is_verified)?;
        let key = self.request.key.of(&credential.identity);
        let stored = self.resolver.deps.cache.stored_before(ticket, &key)?;
        (stored.freshness == Freshness::Fresh).then(|| Loaded {
            source: stored.source,
            entry: stored.entry,
            asked: stored.asked,
            crm_requests: 0,
            timing: SearchTiming {
                found_at: clock::now(),
                took: Duration::ZERO,
            },
        })
    }

    /// Searches the CRM. If it is not known whose the answer is, also asks whose the credential is,
    /// at the same time, if the CRM may be asked that now.
    async fn ask(&self, ticket: LoadTicket) -> LoadResult<Loaded> {
        self.urgency
            .set_verified(self.resolver.has_been_verified(&self.request.asker));
        let owner = self.owner();
        let (session, stopwatch) = (self.session()?, Stopwatch::start());
        // Boxed: a search's future is large.
        let search = Box::pin(self.search(&session));
        let found = self.urgency.shared_with(owner.urgency(), search).await;
        let timing = SearchTiming {
            found_at: clock::now(),
            took: stopwatch.elapsed(),
        };
        let answering = Answering::new(self, session, ticket, owner, timing);
        match found {
            Ok(found) => {
                self.urgency.want();
                Ok(answering.finish(found).await)
            }
            Err(error) => {
                answering.give_up();
                Err(error)
            }
        }
    }

    /// The owner of the answer. Asks the CRM if it is not known.
    fn owner(&self) -> AnswerOwner {
        let (asker, urgency) = (&self.request.asker, &self.urgency);
        match self.request.identity {
            Some(identity) => AnswerOwner::Known(identity),
            None if self.resolver.may_ask_who(asker) => {
                let (lane, deadline) = (urgency.lane(), urgency.deadline());
                let span = &self.request.span;
                AnswerOwner::BeingAsked(self.resolver.ask_who(asker, span, lane, deadline))
            }
            None => AnswerOwner::Known(asker.identity_unsaid()),
        }
    }

    fn session(&self) -> LoadResult<CrmSession> {
        let asker = &self.request.asker;
        let admissions = &self.resolver.deps.admissions;
        let owner = admissions.owner_of(self.request.identity, asker.auth_tag());
        asker.session(owner.as_ref(), self.urgency.clone(), self.span.clone())
    }

    async fn search(&self, session: &CrmSession) -> LoadResult<Found> {
        let asker = &self.request.asker;
        let plan = connector::SearchPlan {
            party: self.request.key.party(),
            formats: asker.formats(),
            regions: asker.regions(),
            group: asker.group(),
        };
        let connector = asker.platform().connector();
        self.in_time(connector::search(connector.as_ref(), session, &plan))
            .await
    }
}

/// The attribute `outcome` of the span.
fn outcome(result: &LoadResult<Loaded>) -> String {
    match result {
        Ok(loaded) if loaded.entry.count() > 0 => "found".to_owned(),
        Ok(_) => "not_found".to_owned(),
        Err(error) => error.reason().to_ascii_lowercase(),
    }
}
