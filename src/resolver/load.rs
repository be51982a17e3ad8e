//! A load: ask the CRM once, store what it says, give it to everybody who waits.

use std::sync::Arc;
use std::time::Duration;

use super::{Question, Resolver};
use crate::cache::{Event, Stored, Ticket, Tier};
use crate::clock;
use crate::connector;
use crate::domain::error::Unavailable;
use crate::domain::{ContactKey, Entry, Freshness, LookupError};
use crate::flight::{Landing, Loaded};
use crate::lease::{Acquired, Lease};
use crate::urgency::Urgency;

/// How often Redis is looked at while another replica loads the same key.
const WATCH: Duration = Duration::from_millis(20);

/// One load. It runs as a task of its own: callers come and go, the load ends under its own time limit.
pub(super) struct Load {
    pub(super) resolver: Resolver,
    pub(super) question: Question,
    pub(super) key: ContactKey,
    /// Ask the CRM whatever is stored.
    pub(super) must_ask: bool,
    pub(super) urgency: Arc<Urgency>,
}

impl Load {
    pub(super) async fn run(self) -> Landing {
        let platform = self.question.platform.name();
        let loaded = clock::within(self.resolver.config.timeout, self.load()).await;
        let loaded = loaded.unwrap_or(Err(LookupError::CrmUnavailable(Unavailable::Timeout)));
        if let Err(error) = &loaded {
            tracing::warn!(platform, %error, "a look-up in the CRM failed");
            if *error == LookupError::CrmUnauthenticated {
                let (user, auth) = (self.key.user(), self.resolver.auth_tag(&self.question));
                self.resolver.rooms.admissions.revoke(user, auth).await;
                self.resolver.rooms.cache.tell(Event::Revoke(user, auth)).await;
            }
        }
        loaded
    }

    /// What another flight or another replica has stored by now, else what the CRM says. Replicas take turns by a
    /// lease; where Redis is away everybody asks.
    async fn load(&self) -> Landing {
        let Some(leases) = self.resolver.rooms.leases.as_ref().filter(|_| !self.must_ask) else {
            let (stored, ticket) = self.begin().await;
            return match self.good_enough(stored).await {
                Some(stored) => Ok(stored),
                None => self.ask(&ticket).await,
            };
        };
        let auth = self.resolver.auth_tag(&self.question);
        loop {
            // Asked for together and in this order: the lease's last holder may have stored the answer before.
            let (lease, (stored, ticket)) = tokio::join!(leases.acquire(&self.key, auth), self.begin());
            if let Some(stored) = self.good_enough(stored).await {
                if let Acquired::Lease(lease) = lease {
                    self.give_back(lease);
                }
                return Ok(stored);
            }
            match lease {
                Acquired::Lease(lease) => {
                    let landing = lease.keep(self.ask(&ticket)).await;
                    self.give_back(lease);
                    return landing;
                }
                Acquired::Held => clock::pause(WATCH).await,
                Acquired::Unavailable => return self.ask(&ticket).await,
            }
        }
    }

    /// Behind the callers' backs: they need not wait for it.
    fn give_back(&self, lease: Lease) {
        self.resolver.rooms.tasks.spawn(lease.release());
    }

    async fn begin(&self) -> (Option<Stored>, Ticket) {
        let (in_redis, ticket) = self.resolver.rooms.cache.begin(&self.key).await;
        (self.resolver.rooms.cache.in_memory(&self.key).or(in_redis), ticket)
    }

    /// A stored answer that makes the CRM call needless: fresh, and this credential may see it.
    async fn good_enough(&self, stored: Option<Stored>) -> Option<Loaded> {
        let stored = stored.filter(|stored| stored.freshness == Freshness::Fresh && !self.must_ask)?;
        let admitted = self.resolver.is_admitted(&self.question, &self.key).await;
        let tier = stored.tier;
        admitted.then(|| Loaded { entry: stored.entry, from_crm: tier == Tier::Memory, crm_requests: 0 })
    }

    async fn ask(&self, ticket: &Ticket) -> Landing {
        let Resolver { rooms, .. } = &self.resolver;
        let asked_at = rooms.clock.now();
        let (question, platform) = (&self.question, &self.question.platform);
        let session = platform.session(&question.user, &question.auth, Arc::clone(&self.urgency))?;
        let asked = connector::Question {
            party: question.party,
            formats: &question.formats,
            settings: &question.user.settings,
        };
        let found = connector::find(platform.connector().as_ref(), &session, &asked).await?;
        let entry = Entry::new(&question.party, &found.contacts, found.complete, asked_at);
        let before = rooms.cache.in_memory(&self.key).map(|stored| stored.entry);
        let entry = Arc::new(entry.after(before.as_deref()).with_jitter(fastrand::u8(..)));
        let keep = async {
            if entry.is_storable() {
                rooms.cache.store(&self.key, ticket, &entry).await;
            } else {
                tracing::warn!(platform = platform.name(), "a search was cut short; its absence is not kept");
            }
        };
        let admit = rooms.admissions.admit(self.key.user(), self.resolver.auth_tag(question));
        tokio::join!(admit, keep);
        Ok(Loaded { entry, from_crm: true, crm_requests: session.requests() })
    }
}
