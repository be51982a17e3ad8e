//! A running batch: verifies the credential, reports what is stored, loads the rest.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::mpsc;

use super::events::{Batch, CutShort, PrefetchEvent};
use super::gauge::JobGauge;
use super::plan::{BatchPlan, Proof};
use crate::admission::Credential;
use crate::clock::{self, Stopwatch};
use crate::domain::{ContactKey, Freshness, Identity, Lane, LookupError, Party};
use crate::flight::LoadResult;
use crate::resolver::Resolver;
use crate::resolver::jobs::JobEntry;
use crate::resolver::load_request::{LoadRequest, Reuse};
use crate::resolver::load_task::Loaded;
use crate::resolver::question::Trigger;
use crate::resolver::trouble::{self, Tries, Trouble};
use crate::share::Share;

/// How many look-ups of one job usually run at once: enough to use up any CRM's quota at its usual
/// latency.
const AT_ONCE: usize = 32;

/// How many look-ups of one job run at once at most, if one call asks for many numbers.
const MOST_AT_ONCE: usize = 256;

/// How long a number waits if its scope or its CRM already has as many loads as are allowed.
const FULL: Duration = Duration::from_secs(1);

/// How long running look-ups may take when the daemon stops.
const GRACE: Duration = Duration::from_secs(3);

/// From this many missing numbers on, a batch asks a second time whose its credential is.
const WORTH_A_CALL: usize = 10;

/// How long a batch waits for the answer to that.
const NAMING: Duration = Duration::from_secs(20);

pub(super) struct BatchRun {
    pub(super) resolver: Resolver,
    pub(super) batch: Batch,
    pub(super) events: mpsc::Sender<PrefetchEvent>,
    pub(super) entry: JobEntry,
    /// HTTP calls made for this job.
    pub(super) spent: Arc<AtomicU32>,
    pub(super) trouble: Trouble,
    pub(super) _place: Share,
    pub(super) _gauge: JobGauge,
}

/// The client has left.
struct Gone;

/// Why a job ends before all is done.
enum Stop {
    CutShort(CutShort),
    Gone,
}

impl From<CutShort> for Stop {
    fn from(why: CutShort) -> Self {
        Self::CutShort(why)
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// What is known of a batch's credential before its first look-up.
struct Identified {
    identity: Identity,
    proof: Proof,
    /// Whether the CRM may name the owner later: it was in trouble, or was not asked.
    may_be_named: bool,
}

impl Identified {
    fn verified(identity: Identity) -> Self {
        Self {
            identity,
            proof: Proof::Verified,
            may_be_named: false,
        }
    }
}

/// A party and the result of its load.
type PartyResult = (Party, LoadResult<Loaded>);

impl BatchRun {
    pub(super) async fn run(self) {
        let stopwatch = Stopwatch::start();
        let worked = tokio::select! {
            worked = self.work() => worked,
            () = self.events.closed() => Err(Stop::Gone),
        };
        let cut_short = match worked {
            Ok(()) => None,
            Err(Stop::CutShort(why)) => Some(why),
            Err(Stop::Gone) => return,
        };
        let ended = PrefetchEvent::Ended {
            crm_requests: self.spent.load(Ordering::Relaxed),
            elapsed: stopwatch.elapsed(),
            cut_short,
        };
        // First the place is given back: the client may start another job at once.
        let events = self.events.clone();
        drop(self);
        // A client that left at the last moment only misses the summary.
        let _ = events.send(ended).await;
    }

    async fn work(&self) -> Result<(), Stop> {
        let identified = tokio::select! {
            identified = self.identify() => identified,
            () = self.grace() => return self.stop_before_start().await,
        };
        let Identified {
            identity,
            proof,
            may_be_named,
        } = match identified {
            Ok(identified) => identified,
            Err(failure) => {
                self.report_start(0).await?;
                return Err(CutShort::Doomed(failure).into());
            }
        };
        let mut plan = self.plan(&identity).await;
        if let Some(result) = self.start(identity, proof, &mut plan).await? {
            self.settle(result).await?;
        }
        let (cached, missing) = plan.into_parts();
        for (party, contacts) in cached {
            self.entry.settle();
            self.report(PrefetchEvent::Cached(party, contacts)).await?;
        }
        if may_be_named && missing.len() >= WORTH_A_CALL {
            self.ask_who_again().await;
        }
        self.ask_for(missing, identity).await
    }

    /// Reports a start without anything stored, since the credential is not verified.
    async fn stop_before_start<T>(&self) -> Result<T, Stop> {
        self.report_start(0).await?;
        Err(CutShort::Stopping.into())
    }

    /// Reports the start, and verifies the credential if it is not verified yet. Returns the result
    /// of the search that verified it, if there was one.
    async fn start(
        &self,
        identity: Identity,
        mut proof: Proof,
        plan: &mut BatchPlan,
    ) -> Result<Option<PartyResult>, Stop> {
        let mut first = None;
        if proof == Proof::ToVerify && plan.cached() > 0 {
            (proof, first) = tokio::select! {
                tried = self.try_credential(identity, plan) => tried,
                () = self.grace() => return self.stop_before_start().await,
            };
        }
        self.report_start(plan.cached()).await?;
        // One call shows whether the CRM accepts the credential, before many are made.
        if proof == Proof::ToVerify
            && let Some(party) = plan.take_first()
        {
            first = tokio::select! {
                result = self.look_up(party, identity, Reuse::Never) => Some(result),
                () = self.grace() => return Err(CutShort::Stopping.into()),
            };
        }
        Ok(first)
    }

    /// The owner of the batch, and whether its credential is verified. Asks the CRM if it is not.
    ///
    /// # Errors
    /// If the CRM asks for a longer pause than a batch waits.
    async fn identify(&self) -> Result<Identified, LookupError> {
        let (resolver, asker) = (&self.resolver, &self.batch.asker);
        let known = resolver.lookup_credential(asker).await;
        if let Some(credential) = known.filter(Credential::is_verified) {
            return Ok(Identified::verified(credential.identity));
        }
        let mut may_be_named = asker.platform().profile().names_users;
        if resolver.may_ask_who(asker) {
            match self.ask_who().await {
                Ok(identity) => return Ok(Identified::verified(identity)),
                Err(failure) if trouble::is_hopeless(&failure) => return Err(failure),
                Err(failure) => may_be_named = failure.is_passing(),
            }
        }
        let identity = known.map(|credential| credential.identity);
        let identity = identity.unwrap_or_else(|| asker.identity_unsaid());
        Ok(Identified {
            identity,
            proof: Proof::ToVerify,
            may_be_named: may_be_named && matches!(identity, Identity::Credential(_)),
        })
    }

    /// Asks once more whose the credential is, if nobody knows it yet. Answers that are stored for
    /// the credential alone are not found any more once the CRM names its owner.
    async fn ask_who_again(&self) {
        let named = async {
            if self.named_owner().is_none() {
                // If the CRM names nobody now, the answers are stored for the credential.
                let _ = clock::timeout(NAMING, self.ask_who()).await;
            }
        };
        tokio::select! {
            () = named => {}
            () = self.grace() => {}
        }
    }

    /// The owner of the credential, if the CRM has named one.
    fn named_owner(&self) -> Option<Identity> {
        let known = self.resolver.known_identity(&self.batch.asker);
        known.filter(Identity::is_known)
    }

    async fn ask_who(&self) -> Result<Identity, LookupError> {
        self.spent.fetch_add(1, Ordering::Relaxed);
        let (asker, span) = (&self.batch.asker, &self.batch.span);
        self.resolver.who(asker, span, Lane::Prefetch, None).await
    }

    /// Reads what is stored, with one round trip for each 500 numbers. Stale answers count as
    /// missing.
    async fn plan(&self, identity: &Identity) -> BatchPlan {
        let Batch { asker, parties, .. } = &self.batch;
        let key = |party: &Party| asker.key(*party).of(identity);
        let keys: Vec<ContactKey> = parties.iter().map(key).collect();
        let cache = &self.resolver.deps.cache;
        let found = cache.lookup_many(asker.user_tag(), &keys).await;
        let contacts = found.into_iter().map(|stored| {
            let fresh = stored.filter(|stored| stored.freshness == Freshness::Fresh)?;
            Some(fresh.entry.count())
        });
        BatchPlan::new(parties, contacts)
    }

    /// Searches once, to verify the credential before stored answers are reported. A batch waits
    /// while the CRM is in trouble, but not before it has reported its start.
    async fn try_credential(
        &self,
        identity: Identity,
        plan: &mut BatchPlan,
    ) -> (Proof, Option<PartyResult>) {
        let Some(party) = plan.take_first() else {
            return (Proof::ToVerify, None);
        };
        let result = self.ask(party, identity, Reuse::Never).await;
        let proof = Proof::shown_by(&result);
        plan.shown(proof, party, &self.batch.parties);
        (proof, (proof != Proof::ToVerify).then_some((party, result)))
    }

    /// Loads what is missing. When the daemon stops, no look-up begins, and running ones get a
    /// moment to end: one may wait in the queue for minutes.
    async fn ask_for(&self, missing: VecDeque<Party>, identity: Identity) -> Result<(), Stop> {
        let stopping = &self.resolver.deps.stopping;
        let mut left = missing.len();
        let feed = stream::iter(missing).take_until(stopping.cancelled());
        let results = feed
            .map(|party| self.look_up(party, identity, Reuse::Fresh))
            .buffer_unordered(self.at_once());
        let mut results = pin!(results.take_until(self.grace()));
        while let Some(result) = results.next().await {
            left -= 1;
            self.settle(result).await?;
        }
        if left > 0 {
            return Err(CutShort::Stopping.into());
        }
        Ok(())
    }

    /// One call can ask for a group of numbers. The group fills only if at least as many look-ups
    /// run at the same time.
    fn at_once(&self) -> usize {
        let group = self.batch.asker.platform().profile().numbers_at_once;
        group.get().clamp(AT_ONCE, MOST_AT_ONCE)
    }

    /// Returns once the daemon has begun to stop and running look-ups have had a moment.
    async fn grace(&self) {
        self.resolver.deps.stopping.cancelled().await;
        clock::sleep(GRACE).await;
    }

    /// Looks one party up, and repeats that while the CRM is in temporary trouble.
    async fn look_up(&self, party: Party, identity: Identity, reuse: Reuse) -> PartyResult {
        let mut tries = Tries::default();
        loop {
            let turn = self.trouble.turn().await;
            let result = self.ask(party, identity, reuse).await;
            let should_repeat = self.trouble.should_repeat(&result, turn, &mut tries);
            if !should_repeat || self.resolver.deps.stopping.is_cancelled() {
                return (party, result);
            }
        }
    }

    /// Loads one party in the prefetch lane. The budget delays the job while the CRM's quota is
    /// paused.
    async fn ask(&self, party: Party, identity: Identity, reuse: Reuse) -> LoadResult<Loaded> {
        loop {
            let request = LoadRequest {
                asker: Arc::clone(&self.batch.asker),
                key: self.batch.asker.key(party),
                identity: Some(self.named_owner().unwrap_or(identity)),
                trigger: Trigger::InitialMatch,
                lane: Lane::Prefetch,
                deadline: None,
                reuse,
                spent: Arc::clone(&self.spent),
                span: self.batch.span.clone(),
            };
            match self.resolver.start(request).wait().await {
                Err(LookupError::Overloaded) if !self.resolver.deps.stopping.is_cancelled() => {
                    clock::sleep(FULL).await;
                }
                result => return result,
            }
        }
    }

    /// Reports a result. Some failures end the job.
    async fn settle(&self, (party, result): PartyResult) -> Result<(), Stop> {
        self.entry.settle();
        let failure = result.as_ref().err();
        let doom = failure
            .filter(|error| error.is_fatal_for_batch() || self.trouble.has_lasted_too_long())
            .cloned();
        let contacts = result.map(|loaded| loaded.entry.count());
        self.report(PrefetchEvent::Loaded(party, contacts)).await?;
        match doom {
            Some(failure) => Err(CutShort::Doomed(failure).into()),
            None => Ok(()),
        }
    }

    async fn report_start(&self, already_cached: usize) -> Result<(), Gone> {
        self.report(PrefetchEvent::Started { already_cached }).await
    }

    async fn report(&self, event: PrefetchEvent) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}
