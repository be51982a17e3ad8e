//! A load: ask the CRM once, store what it says, give it to everybody who waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Question, Resolver, TOO_LONG};
use crate::cache::{Event, Stored, Ticket};
use crate::clock;
use crate::connector;
use crate::domain::{ContactKey, Entry, Freshness, Lane, LookupError, Source};
use crate::flight::{Landing, Loaded};
use crate::lease::Acquired;
use crate::trace::Span;
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
    /// Where its HTTP calls are counted, also those of a load that fails.
    pub(super) spent: Arc<AtomicU32>,
    pub(super) span: Span,
}

impl Load {
    pub(super) async fn run(self) -> Landing {
        let platform = &self.question.platform;
        let loaded = tokio::select! {
            // Boxed: a load's future is large, and lives for as long as the CRM takes.
            loaded = Box::pin(self.load()) => loaded,
            () = self.overdue(self.resolver.config.timeout) => Err(TOO_LONG),
        };
        self.span.set("platform", platform.name().to_owned());
        self.span.set("lane", self.urgency.lane().label());
        self.span.set("outcome", outcome(&loaded));
        self.span.end();
        if let Err(error) = &loaded {
            platform.complaints().about("load", error, |alike| {
                let (platform, trace_id) = (platform.name(), self.span.trace_id());
                tracing::warn!(platform, trace_id, %error, alike, "a look-up in the CRM failed");
            });
            if *error == LookupError::CrmUnauthenticated {
                let (user, auth) = (self.key.user(), self.resolver.auth_tag(&self.question));
                self.resolver.rooms.admissions.revoke(user, auth).await;
                self.resolver.rooms.cache.tell(Event::Revoke(user, auth)).await;
            }
        }
        loaded
    }

    /// Ends once a ringing phone has had to do with this load for so long. Work behind the scenes waits for its turn in
    /// the CRM's quota however long that takes, and its calls have limits of their own.
    async fn overdue(&self, limit: Duration) {
        loop {
            let changed = self.urgency.changed();
            if self.urgency.lane() == Lane::CallPop {
                break clock::pause(limit).await;
            }
            changed.await;
        }
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
            let (lease, (stored, ticket)) =
                tokio::join!(leases.acquire(&self.key, auth, self.urgency.lane()), self.begin());
            if let Some(stored) = self.good_enough(stored).await {
                return Ok(stored);
            }
            match lease {
                Acquired::Lease(lease) => return lease.keep(self.ask(&ticket)).await,
                Acquired::Held => clock::pause(WATCH).await,
                Acquired::Unavailable => return self.ask(&ticket).await,
            }
        }
    }

    async fn begin(&self) -> (Option<Stored>, Ticket) {
        // Memory first, because what is found in Redis is in memory afterwards. The later of the two counts.
        let in_memory = self.resolver.rooms.cache.in_memory(&self.key);
        let (in_redis, ticket) = self.resolver.rooms.cache.begin(&self.key).await;
        let stored = in_redis.into_iter().chain(in_memory).max_by_key(|stored| stored.entry.asked_at());
        (stored, ticket)
    }

    /// A stored answer that makes the CRM call needless: fresh, and this credential may see it.
    async fn good_enough(&self, stored: Option<Stored>) -> Option<Loaded> {
        let stored = stored.filter(|stored| stored.freshness == Freshness::Fresh && !self.must_ask)?;
        let admitted = self.resolver.is_admitted(&self.question, &self.key).await;
        admitted.then(|| Loaded { source: stored.source, entry: stored.entry, crm_requests: 0 })
    }

    async fn ask(&self, ticket: &Ticket) -> Landing {
        let Resolver { rooms, .. } = &self.resolver;
        let asked_at = rooms.clock.now();
        let (question, platform) = (&self.question, &self.question.platform);
        let session = platform.session(&question.user, &question.auth, Arc::clone(&self.urgency), self.span.clone())?;
        let asked = connector::Question {
            party: question.party,
            formats: &question.formats,
            regions: platform.regions_for(&question.user),
            settings: &question.user.settings,
        };
        // Before the time is up, so that contacts without all of their details still arrive.
        let late = self.overdue(self.resolver.config.timeout / 5 * 4);
        let found = connector::find(platform.connector().as_ref(), &session, &asked, late).await;
        self.spent.fetch_add(session.requests(), Ordering::Relaxed);
        let found = found?;
        let entry = Entry::new(&question.party, &found.contacts, found.complete, asked_at);
        let entry = entry.with_extensions(found.extensions);
        // Asked again while it was fresh it proves nothing new: the CRM may index a new contact any moment.
        let before = rooms.cache.in_memory(&self.key).filter(|stored| stored.freshness != Freshness::Fresh);
        let before = before.map(|stored| stored.entry);
        let entry = Arc::new(entry.after(before.as_deref()).with_jitter(fastrand::u8(..)));
        let keep = async {
            if entry.is_storable() {
                rooms.cache.store(&self.key, ticket, &entry).await;
            } else {
                tracing::warn!(platform = platform.name(), "a search was cut short; its absence is not kept");
            }
        };
        let admit = rooms.admissions.admit(self.key.user(), self.resolver.auth_tag(question), asked_at);
        tokio::join!(admit, keep);
        Ok(Loaded { entry, source: Source::Crm, crm_requests: session.requests() })
    }
}

/// As in the metrics.
fn outcome(landing: &Landing) -> String {
    match landing {
        Ok(loaded) if loaded.entry.count() > 0 => "found".to_owned(),
        Ok(_) => "not_found".to_owned(),
        Err(error) => error.reason().to_ascii_lowercase(),
    }
}
