//! From verified contacts to a stored answer: load their details, find out whose the answer is,
//! store it.
//!
//! Waiting callers see the contacts as soon as they are verified. If the details take longer than a
//! caller should wait (`Answering::patience`), the contacts are stored with the details loaded so
//! far. The missing details are loaded in the background, and the complete answer then replaces the
//! first one. Loading stops once the answer can be of no use.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::asker::Asker;
use super::load_task::{Load, Loaded, SearchTiming};
use super::question::Trigger;
use super::whoami::NamedCredential;
use crate::cache::LoadTicket;
use crate::clock;
use crate::connector::{CrmSession, Details, Found};
use crate::domain::{ContactKey, Entry, Freshness, Identity, Lane, Source};
use crate::flight::Seat;
use crate::urgency::Urgency;

/// How often a load that waits for details checks whether its answer is still of use.
const CHECK: Duration = Duration::from_secs(1);

/// Whose the answer is.
pub(super) enum AnswerOwner {
    Known(Identity),
    /// The CRM is being asked.
    BeingAsked(Seat<NamedCredential>),
}

impl AnswerOwner {
    /// How urgently the CRM is being asked.
    pub(super) fn urgency(&self) -> Option<Arc<Urgency>> {
        match self {
            Self::Known(_) => None,
            Self::BeingAsked(seat) => Some(Arc::clone(seat.urgency())),
        }
    }
}

/// An answer in preparation.
pub(super) struct Answering<'a> {
    load: &'a Load,
    session: CrmSession,
    ticket: LoadTicket,
    owner: AnswerOwner,
    timing: SearchTiming,
}

impl<'a> Answering<'a> {
    pub(super) fn new(
        load: &'a Load,
        session: CrmSession,
        ticket: LoadTicket,
        owner: AnswerOwner,
        timing: SearchTiming,
    ) -> Self {
        Self {
            load,
            session,
            ticket,
            owner,
            timing,
        }
    }

    pub(super) async fn finish(mut self, found: Found) -> Loaded {
        let mut details = self.begin_details(found);
        if !details.is_done() || matches!(self.owner, AnswerOwner::BeingAsked(_)) {
            let entry = self.entry(&details.found(), None);
            self.load.early.show(self.loaded(entry));
        }
        if let Some(patience) = self.patience() {
            let until = self.timing.found_at + patience;
            let completed = clock::timeout_at(until, self.complete(&mut details)).await;
            if completed.is_none() {
                self.store_early(&mut details).await;
            }
        }
        self.complete_while_of_use(&mut details).await;
        if let AnswerOwner::Known(identity) = self.owner {
            self.count_calls();
            let entry = self.store(identity, &details.found()).await;
            return self.loaded(entry);
        }
        // It is not known yet who may see the answer.
        let loaded = self.loaded(self.entry(&details.found(), None));
        self.give_up();
        loaded
    }

    /// Stores the answer without the missing details, which are loaded in the background.
    async fn store_early(&mut self, details: &mut Details) {
        details.relax();
        if let AnswerOwner::Known(identity) = self.owner {
            self.store(identity, &details.found()).await;
        }
    }

    /// Nothing more is stored. The calls made so far still count for the credential's owner, once
    /// known.
    pub(super) fn give_up(self) {
        self.count_calls();
        let asker = Arc::clone(self.asker());
        let AnswerOwner::BeingAsked(mut seat) = self.owner else {
            return;
        };
        let session = self.session;
        self.load.resolver.deps.tasks.spawn(async move {
            let identity = identity(&asker, &mut seat).await;
            belongs_to(&asker, &session, identity).await;
        });
    }

    fn asker(&self) -> &'a Arc<Asker> {
        &self.load.request.asker
    }

    fn count_calls(&self) {
        let spent = &self.load.request.spent;
        spent.fetch_add(self.session.requests(), Ordering::Relaxed);
    }

    fn begin_details(&self, found: Found) -> Details {
        let platform = self.asker().platform();
        let lane = self.load.urgency.lane();
        // A person who pressed refresh waits for all details.
        let urgent = if self.waits_for_all() {
            found.contacts.len()
        } else {
            platform.urgent_contacts()
        };
        let (connector, gathering) = (platform.connector(), self.asker().group());
        Details::begin(connector, &self.session, found, (lane, urgent), gathering)
    }

    fn waits_for_all(&self) -> bool {
        self.load.request.trigger == Trigger::ManualRefresh
    }

    /// How long to wait for details after the contacts were verified. After that the answer is
    /// stored without the missing ones. Background work has no such limit.
    fn patience(&self) -> Option<Duration> {
        let config = &self.load.resolver.config;
        if self.load.urgency.lane() != Lane::CallPop {
            return None;
        }
        if self.waits_for_all() {
            // Before the time limit of the whole load.
            return Some((config.timeout / 5 * 4).saturating_sub(self.timing.took));
        }
        Some(self.timing.patience(config.details_timeout))
    }

    /// Waits for the rest as long as the answer is of use. If look-ups need more calls than the
    /// quota allows, details could wait for ever. Their calls would be wasted, and callers who join
    /// the load would get an answer that is too old.
    async fn complete_while_of_use(&mut self, details: &mut Details) {
        while clock::timeout(CHECK, self.complete(details))
            .await
            .is_none()
        {
            if !self.is_of_use(details) {
                return;
            }
        }
    }

    /// Returns whether it is worth waiting for the rest. It is if a caller waits and has time left.
    /// It also is if the answer so far is young enough for a new caller and one of these is true: a
    /// caller waits, even past its deadline; the complete answer can still be stored; or the load
    /// belongs to a batch, whose other numbers may share the calls.
    fn is_of_use(&self, details: &Details) -> bool {
        let (load, deps) = (self.load, &self.load.resolver.deps);
        let is_awaited = load.early.is_awaited();
        let caller_has_time = load.urgency.deadline().is_some_and(|at| at > clock::now());
        let age = deps.clock.now().since(self.ticket.asked());
        let entry = self.entry(&details.found(), None);
        let is_young_enough = load.resolver.freshness(&entry, age) != Freshness::Expired;
        let is_of_batch = load.urgency.lane() == Lane::Prefetch;
        let can_be_stored = || deps.cache.is_current(&self.ticket, &load.request.key);
        (is_awaited && caller_has_time)
            || (is_young_enough && (is_awaited || is_of_batch || can_be_stored()))
    }

    /// Waits for all details and for the identity. May be dropped midway and called again.
    async fn complete(&mut self, details: &mut Details) {
        tokio::join!(details.load(), self.settle());
    }

    async fn settle(&mut self) {
        let asker = self.asker();
        let who = self.owner.urgency();
        let AnswerOwner::BeingAsked(seat) = &mut self.owner else {
            return;
        };
        let identity = identity(asker, seat);
        let identity = self.load.urgency.shared_with(who, identity).await;
        self.owner = AnswerOwner::Known(identity);
        let belongs = belongs_to(asker, &self.session, identity);
        self.load.resolver.deps.tasks.spawn(belongs);
    }

    /// The answer at this point. `before` is the answer that it replaces.
    fn entry(&self, found: &Found, before: Option<&Entry>) -> Entry {
        let entry = Entry::new(
            &self.load.request.key.party(),
            &found.contacts,
            found.complete,
            self.ticket.asked_at(),
        )
        .with_extensions(&found.extensions);
        entry.after(before).with_jitter(fastrand::u8(..))
    }

    /// Stores the answer, and records that the credential is verified.
    async fn store(&self, identity: Identity, found: &Found) -> Entry {
        let (deps, key) = (
            &self.load.resolver.deps,
            self.load.request.key.of(&identity),
        );
        // If the stored answer is still fresh, a "nobody" in it does not count as an earlier one.
        // Two replies within a short time prove no more than one: the CRM may index a new contact
        // at any moment.
        let stored = deps.cache.in_memory(&key);
        let before = stored.filter(|stored| stored.freshness != Freshness::Fresh);
        let entry = self.entry(found, before.as_ref().map(|stored| &stored.entry));
        let accepted = (identity, self.ticket.asked());
        let resolver = &self.load.resolver;
        let admit = resolver.admit(self.asker(), accepted, Some(&self.session));
        tokio::join!(admit, self.keep(&key, &entry));
        entry
    }

    async fn keep(&self, key: &ContactKey, entry: &Entry) {
        if entry.is_storable() {
            let (cache, is_refresh) = (&self.load.resolver.deps.cache, self.waits_for_all());
            cache.store(key, &self.ticket, entry, is_refresh).await;
        } else {
            let platform = self.asker().platform().name();
            tracing::warn!(
                platform,
                "a search was cut short; its empty answer is not stored"
            );
        }
    }

    fn loaded(&self, entry: Entry) -> Loaded {
        let (asked, crm_requests) = (self.ticket.asked(), self.session.requests());
        Loaded {
            entry,
            asked,
            source: Source::Crm,
            crm_requests,
            timing: self.timing,
        }
    }
}

/// The owner of the credential, once the CRM has answered.
async fn identity(asker: &Asker, seat: &mut Seat<NamedCredential>) -> Identity {
    match seat.done().await {
        Ok(named) => asker.identity_said(named.identity),
        Err(_) => asker.identity_unsaid(),
    }
}

/// Counts the session's calls for `identity`. Pauses and quota hints from replies apply at once. If
/// the CRM has not said whose credential it is, the calls stay with the owner they count for
/// already.
fn belongs_to(
    asker: &Asker,
    session: &CrmSession,
    identity: Identity,
) -> impl Future<Output = ()> + use<> {
    let scope = identity.is_known().then(|| asker.scope(Some(&identity)));
    let belongs = scope.map(|scope| session.belongs_to(scope));
    async move {
        if let Some(belongs) = belongs {
            belongs.await;
        }
    }
}
