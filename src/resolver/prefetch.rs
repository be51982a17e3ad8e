//! The first-run batch: many numbers behind live calls.
//!
//! Fresh answers are found first, in one round trip for each 500. The rest goes in the order given,
//! most recent calls first, a bounded number at a time, each through the same flights as a ringing
//! call but in the prefetch lane. An error of one number is a result; one that dooms all of them
//! ends the job. A CRM in trouble is waited for, but not for long ([`trouble`]).

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
use super::load_task::Loaded;
use super::trouble::{self, Tries, Trouble};
use super::{LoadRequest, Question, Resolver};
use crate::admission::Credential;
use crate::clock::{self, Stopwatch};
use crate::domain::{ContactKey, Entry, Freshness, Identity, Lane, LookupError, Party};
use crate::flight::LoadResult;
use crate::metrics::PlatformLabels;
use crate::share::Share;

/// Look-ups of one job under way at once: enough to use up any CRM's quota at its usual latency.
const AT_ONCE: usize = 32;

/// How long a number waits if its scope or its CRM has as many loads under way as may be.
const FULL: Duration = Duration::from_secs(1);

/// Results that may wait for a slow client before the job waits too.
const BACKLOG: usize = 64;

/// What look-ups under way may still take when the daemon stops.
const GRACE: Duration = Duration::from_secs(3);

/// One job, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Everything but the party, which is the first one's.
    pub(crate) question: Question,
    /// Whom to look up, each once, most recent first.
    pub(crate) parties: Vec<Party>,
}

/// A job under way. Dropping it ends the job: what is being asked ends, what stands in line is
/// given up.
#[derive(Debug)]
pub(crate) struct Job {
    /// How many of the parties have a fresh answer already.
    pub(crate) already_cached: usize,
    /// What happens.
    pub(crate) progress: mpsc::Receiver<Progress>,
}

/// One event of a job.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
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
pub(crate) enum CutShort {
    /// A failure that every further number would meet too: for good, or because the CRM's trouble
    /// lasts.
    Doomed(LookupError),
    /// The daemon is stopping.
    Stopping,
}

impl Resolver {
    /// Starts a job. Unless the credential is proven, the CRM is asked first who it is; if it does
    /// not say, one search proves the credential: not even how many answers are stored is told
    /// before.
    ///
    /// # Errors
    /// [`LookupError::Overloaded`] if the user, or the CRM's users together, have as many jobs
    /// under way as they may.
    pub(crate) async fn prefetch(&self, batch: Batch) -> Result<Job, LookupError> {
        let place = self.job_place(self.asked(&batch.question))?;
        let spent = Arc::<AtomicU32>::default();
        let (identity, mut proof) = self.identify(&batch.question, &spent).await;
        let mut known: Vec<Known> = batch.parties.iter().map(|party| (*party, None)).collect();
        let keys: Vec<ContactKey> = batch
            .parties
            .iter()
            .map(|party| self.key(&batch.question, *party, &identity))
            .collect();
        if let Some(key) = keys.first() {
            let stored = self.rooms.cache.lookup_many(key.user(), &keys).await;
            for ((_, known), stored) in known.iter_mut().zip(stored) {
                // What is stale is looked up like what is missing.
                *known = stored
                    .filter(|stored| stored.freshness == Freshness::Fresh)
                    .map(|stored| stored.entry);
            }
        }
        let (events, progress) = mpsc::channel(BACKLOG);
        let entered = self
            .jobs
            .enter(batch.question.platform.name(), batch.parties.len());
        let trouble = Trouble::none_yet();
        let run = Run {
            resolver: self.clone(),
            batch,
            identity,
            events,
            entered,
            spent,
            trouble,
            _place: place,
        };
        match proof {
            Proof::Wanted if known.iter().any(|(_, stored)| stored.is_some()) => {
                let party = first_to_ask(&mut known);
                let landing = run.ask(party, true).await;
                forget_unless_proven(&mut known, &landing);
                // The job waits out trouble; its start does not.
                if landing.as_ref().is_err_and(trouble::is_trouble) {
                    known.insert(0, (party, None));
                } else {
                    proof = Proof::Asked((party, landing));
                }
            }
            Proof::Hopeless(_) => known.iter_mut().for_each(|(_, stored)| *stored = None),
            Proof::Wanted | Proof::Given | Proof::Asked(_) => {}
        }
        let already_cached = known.iter().filter(|(_, stored)| stored.is_some()).count();
        self.rooms.tasks.spawn(run.run(known, proof));
        Ok(Job {
            already_cached,
            progress,
        })
    }

    /// Whose the batch is, and how its credential is proven.
    async fn identify(&self, question: &Question, spent: &Arc<AtomicU32>) -> (Identity, Proof) {
        let asked = self.asked(question);
        let known = self.rooms.admissions.lookup(asked.user(), asked.auth).await;
        if let Some(credential) = known.filter(Credential::is_proven) {
            return (credential.identity, Proof::Given);
        }
        let mut proof = Proof::Wanted;
        if self.may_ask_who(asked) {
            spent.fetch_add(1, Ordering::Relaxed);
            match self.who(asked, Lane::Prefetch, None).await {
                Ok(identity) => return (identity, Proof::Given),
                Err(failure) if trouble::is_hopeless(&failure) => proof = Proof::Hopeless(failure),
                Err(_) => {}
            }
        }
        (
            known.map_or_else(|| Self::unsaid(asked), |credential| credential.identity),
            proof,
        )
    }

    fn key(&self, question: &Question, party: Party, identity: &Identity) -> ContactKey {
        let crm = question.platform.crm();
        self.rooms
            .keys
            .question(&crm, &question.user, party, &question.formats)
            .of(identity)
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
    trouble: Trouble,
    _place: Share,
}

/// A party and what is stored about it.
type Known = (Party, Option<Arc<Entry>>);

/// A party and what came of asking for it.
type Asked = (Party, LoadResult<Loaded>);

/// How the credential of a job is proven.
enum Proof {
    /// It is.
    Given,
    /// One search was made for it.
    Asked(Asked),
    /// One search has to be made before anything else.
    Wanted,
    /// The CRM asks to be left alone for longer than a job waits.
    Hopeless(LookupError),
}

impl Run {
    async fn run(self, known: Vec<Known>, proof: Proof) {
        let labels = PlatformLabels {
            platform: self.batch.question.platform.name().to_owned(),
        };
        let _running = Running::start(
            self.resolver
                .rooms
                .metrics
                .prefetch_jobs
                .get_or_create_owned(&labels),
        );
        let stopwatch = Stopwatch::start();
        let worked = tokio::select! {
            worked = self.work(known, proof) => worked,
            () = self.events.closed() => Err(Gone),
        };
        if let Ok(cut_short) = worked {
            let crm_requests = self.spent.load(Ordering::Relaxed);
            // A client that left in the last moment misses the summary only.
            let _ = self
                .tell(Progress::Ended {
                    crm_requests,
                    elapsed: stopwatch.elapsed(),
                    cut_short,
                })
                .await;
        }
    }

    async fn work(&self, mut known: Vec<Known>, proof: Proof) -> Result<Option<CutShort>, Gone> {
        let proof = match proof {
            Proof::Hopeless(failure) => return Ok(Some(CutShort::Doomed(failure))),
            // One call shows whether the CRM takes the credential at all, before many are made.
            Proof::Wanted if !known.is_empty() => {
                let party = first_to_ask(&mut known);
                let asked = tokio::select! {
                    asked = self.look_up(party, true) => asked,
                    () = self.grace() => return Ok(Some(CutShort::Stopping)),
                };
                forget_unless_proven(&mut known, &asked.1);
                Some(asked)
            }
            Proof::Asked(asked) => Some(asked),
            Proof::Given | Proof::Wanted => None,
        };
        if let Some(asked) = proof
            && let Some(doom) = self.settle(asked).await?
        {
            return Ok(Some(doom));
        }
        let (stored, missing): (Vec<Known>, Vec<Known>) =
            known.into_iter().partition(|(_, stored)| stored.is_some());
        for (party, entry) in stored {
            self.entered.settle();
            self.tell(Progress::Cached(
                party,
                entry.map_or(0, |entry| entry.count()),
            ))
            .await?;
        }
        self.ask_for(missing.into_iter().map(|(party, _)| party).collect())
            .await
    }

    /// Asks for what is missing. When the daemon stops nothing new begins, and what is under way
    /// has a moment to end: it may stand in line for minutes.
    async fn ask_for(&self, missing: Vec<Party>) -> Result<Option<CutShort>, Gone> {
        let stopping = &self.resolver.rooms.stopping;
        let mut left = missing.len();
        let feed = stream::iter(missing).take_until(stopping.cancelled());
        let results = feed
            .map(|party| self.look_up(party, false))
            .buffer_unordered(AT_ONCE);
        let mut results = pin!(results.take_until(self.grace()));
        while let Some(result) = results.next().await {
            left -= 1;
            if let Some(doom) = self.settle(result).await? {
                return Ok(Some(doom));
            }
        }
        Ok((left > 0).then_some(CutShort::Stopping))
    }

    /// Ends when the daemon stops and what is under way has had a moment.
    async fn grace(&self) {
        self.resolver.rooms.stopping.cancelled().await;
        clock::sleep(GRACE).await;
    }

    /// Looks one party up, again and again as long as the CRM is in trouble that may pass.
    async fn look_up(&self, party: Party, must_ask: bool) -> Asked {
        let mut tries = Tries::default();
        loop {
            let turn = self.trouble.turn().await;
            let landing = self.ask(party, must_ask).await;
            let is_waited_out = self.trouble.is_waited_out(&landing, turn, &mut tries);
            if !is_waited_out || self.resolver.rooms.stopping.is_cancelled() {
                return (party, landing);
            }
        }
    }

    /// Asks for one party in the prefetch lane. The budget holds the job back as long as the CRM
    /// rests.
    async fn ask(&self, party: Party, must_ask: bool) -> LoadResult<Loaded> {
        let question = Question {
            party,
            ..self.batch.question.clone()
        };
        let asked = self.resolver.asked(&question);
        loop {
            let trip = LoadRequest {
                lane: Lane::Prefetch,
                deadline: None,
                must_ask,
                spent: Arc::clone(&self.spent),
                ..self.resolver.trip(asked, Whose::Settled(self.identity))
            };
            match self.resolver.board(asked, trip).wait().await {
                Err(LookupError::Overloaded) if !self.resolver.rooms.stopping.is_cancelled() => {
                    clock::sleep(FULL).await;
                }
                landing => return landing,
            }
        }
    }

    /// Tells a result; some failures doom the job.
    async fn settle(&self, (party, landing): Asked) -> Result<Option<CutShort>, Gone> {
        self.entered.settle();
        let doom = landing
            .as_ref()
            .err()
            .filter(|error| error.is_fatal_for_batch() || self.trouble.lasts())
            .cloned();
        self.tell(Progress::Loaded(
            party,
            landing.map(|loaded| loaded.entry.count()),
        ))
        .await?;
        Ok(doom.map(CutShort::Doomed))
    }

    async fn tell(&self, event: Progress) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}

/// Takes out the party that lets a credential prove itself: one that has to be asked for anyway if
/// there is one.
fn first_to_ask(known: &mut Vec<Known>) -> Party {
    let first = known
        .iter()
        .position(|(_, stored)| stored.is_none())
        .unwrap_or(0);
    known.remove(first).0
}

/// To a credential that has not proved itself whatever is stored is as good as unknown.
fn forget_unless_proven(known: &mut [Known], proof: &LoadResult<Loaded>) {
    if proof.is_err() {
        for (_, stored) in known {
            *stored = None;
        }
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
