//! The one place that knows the order of things.
//!
//! [`Resolver::find`] is the walk of every look-up. A stored answer is served under a credential that the CRM has
//! accepted for this user a short time ago: fresh as it is, stale with a refresh behind it. Another credential proves
//! itself first. Where nothing is stored one load per key asks the CRM, and all callers wait for it. A manual refresh goes to the CRM in any case, and only its success changes what is
//! stored.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admissions, Standing as Trust};
use crate::cache::{Stored, TieredCache};
use crate::clock::{self, Clock};
use crate::connector::Platform;
pub use crate::domain::Source;
use crate::domain::error::Unavailable;
use crate::domain::{
    AuthHeader, AuthTag, ContactKey, Entry, Extension, Freshness, KeyMaker, Lane, LookupError, NumberFormat, Party,
    User,
};
use crate::flight::{FlightKey, Flights, Loaded, Seat};
use crate::lease::Leases;
use crate::metrics::{Metrics, PlatformLabels};
use crate::trace::Span;

mod forget;
mod jobs;
mod load;
mod prefetch;
mod revalidate;

pub use forget::Forgotten;
pub use jobs::Standing;
pub use prefetch::{Batch, CutShort, Job, Progress};

/// What a caller is told whose look-up took longer than `lookup.timeout`.
const TOO_LONG: LookupError = LookupError::CrmUnavailable(Unavailable::Timeout);

/// Settings of the walk.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Time for one load, all its CRM calls included.
    pub timeout: Duration,
    /// How long a manual refresh waits for the CRM before the stored answer is served instead, labelled stale.
    pub soft_deadline: Duration,
    /// Loads under way at once, those included whose callers have left. More are refused.
    pub max_loads: usize,
}

/// Why a look-up is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The phone rings.
    IncomingCall,
    /// A person asked for it.
    ManualRefresh,
    /// The first match of recent calls.
    InitialMatch,
}

impl Trigger {
    /// The metrics' label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::IncomingCall => "incoming_call",
            Self::ManualRefresh => "manual_refresh",
            Self::InitialMatch => "initial_match",
        }
    }

    fn lane(self) -> Lane {
        match self {
            Self::IncomingCall | Self::ManualRefresh => Lane::CallPop,
            Self::InitialMatch => Lane::Prefetch,
        }
    }
}

/// One look-up, parsed.
#[derive(Debug, Clone)]
pub struct Question {
    /// Which CRM.
    pub platform: Arc<Platform>,
    /// On whose behalf.
    pub user: User,
    /// Under which credential.
    pub auth: AuthHeader,
    /// About whom.
    pub party: Party,
    /// The extension of the number that was asked for: it ranks the contacts of a reply, and is no part of the key.
    pub extension: Option<Extension>,
    /// The user's ways of writing numbers.
    pub formats: Vec<NumberFormat>,
    /// Why.
    pub trigger: Trigger,
    /// Make no CRM call.
    pub only_if_cached: bool,
    /// When the caller gives up waiting.
    pub deadline: Option<Instant>,
    /// The request's span, where it is traced.
    pub span: Span,
}

/// The answer to a question, with what is known about it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What was found.
    pub entry: Arc<Entry>,
    /// Where it came from.
    pub source: Source,
    /// Never `Expired`.
    pub freshness: Freshness,
    /// Time since the CRM was asked.
    pub age: Duration,
    /// Another caller led the load.
    pub shared: bool,
    /// HTTP calls to the CRM made for this answer.
    pub crm_requests: u32,
}

impl From<Stored> for Answer {
    fn from(stored: Stored) -> Self {
        let Stored { entry, freshness, age, source } = stored;
        Self { entry, source, freshness, age, shared: false, crm_requests: 0 }
    }
}

/// The rooms that a resolver knows.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Names of things.
    pub keys: KeyMaker,
    /// Stored answers.
    pub cache: TieredCache,
    /// Credentials that have proved themselves.
    pub admissions: Admissions,
    /// One load per key among replicas; none without Redis.
    pub leases: Option<Leases>,
    /// What loads belong to.
    pub tasks: TaskTracker,
    /// Ends when the daemon begins to stop.
    pub stopping: CancellationToken,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Answers questions. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Resolver {
    config: Config,
    rooms: Arc<Rooms>,
    flights: Flights,
    refreshing: Arc<revalidate::Cap>,
    jobs: jobs::Jobs,
    /// Turns of prefetch jobs, so that all of them together leave loads to calls.
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver over `rooms`.
    #[must_use]
    pub fn new(config: Config, rooms: Rooms) -> Self {
        let flights = Flights::new(config.max_loads, rooms.tasks.clone());
        let turns = Arc::new(Semaphore::new((config.max_loads / 2).clamp(1, prefetch::ALL_AT_ONCE)));
        let jobs = jobs::Jobs::default();
        Self { config, rooms: Arc::new(rooms), flights, refreshing: Arc::default(), jobs, turns }
    }

    /// Answers one question.
    ///
    /// Dropping the future drops only the waiting: a load that has begun goes on and its answer is stored.
    ///
    /// # Errors
    /// [`LookupError::NotCached`] where only a stored answer was wanted, else what the CRM's failure is.
    pub async fn find(&self, question: &Question) -> Result<Answer, LookupError> {
        let key = self.key(question);
        if question.trigger == Trigger::ManualRefresh {
            return self.refresh(question, key).await;
        }
        // Together, so that Redis is waited for once where both ask it.
        let (stored, trust) = tokio::join!(self.rooms.cache.lookup(&key), self.trust(question, &key));
        match stored {
            Some(stored) if trust == Trust::Proven => {
                if stored.freshness == Freshness::Stale && !question.only_if_cached {
                    self.revalidate(question, key);
                }
                Ok(stored.into())
            }
            _ if question.only_if_cached => Err(LookupError::NotCached),
            Some(stored) if trust == Trust::Lapsed => self.renew(question, key, stored).await,
            Some(stored) => self.prove(question, key, stored).await,
            None => self.wait_for(self.board(question, key, false), question).await,
        }
    }

    /// Asks the CRM, whatever is stored. Where it takes long and an answer is stored, that one is better than none;
    /// the refresh goes on behind it.
    async fn refresh(&self, question: &Question, key: ContactKey) -> Result<Answer, LookupError> {
        let seat = self.board(question, key, true);
        let fresh = self.wait_for(seat, question);
        tokio::pin!(fresh);
        if let Some(answer) = clock::within(self.patience(question), &mut fresh).await {
            return answer;
        }
        match tokio::join!(self.rooms.cache.lookup(&key), self.is_admitted(question, &key)) {
            (Some(stored), true) => Ok(Answer { freshness: Freshness::Stale, ..stored.into() }),
            _ => fresh.await,
        }
    }

    /// How long an answer of the CRM is waited for where a stored one is good enough. Less than half of what the caller
    /// waits, so that there is time for the stored one.
    fn patience(&self, question: &Question) -> Duration {
        let soft = self.config.soft_deadline;
        question.deadline.map_or(soft, |deadline| soft.min(deadline.saturating_duration_since(clock::instant()) / 2))
    }

    /// As [`Resolver::prove`], for a credential that has proved itself some time ago: where the CRM cannot say, or takes
    /// long, the stored answer is served, labelled stale.
    async fn renew(&self, question: &Question, key: ContactKey, stored: Stored) -> Result<Answer, LookupError> {
        let stale = Answer { freshness: Freshness::Stale, ..stored.clone().into() };
        match clock::within(self.patience(question), self.prove(question, key, stored)).await {
            None => Ok(stale),
            Some(Err(error)) if error.is_passing() => Ok(stale),
            Some(answer) => answer,
        }
    }

    /// Lets a credential prove itself by one real call: the first question under it is asked of the CRM, the others
    /// wait for that and are then served what is `stored`. So a rotated token costs one call, not a cold cache.
    async fn prove(&self, question: &Question, key: ContactKey, stored: Stored) -> Result<Answer, LookupError> {
        let seat = self.board_as(key.proof(), question, key, true);
        if !seat.joined() {
            return self.wait_for(seat, question).await;
        }
        match seat.wait().await {
            Err(error) if error.dooms_all() => return Err(error),
            // Any other failure was one of its number.
            _ => {}
        }
        if self.is_admitted(question, &key).await {
            return Ok(stored.into());
        }
        self.wait_for(self.board(question, key, true), question).await
    }

    /// Entries and bytes of the memory tier.
    #[must_use]
    pub fn memory_size(&self) -> (u64, u64) {
        self.rooms.cache.memory_size()
    }

    /// How far the prefetch jobs under way are, the oldest first.
    #[must_use]
    pub fn jobs(&self) -> Vec<Standing> {
        self.jobs.standings()
    }

    async fn trust(&self, question: &Question, key: &ContactKey) -> Trust {
        self.rooms.admissions.standing(key.user(), self.auth_tag(question)).await
    }

    async fn is_admitted(&self, question: &Question, key: &ContactKey) -> bool {
        self.trust(question, key).await == Trust::Proven
    }

    async fn wait_for(&self, seat: Seat, question: &Question) -> Result<Answer, LookupError> {
        let shared = seat.joined();
        if shared {
            let labels = PlatformLabels { platform: question.platform.name().to_owned() };
            self.rooms.metrics.lookups_shared.get_or_create(&labels).inc();
        }
        // A caller without a deadline of its own does not wait for a load that stands in line for minutes.
        let loaded = match question.deadline {
            Some(_) => seat.wait().await,
            None => clock::within(self.config.timeout, seat.wait()).await.unwrap_or(Err(TOO_LONG)),
        }?;
        let age = self.rooms.clock.now().since(loaded.entry.asked_at());
        let Loaded { entry, source, crm_requests } = loaded;
        Ok(Answer { entry, source, freshness: Freshness::Fresh, age, shared, crm_requests })
    }

    fn key(&self, question: &Question) -> ContactKey {
        let platform = &question.platform;
        let settings = platform.connector().settings();
        self.rooms.keys.contact(platform.name(), &question.user, question.party, &question.formats, settings)
    }

    fn auth_tag(&self, question: &Question) -> AuthTag {
        self.rooms.keys.auth(&question.auth, question.user.host.as_ref())
    }

    /// A seat on the load of this question for a caller that waits: it is told in time that the quota has no room.
    /// `must_ask` asks the CRM whatever is stored.
    fn board(&self, question: &Question, key: ContactKey, must_ask: bool) -> Seat {
        self.board_as(key, question, key, must_ask)
    }

    /// The same under another name on the board.
    fn board_as(&self, name: ContactKey, question: &Question, key: ContactKey, must_ask: bool) -> Seat {
        let lane = question.trigger.lane();
        let deadline = question.deadline.or_else(|| clock::after(self.config.timeout));
        self.seat(name, question, Trip { key, lane, deadline, must_ask, spent: Arc::default() })
    }

    /// A seat for work behind the scenes, which waits for its turn in the quota however long that takes.
    fn send(&self, question: &Question, key: ContactKey, lane: Lane, must_ask: bool, spent: &Arc<AtomicU32>) -> Seat {
        self.seat(key, question, Trip { key, lane, deadline: None, must_ask, spent: Arc::clone(spent) })
    }

    fn seat(&self, name: ContactKey, question: &Question, trip: Trip) -> Seat {
        let Trip { key, lane, deadline, must_ask, spent } = trip;
        let since = self.rooms.cache.forgotten_at(&key);
        let flight = FlightKey { contact: name, auth: self.auth_tag(question), must_ask, since };
        let begin = || question.span.step("load");
        let seat = self.flights.join_or_lead(flight, lane, deadline, begin, |span, urgency| {
            let (resolver, question) = (self.clone(), question.clone());
            load::Load { resolver, question, key, must_ask, urgency, spent, span }.run()
        });
        if seat.joined() {
            question.span.link(seat.span());
        }
        seat
    }
}

/// What a load is made for.
struct Trip {
    key: ContactKey,
    lane: Lane,
    deadline: Option<Instant>,
    must_ask: bool,
    spent: Arc<AtomicU32>,
}
