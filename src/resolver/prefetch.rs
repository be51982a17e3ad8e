//! The first-run batch: many numbers behind live calls.
//!
//! Fresh answers are found first, in one round trip for each 500. The rest goes in the order given, most recent calls
//! first, a bounded number at a time, each through the same flights as a ringing call but in the prefetch lane. An
//! error of one number is a result; one that dooms all of them ends the job.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

use super::identity::Whose;
use super::jobs::Entered;
use super::load::Loaded;
use super::{Question, Resolver, Trip};
use crate::admission::Credential;
use crate::clock::{self, Stopwatch};
use crate::domain::{ContactKey, Entry, Freshness, Identity, Lane, LookupError, Party};
use crate::flight::Landing;
use crate::metrics::PlatformLabels;

/// Look-ups of one job under way at once: enough to use up any CRM's quota at its usual latency.
const AT_ONCE: usize = 32;

/// Look-ups of all jobs together under way at once, at most. Half of the loads are left to calls in any case.
pub(super) const ALL_AT_ONCE: usize = 256;

/// How long a number waits where as many loads are under way as may be.
const FULL: Duration = Duration::from_secs(1);

/// How often a number is tried that the CRM refuses for its rate.
const TRIES: u32 = 3;

/// Results that may wait for a slow client before the job waits too.
const BACKLOG: usize = 64;

/// What look-ups under way may still take when the daemon stops.
const GRACE: Duration = Duration::from_secs(3);

/// One job, parsed.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Everything but the party, which is the first one's.
    pub question: Question,
    /// Whom to look up, each once, most recent first.
    pub parties: Vec<Party>,
}

/// A job under way. Dropping it ends the job: what is being asked ends, what stands in line is given up.
#[derive(Debug)]
pub struct Job {
    /// How many of the parties have a fresh answer already.
    pub already_cached: usize,
    /// What happens.
    pub progress: mpsc::Receiver<Progress>,
}

/// One event of a job.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A stored answer is fresh.
    Cached(Party, u32),
    /// The CRM was asked.
    Loaded(Party, Result<u32, LookupError>),
    /// The job is done, or was stopped; the last event.
    Ended {
        /// HTTP calls to the CRM made for this job.
        crm_requests: u32,
        /// How long it took.
        elapsed: Duration,
        /// Why it ended before all was done.
        cut_short: Option<CutShort>,
    },
}

/// Why a job ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CutShort {
    /// A failure that every further number would meet too.
    Doomed(LookupError),
    /// The daemon is stopping.
    Stopping,
}

impl Resolver {
    /// Starts a job. Unless the credential is proven, the CRM is asked first who it is; if it does not say, one search
    /// proves the credential: not even how many answers are stored is told before.
    pub async fn prefetch(&self, batch: Batch) -> Job {
        let spent = Arc::<AtomicU32>::default();
        let (identity, mut proven) = self.identify(&batch.question, &spent).await;
        let mut known: Vec<Known> = batch.parties.iter().map(|party| (*party, None)).collect();
        let keys: Vec<ContactKey> =
            batch.parties.iter().map(|party| self.key(&batch.question, *party, &identity)).collect();
        if let Some(key) = keys.first() {
            let stored = self.rooms.cache.lookup_many(key.user(), &keys).await;
            for ((_, known), stored) in known.iter_mut().zip(stored) {
                // What is stale is looked up like what is missing.
                *known = stored.filter(|stored| stored.freshness == Freshness::Fresh).map(|stored| stored.entry);
            }
        }
        let (events, progress) = mpsc::channel(BACKLOG);
        let entered = self.jobs.enter(batch.question.platform.name(), batch.parties.len());
        let run = Run { resolver: self.clone(), batch, identity, events, entered, spent };
        let mut proof = None;
        if !proven && known.iter().any(|(_, stored)| stored.is_some()) {
            proof = Some(run.prove(&mut known).await);
            proven = true;
        }
        let already_cached = known.iter().filter(|(_, stored)| stored.is_some()).count();
        self.rooms.tasks.spawn(run.run(known, !proven, proof));
        Job { already_cached, progress }
    }

    /// Whose the batch is, and whether its credential is proven.
    async fn identify(&self, question: &Question, spent: &Arc<AtomicU32>) -> (Identity, bool) {
        let asked = self.asked(question);
        let known = self.rooms.admissions.lookup(asked.user(), asked.auth).await;
        if let Some(credential) = known.filter(Credential::is_proven) {
            return (credential.identity, true);
        }
        if self.may_ask_who(asked) {
            spent.fetch_add(1, Ordering::Relaxed);
            if let Ok(identity) = self.who(asked, Lane::Prefetch, None).await {
                return (identity, true);
            }
        }
        (known.map_or_else(|| Self::unsaid(asked), |credential| credential.identity), false)
    }

    fn key(&self, question: &Question, party: Party, identity: &Identity) -> ContactKey {
        let crm = question.platform.crm();
        self.rooms.keys.question(&crm, &question.user, party, &question.formats).of(identity)
    }
}

/// Why the client hears no more.
struct Gone;

struct Run {
    resolver: Resolver,
    batch: Batch,
    identity: Identity,
    events: mpsc::Sender<Progress>,
    entered: Entered,
    /// HTTP calls made for this job.
    spent: Arc<AtomicU32>,
}

/// A party and what is stored about it.
type Known = (Party, Option<Arc<Entry>>);

/// A party and what came of asking for it.
type Asked = (Party, Landing<Loaded>);

impl Run {
    async fn run(self, known: Vec<Known>, unproven: bool, proof: Option<Asked>) {
        let labels = PlatformLabels { platform: self.batch.question.platform.name().to_owned() };
        let _running = Running::start(self.resolver.rooms.metrics.prefetch_jobs.get_or_create_owned(&labels));
        let stopwatch = Stopwatch::start();
        let worked = tokio::select! {
            worked = self.work(known, unproven, proof) => worked,
            () = self.events.closed() => Err(Gone),
        };
        if let Ok(cut_short) = worked {
            let crm_requests = self.spent.load(Ordering::Relaxed);
            // A client that left in the last moment misses the summary only.
            let _ = self.tell(Progress::Ended { crm_requests, elapsed: stopwatch.elapsed(), cut_short }).await;
        }
    }

    async fn work(
        &self,
        mut known: Vec<Known>,
        unproven: bool,
        mut proof: Option<Asked>,
    ) -> Result<Option<CutShort>, Gone> {
        // One call shows whether the CRM takes the credential at all, before many are made.
        if unproven && !known.is_empty() {
            proof = Some(self.prove(&mut known).await);
        }
        if let Some(asked) = proof
            && let Some(doom) = self.settle(asked).await?
        {
            return Ok(Some(doom));
        }
        let (stored, missing): (Vec<Known>, Vec<Known>) = known.into_iter().partition(|(_, stored)| stored.is_some());
        for (party, entry) in stored {
            self.entered.settle();
            self.tell(Progress::Cached(party, entry.map_or(0, |entry| entry.count()))).await?;
        }
        self.ask_for(missing.into_iter().map(|(party, _)| party).collect()).await
    }

    /// Asks for what is missing. When the daemon stops nothing new begins, and what is under way has a moment to end:
    /// it may stand in line for minutes.
    async fn ask_for(&self, missing: Vec<Party>) -> Result<Option<CutShort>, Gone> {
        let stopping = &self.resolver.rooms.stopping;
        let mut left = missing.len();
        let grace = async {
            stopping.cancelled().await;
            clock::pause(GRACE).await;
        };
        let feed = stream::iter(missing).take_until(stopping.cancelled());
        let results = feed.map(|party| self.look_up(party, false)).buffer_unordered(AT_ONCE);
        let mut results = pin!(results.take_until(grace));
        while let Some(result) = results.next().await {
            left -= 1;
            if let Some(doom) = self.settle(result).await? {
                return Ok(Some(doom));
            }
        }
        Ok((left > 0).then_some(CutShort::Stopping))
    }

    /// Lets a credential prove itself by one party, by one that has to be asked for anyway if there is one. Where it
    /// does not, whatever is stored is as good as unknown.
    async fn prove(&self, known: &mut Vec<Known>) -> Asked {
        let first = known.iter().position(|(_, stored)| stored.is_none()).unwrap_or(0);
        let (party, _) = known.remove(first);
        let (asked_party, landing) = self.look_up(party, true).await;
        if landing.is_err() {
            for (_, stored) in known.iter_mut() {
                *stored = None;
            }
        }
        (asked_party, landing)
    }

    /// Looks one party up in the prefetch lane. A CRM that limits the rate is asked again: the budget holds the job
    /// back until the CRM's pause is over.
    async fn look_up(&self, party: Party, must_ask: bool) -> Asked {
        let question = Question { party, ..self.batch.question.clone() };
        let asked = self.resolver.asked(&question);
        // Fails only where the turns are taken away, which nobody does.
        let _turn = self.resolver.turns.acquire().await;
        let mut tries = 0;
        loop {
            let trip = Trip {
                lane: Lane::Prefetch,
                deadline: None,
                must_ask,
                spent: Arc::clone(&self.spent),
                ..self.resolver.trip(asked, Whose::Settled(self.identity))
            };
            match self.resolver.board(asked, trip).wait().await {
                Err(LookupError::Overloaded) if !self.resolver.rooms.stopping.is_cancelled() => {
                    clock::pause(FULL).await;
                }
                Err(LookupError::CrmRateLimited { .. }) if tries + 1 < TRIES => tries += 1,
                landing => return (party, landing),
            }
        }
    }

    /// Tells a result; some failures doom the job.
    async fn settle(&self, (party, landing): Asked) -> Result<Option<CutShort>, Gone> {
        self.entered.settle();
        let doom = landing.as_ref().err().filter(|error| error.dooms_all()).cloned();
        self.tell(Progress::Loaded(party, landing.map(|loaded| loaded.entry.count()))).await?;
        Ok(doom.map(CutShort::Doomed))
    }

    async fn tell(&self, event: Progress) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}

/// Counts a job while it runs.
struct Running(Gauge);

impl Running {
    fn start(jobs: Gauge) -> Self {
        jobs.inc();
        Self(jobs)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
