//! A load: ask the CRM once, store what it says, give it to everybody who waits.

use std::sync::Arc;
use std::time::Duration;

use super::answering::{Answering, Owner};
use super::identity::Whose;
use super::load_task::{Load, Loaded, Verified};
use super::{Question, Resolver, TOO_LONG};
use crate::admission::Credential;
use crate::cache::LoadTicket;
use crate::clock::{self, Stopwatch};
use crate::connector::{self, CrmSession, Found};
use crate::domain::{Freshness, LookupError};
use crate::flight::LoadResult;
use crate::lease::Acquired;

/// How often Redis is looked at while another replica loads the same question.
const WATCH: Duration = Duration::from_millis(20);

impl Load {
    pub(super) async fn run(self) -> LoadResult<Loaded> {
        let platform = &self.question.platform;
        // Boxed: a load's future is large, and lives for as long as the CRM takes.
        let loaded = Box::pin(self.load()).await;
        self.span.set("platform", platform.name().to_owned());
        self.span.set("lane", self.urgency.lane().label());
        self.span.set("outcome", outcome(&loaded));
        self.span.end();
        if let Err(error) = &loaded {
            platform.log_throttle().about("load", error, |suppressed| {
                let (platform, trace_id) = (platform.name(), self.span.trace_id());
                tracing::warn!(platform, trace_id, %error, suppressed, "a look-up in the CRM failed");
            });
            if *error == LookupError::CrmUnauthenticated {
                self.resolver.revoke(self.asked()).await;
            }
        }
        loaded
    }

    /// What another flight or another replica has stored by now, else what the CRM says. Replicas
    /// take turns by a lease; where Redis is away everybody asks.
    async fn load(&self) -> LoadResult<Loaded> {
        let cache = &self.resolver.rooms.cache;
        let Some(leases) = self
            .resolver
            .rooms
            .leases
            .as_ref()
            .filter(|_| !self.must_ask)
        else {
            let ticket = self
                .in_time(async { Ok(cache.begin(&self.key).await) })
                .await?;
            return match self.good_enough(&ticket).await {
                Some(stored) => Ok(stored),
                None => self.ask(ticket).await,
            };
        };
        loop {
            // Asked for together and in this order: the lease's last holder may have stored the
            // answer before.
            let begun = async {
                Ok(tokio::join!(
                    leases.acquire(&self.key, self.auth, self.urgency.lane()),
                    cache.begin(&self.key)
                ))
            };
            let (lease, ticket) = self.in_time(begun).await?;
            if let Some(stored) = self.good_enough(&ticket).await {
                return Ok(stored);
            }
            match lease {
                Acquired::Lease(lease) => return lease.keep(self.ask(ticket)).await,
                Acquired::Held => {
                    let watch = async {
                        clock::sleep(WATCH).await;
                        Ok(())
                    };
                    self.in_time(watch).await?;
                }
                Acquired::Unavailable => return self.ask(ticket).await,
            }
        }
    }

    /// Ends a step once a ringing phone has had to do with this load for too long. Work behind the
    /// scenes waits for its turn in the CRM's quota however long that takes, and its calls have
    /// limits of their own.
    async fn in_time<T>(&self, step: impl Future<Output = LoadResult<T>>) -> LoadResult<T> {
        tokio::select! {
            biased;
            result = step => result,
            () = self.urgency.overdue(self.resolver.config.timeout) => Err(TOO_LONG),
        }
    }

    /// A stored answer that makes the CRM call needless: fresh, and this credential may see it.
    async fn good_enough(&self, ticket: &LoadTicket) -> Option<Loaded> {
        if self.must_ask {
            return None;
        }
        let rooms = &self.resolver.rooms;
        let known = rooms.admissions.lookup(self.key.user(), self.auth).await;
        let credential = known.filter(Credential::is_proven)?;
        let stored = rooms
            .cache
            .stored_before(ticket, &self.key.of(&credential.identity))?;
        (stored.freshness == Freshness::Fresh).then(|| Loaded {
            source: stored.source,
            entry: stored.entry,
            asked: stored.asked,
            crm_requests: 0,
            verified: Verified {
                at: clock::now(),
                searched: Duration::ZERO,
            },
        })
    }

    /// Searches, and beside it asks who the credential is if nobody knows.
    async fn ask(&self, ticket: LoadTicket) -> LoadResult<Loaded> {
        let asked = self.asked();
        let admissions = &self.resolver.rooms.admissions;
        self.urgency
            .set_proven(admissions.known(asked.user(), asked.auth).is_some());
        let whose = match self.whose {
            Whose::Settled(identity) => Owner::Settled(identity),
            Whose::Unknown if self.resolver.may_ask_who(asked) => {
                let (lane, deadline) = (self.urgency.lane(), self.urgency.deadline());
                Owner::Asked(self.resolver.ask_who(asked, lane, deadline))
            }
            Whose::Unknown => Owner::Settled(Resolver::unsaid(asked)),
        };
        let (session, stopwatch) = (self.session()?, Stopwatch::start());
        let found = self.search(&session).await;
        let verified = Verified {
            at: clock::now(),
            searched: stopwatch.elapsed(),
        };
        let answering = Answering::new(self, session, ticket, whose, verified);
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

    fn session(&self) -> Result<CrmSession, LookupError> {
        let Question {
            platform,
            user,
            auth,
            ..
        } = &self.question;
        let settled = match self.whose {
            Whose::Settled(identity) => Some(identity),
            Whose::Unknown => None,
        };
        let owner = self.resolver.rooms.admissions.owner_of(settled, self.auth);
        platform.session(
            user,
            (auth, self.auth),
            owner.as_ref(),
            Arc::clone(&self.urgency),
            self.span.clone(),
        )
    }

    async fn search(&self, session: &CrmSession) -> LoadResult<Found> {
        let Question {
            platform,
            user,
            party,
            formats,
            ..
        } = &self.question;
        let asked = connector::Question {
            party: *party,
            formats,
            regions: platform.regions_for(user),
        };
        let connector = platform.connector();
        self.in_time(connector::search(connector.as_ref(), session, &asked))
            .await
    }
}

/// As in the metrics.
fn outcome(landing: &LoadResult<Loaded>) -> String {
    match landing {
        Ok(loaded) if loaded.entry.count() > 0 => "found".to_owned(),
        Ok(_) => "not_found".to_owned(),
        Err(error) => error.reason().to_ascii_lowercase(),
    }
}
