//! From verified contacts to a stored answer: load their details, learn whose they are, store both.
//!
//! Contacts are shown to whoever waits as soon as they are verified. If their details take longer
//! than a phone rings, the contacts are stored without them, and the rest is loaded behind the
//! answer and stored in its place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::identity::Known;
use super::load_task::{Load, Loaded, Verified};
use super::{Asked, Question, Resolver, Trigger};
use crate::cache::LoadTicket;
use crate::clock;
use crate::connector::{CrmSession, Details, Found};
use crate::domain::{Entry, Freshness, Identity, Lane, Source};
use crate::flight::Seat;

/// Whose the answer is.
pub(super) enum Owner {
    Settled(Identity),
    /// The CRM is being asked.
    Asked(Seat<Known>),
}

/// An answer on its way.
pub(super) struct Answering<'a> {
    load: &'a Load,
    session: CrmSession,
    ticket: LoadTicket,
    owner: Owner,
    verified: Verified,
}

impl<'a> Answering<'a> {
    pub(super) fn new(
        load: &'a Load,
        session: CrmSession,
        ticket: LoadTicket,
        owner: Owner,
        verified: Verified,
    ) -> Self {
        Self {
            load,
            session,
            ticket,
            owner,
            verified,
        }
    }

    pub(super) async fn finish(mut self, found: Found) -> Loaded {
        let mut details = self.begin_details(found);
        if !details.is_done() || matches!(self.owner, Owner::Asked(_)) {
            self.load
                .early
                .show(self.loaded(self.entry(&details.found(), None)));
        }
        if let Some(patience) = self.patience()
            && clock::timeout_at(self.verified.at + patience, self.complete(&mut details))
                .await
                .is_none()
        {
            details.relax();
            if let Owner::Settled(identity) = self.owner {
                self.store(identity, &details.found()).await;
            }
        }
        self.complete(&mut details).await;
        self.load
            .spent
            .fetch_add(self.session.requests(), Ordering::Relaxed);
        let identity = match self.owner {
            Owner::Settled(identity) => identity,
            Owner::Asked(_) => Resolver::unsaid(self.load.asked()),
        };
        let entry = self.store(identity, &details.found()).await;
        self.loaded(entry)
    }

    /// There is no answer. The calls that were made for it still count for whoever the credential
    /// turns out to be.
    pub(super) fn give_up(self) {
        self.load
            .spent
            .fetch_add(self.session.requests(), Ordering::Relaxed);
        let Owner::Asked(mut seat) = self.owner else {
            return;
        };
        let (resolver, question, session) = (
            self.load.resolver.clone(),
            self.load.question.clone(),
            self.session,
        );
        self.load.resolver.rooms.tasks.spawn(async move {
            let asked = resolver.asked(&question);
            let identity = whose(asked, &mut seat).await;
            belongs_to(asked, &session, identity).await;
        });
    }

    fn begin_details(&self, found: Found) -> Details {
        let (platform, user) = (&self.load.question.platform, &self.load.question.user);
        let lane = self.load.urgency.lane();
        // Somebody who pressed refresh waits for all of them.
        let urgent = if self.waits_for_all() {
            found.contacts.len()
        } else {
            platform.urgent_contacts()
        };
        Details::begin(
            platform.connector(),
            &self.session,
            &Arc::new(user.settings.clone()),
            found,
            (lane, urgent),
        )
    }

    fn waits_for_all(&self) -> bool {
        self.load.question.trigger == Trigger::ManualRefresh
    }

    /// How long from the moment of verification until the answer is stored without what is missing.
    /// Work behind the scenes takes as long as it takes.
    fn patience(&self) -> Option<Duration> {
        let config = &self.load.resolver.config;
        if self.load.urgency.lane() != Lane::CallPop {
            return None;
        }
        if self.waits_for_all() {
            // Before the time of the whole load is up.
            return Some((config.timeout / 5 * 4).saturating_sub(self.verified.searched));
        }
        Some(self.verified.patience(config.details_timeout))
    }

    /// Waits for all details and for the identity. May be dropped half-way and called again.
    async fn complete(&mut self, details: &mut Details) {
        tokio::join!(details.load(), self.settle());
    }

    async fn settle(&mut self) {
        let Owner::Asked(seat) = &mut self.owner else {
            return;
        };
        let asked = self.load.asked();
        let identity = whose(asked, seat).await;
        self.owner = Owner::Settled(identity);
        self.load
            .resolver
            .rooms
            .tasks
            .spawn(belongs_to(asked, &self.session, identity));
    }

    /// The answer as it is by now. `before` is what it follows.
    fn entry(&self, found: &Found, before: Option<&Entry>) -> Arc<Entry> {
        let entry = Entry::new(
            &self.load.question.party,
            &found.contacts,
            found.complete,
            self.ticket.asked_at(),
        )
        .with_extensions(found.extensions.clone());
        Arc::new(entry.after(before).with_jitter(fastrand::u8(..)))
    }

    /// Keeps the answer, and that the credential is good.
    async fn store(&self, identity: Identity, found: &Found) -> Arc<Entry> {
        let (rooms, key) = (&self.load.resolver.rooms, self.load.key.of(&identity));
        // Asked again while it was fresh it proves nothing new: the CRM may index a new contact any
        // moment.
        let before = rooms
            .cache
            .in_memory(&key)
            .filter(|stored| stored.freshness != Freshness::Fresh);
        let entry = self.entry(found, before.as_ref().map(|stored| &*stored.entry));
        let keep = async {
            if entry.is_storable() {
                rooms
                    .cache
                    .store(&key, &self.ticket, &entry, self.waits_for_all())
                    .await;
            } else {
                let platform = self.load.question.platform.name();
                tracing::warn!(platform, "a search was cut short; its absence is not kept");
            }
        };
        let admit =
            rooms
                .admissions
                .admit(key.user(), self.load.auth, identity, self.ticket.asked());
        tokio::join!(admit, keep, self.session.prove());
        entry
    }

    fn loaded(&self, entry: Arc<Entry>) -> Loaded {
        let (asked, crm_requests) = (self.ticket.asked(), self.session.requests());
        Loaded {
            entry,
            asked,
            source: Source::Crm,
            crm_requests,
            verified: self.verified,
        }
    }
}

/// Whose the credential is, when the CRM has been asked.
async fn whose(asked: Asked<'_>, seat: &mut Seat<Known>) -> Identity {
    match seat.done().await {
        Ok(known) => Resolver::believed(asked, known.identity),
        Err(_) => Resolver::unsaid(asked),
    }
}

/// Has the session's calls count for `identity`: at once, as far as it is about what replies have
/// said. If the CRM has not said whose the credential is, they count for whom they count already.
fn belongs_to(
    asked: Asked<'_>,
    session: &CrmSession,
    identity: Identity,
) -> impl Future<Output = ()> + use<> {
    let Question { platform, user, .. } = asked.question;
    let scope = identity
        .is_known()
        .then(|| platform.scope(user, asked.auth, Some(&identity)));
    let belongs = scope.map(|scope| session.belongs_to(scope));
    async move {
        if let Some(belongs) = belongs {
            belongs.await;
        }
    }
}
