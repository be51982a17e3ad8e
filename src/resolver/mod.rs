//! The one place that knows the order of things.
//!
//! [`Resolver::find`] is the walk of every look-up. A stored answer is served under a credential
//! that the CRM has accepted a short time ago, to the identity that the CRM says the credential is:
//! fresh as it is, stale with a refresh behind it. An unknown credential is asked about first
//! ([`identity`]). Where nothing is stored one load per question asks the CRM, and all callers wait
//! for it ([`load`]). A manual refresh goes to the CRM in any case, and only its success changes
//! what is stored.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admissions, Credential};
use crate::cache::{Stored, TieredCache};
use crate::clock::{self, Clock};
pub(crate) use crate::domain::Source;
use crate::domain::error::Unavailable;
use crate::domain::{
    AuthTag, Freshness, Identity, KeyMaker, Lane, LookupError, QuestionKey, ScopeTag, UserTag,
};
use crate::flight::{Flights, Join, Seat};
use crate::lease::Leases;
use crate::metrics::{Metrics, PlatformLabels};
use crate::urgency::Asker;

mod answering;
mod forget;
mod identity;
mod jobs;
mod load;
mod load_task;
mod places;
mod prefetch;
mod question;
mod revalidate;
mod revoke;
mod trouble;

pub(crate) use forget::Forgotten;
use identity::{Known, Whose};
pub(crate) use jobs::Standing;
use load_task::{Load, LoadKey, Loaded};
use places::Places;
pub(crate) use prefetch::{Batch, CutShort, Job, Progress};
pub(crate) use question::{Answer, Question, Trigger};

/// What a caller is told whose look-up took longer than `lookup.timeout`.
const TOO_LONG: LookupError = LookupError::CrmUnavailable(Unavailable::Timeout);

/// Settings of the walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    /// Time for one load, all its CRM calls included.
    pub timeout: Duration,
    /// How long a manual refresh waits for the CRM before the stored answer is served instead,
    /// labelled stale; also when a call to the CRM that has no reply yet counts as out of reach.
    pub(crate) soft_deadline: Duration,
    /// How long a ringing phone waits for the details of contacts that are found already.
    pub(crate) details_timeout: Duration,
    /// Loads under way at once, those included whose callers have left. More are refused.
    pub(crate) max_loads: usize,
    /// Batches under way at once.
    pub(crate) max_jobs: usize,
}

/// A question with the hashes that name it.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    question: &'a Question,
    key: QuestionKey,
    auth: AuthTag,
}

impl Asked<'_> {
    fn user(&self) -> UserTag {
        self.key.user()
    }

    /// Whose quota its calls spend, as far as it is known whose the credential is.
    fn scope(&self, identity: Option<&Identity>) -> ScopeTag {
        self.question
            .platform
            .scope(&self.question.user, self.auth, identity)
    }
}

/// Longest time that a ringing phone waits for the CRM if the stored answer is a stale "nobody".
const NEWS: Duration = Duration::from_millis(800);

/// The rooms that a resolver knows.
#[derive(Debug, Clone)]
pub(crate) struct Deps {
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Names of things.
    pub(crate) keys: KeyMaker,
    /// Stored answers.
    pub(crate) cache: TieredCache,
    /// Credentials that have proved themselves.
    pub(crate) admissions: Admissions,
    /// One load per key among replicas; none without Redis.
    pub(crate) leases: Option<Leases>,
    /// What loads belong to.
    pub(crate) tasks: TaskTracker,
    /// Where they run, with all that they have to do with CRMs.
    pub(crate) runtime: Handle,
    /// Ends when the daemon begins to stop.
    pub(crate) stopping: CancellationToken,
    /// Counts.
    pub(crate) metrics: Arc<Metrics>,
}

/// Answers questions. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Resolver {
    config: Config,
    rooms: Arc<Deps>,
    loads: Flights<LoadKey, Loaded>,
    /// Who a credential is: one question at a time for each.
    whoami: Flights<AuthTag, Known>,
    places: Places,
    refreshing: Arc<revalidate::Cap<QuestionKey>>,
    renewing: Arc<revalidate::Cap<(UserTag, AuthTag)>>,
    /// Revocations that the other replicas have not heard of yet.
    revoking: Arc<revalidate::Cap<AuthTag, ()>>,
    jobs: jobs::Jobs,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver over `rooms`.
    #[must_use]
    pub(crate) fn new(config: Config, rooms: Deps) -> Self {
        let (loads, whoami) = {
            let (tasks, runtime) = (&rooms.tasks, &rooms.runtime);
            (
                Flights::new(tasks.clone(), runtime.clone()),
                Flights::new(tasks.clone(), runtime.clone()),
            )
        };
        let refreshing = Arc::new(revalidate::Cap::new(revalidate::OF_A_SCOPE));
        let renewing = Arc::new(revalidate::Cap::new(revalidate::OF_A_SCOPE));
        let revoking = Arc::new(revalidate::Cap::new(revoke::AT_ONCE));
        let (rooms, places, jobs) = (
            Arc::new(rooms),
            Places::new(config.max_loads, config.max_jobs),
            jobs::Jobs::default(),
        );
        Self {
            config,
            rooms,
            loads,
            whoami,
            places,
            refreshing,
            renewing,
            revoking,
            jobs,
        }
    }

    /// Answers one question.
    ///
    /// Dropping the future drops only the waiting: a load that has begun goes on and its answer is
    /// stored.
    ///
    /// # Errors
    /// [`LookupError::NotCached`] where only a stored answer was wanted, else what the CRM's
    /// failure is.
    pub(crate) async fn find(&self, question: &Question) -> Result<Answer, LookupError> {
        let asked = self.asked(question);
        if question.trigger == Trigger::ManualRefresh {
            return Box::pin(self.refresh(asked)).await;
        }
        let known = self.rooms.admissions.known(asked.user(), asked.auth);
        if let Some(credential) = known.filter(Credential::is_proven)
            && let Some(stored) = self.rooms.cache.hit(&asked.key.of(&credential.identity))
        {
            self.keep_trust(asked, &credential);
            if stored.freshness == Freshness::Fresh {
                return Ok(stored.into());
            }
            return Box::pin(self.serve(asked, credential.identity, stored)).await;
        }
        Box::pin(self.look_further(asked)).await
    }

    /// What is not in memory under a credential that is known to be good: Redis, then the CRM.
    async fn look_further(&self, asked: Asked<'_>) -> Result<Answer, LookupError> {
        // Together, so that Redis is waited for once.
        let (fetched, credential) = tokio::join!(
            self.rooms.cache.fetch(&asked.key),
            self.rooms.admissions.lookup(asked.user(), asked.auth)
        );
        let Some(credential) = credential else {
            return self.introduce(asked, fetched).await;
        };
        let stored = self
            .rooms
            .cache
            .pick(&fetched, &asked.key.of(&credential.identity));
        match stored {
            Some(stored) if credential.is_proven() => {
                self.keep_trust(asked, &credential);
                self.serve(asked, credential.identity, stored).await
            }
            _ if asked.question.only_if_cached => Err(LookupError::NotCached),
            Some(_) => {
                let _place = self.wait_place(asked, Some(&credential.identity))?;
                self.renew(asked, credential).await
            }
            None => {
                let _place = self.wait_place(asked, Some(&credential.identity))?;
                self.load(asked, Whose::Settled(credential.identity)).await
            }
        }
    }

    /// Serves what is stored. What is stale is refreshed; if that said "nobody", a ringing phone
    /// waits a moment for news.
    async fn serve(
        &self,
        asked: Asked<'_>,
        identity: Identity,
        stored: Stored,
    ) -> Result<Answer, LookupError> {
        let question = asked.question;
        if stored.freshness == Freshness::Fresh || question.only_if_cached {
            return Ok(stored.into());
        }
        if stored.entry.count() == 0
            && question.trigger == Trigger::IncomingCall
            && !self.rests(&asked.key)
            && let Ok(_place) = self.wait_place(asked, Some(&identity))
        {
            let patience = self.patience(question).min(NEWS);
            let seat = self.board(
                asked,
                LoadRequest {
                    lane: Lane::CallPop,
                    deadline: clock::after(patience),
                    ..self.trip(asked, Whose::Settled(identity))
                },
            );
            if let Some(Ok(answer)) = clock::timeout(patience, self.wait_for(seat, question)).await
            {
                return Ok(answer);
            }
        }
        self.revalidate(asked, identity);
        Ok(stored.into())
    }

    /// Asks the CRM and waits for what it says. Whoever calls it has a place to wait.
    async fn load(&self, asked: Asked<'_>, whose: Whose) -> Result<Answer, LookupError> {
        self.wait_for(self.board(asked, self.trip(asked, whose)), asked.question)
            .await
    }

    /// Asks the CRM, whatever is stored. Where it takes long and an answer is stored, that one is
    /// better than none; the refresh goes on behind it.
    async fn refresh(&self, asked: Asked<'_>) -> Result<Answer, LookupError> {
        let credential = self.rooms.admissions.lookup(asked.user(), asked.auth).await;
        let _place = self.wait_place(
            asked,
            credential.as_ref().map(|credential| &credential.identity),
        )?;
        let whose = Self::whose(asked, credential.as_ref());
        let trip = LoadRequest {
            must_ask: true,
            join: Join::NotCalledYet,
            ..self.trip(asked, whose)
        };
        let seat = self.board(asked, trip);
        let fresh = self.wait_for(seat, asked.question);
        tokio::pin!(fresh);
        if let Some(answer) = clock::timeout(self.patience(asked.question), &mut fresh).await {
            return answer;
        }
        let credential = self
            .rooms
            .admissions
            .lookup(asked.user(), asked.auth)
            .await
            .filter(Credential::is_proven);
        let stored = match &credential {
            Some(credential) => {
                self.rooms
                    .cache
                    .lookup(&asked.key, &asked.key.of(&credential.identity))
                    .await
            }
            None => None,
        };
        match stored {
            Some(stored) => Ok(Answer {
                freshness: Freshness::Stale,
                ..stored.into()
            }),
            None => fresh.await,
        }
    }

    /// How long an answer of the CRM is waited for where a stored one is good enough. Less than
    /// half of what the caller waits, so that there is time for the stored one.
    fn patience(&self, question: &Question) -> Duration {
        let soft = self.config.soft_deadline;
        question.deadline.map_or(soft, |deadline| {
            soft.min(deadline.saturating_duration_since(clock::now()) / 2)
        })
    }

    /// Entries and bytes of the memory tier.
    #[must_use]
    pub(crate) fn memory_size(&self) -> (u64, u64) {
        self.rooms.cache.memory_size()
    }

    /// How far the prefetch jobs under way are, the oldest first.
    #[must_use]
    pub(crate) fn jobs(&self) -> Vec<Standing> {
        self.jobs.standings()
    }

    fn asked<'a>(&self, question: &'a Question) -> Asked<'a> {
        let crm = question.platform.crm();
        let key = self
            .rooms
            .keys
            .question(&crm, &question.user, question.party, &question.formats);
        let auth = self
            .rooms
            .keys
            .auth(&crm, &question.auth, question.user.host.as_ref());
        Asked {
            question,
            key,
            auth,
        }
    }

    async fn wait_for(
        &self,
        mut seat: Seat<Loaded>,
        question: &Question,
    ) -> Result<Answer, LookupError> {
        let shared = seat.joined();
        if shared {
            let labels = PlatformLabels {
                platform: question.platform.name().to_owned(),
            };
            self.rooms
                .metrics
                .lookups_shared
                .get_or_create(&labels)
                .inc();
        }
        let waiting = self.names_or_all(&mut seat, question);
        // A caller without a deadline of its own does not wait for a load that stands in line for
        // minutes.
        let loaded = match question.deadline {
            Some(_) => waiting.await,
            None => clock::timeout(self.config.timeout, waiting)
                .await
                .unwrap_or(Err(TOO_LONG)),
        }?;
        let Loaded {
            entry,
            asked,
            source,
            crm_requests,
            ..
        } = loaded;
        let age = self.rooms.clock.now().since(asked);
        Ok(Answer {
            entry,
            source,
            freshness: Freshness::Fresh,
            age,
            shared,
            crm_requests,
        })
    }

    /// The result of a load; its contacts without all of their details if those take too long for
    /// this caller.
    async fn names_or_all(
        &self,
        seat: &mut Seat<Loaded>,
        question: &Question,
    ) -> Result<Loaded, LookupError> {
        let Some(names) = seat.early().await else {
            return seat.done().await;
        };
        let until = names.verified.at + self.details_patience(&names, question);
        Ok(clock::timeout_at(until, seat.done())
            .await
            .and_then(Result::ok)
            .unwrap_or(names))
    }

    /// How long this caller waits for details, from the moment the contacts were verified: a
    /// ringing phone not for long, others as long as they can.
    fn details_patience(&self, names: &Loaded, question: &Question) -> Duration {
        let left = match question.deadline {
            Some(deadline) => deadline.saturating_duration_since(names.verified.at),
            None => self.config.timeout.saturating_sub(names.verified.searched),
        };
        match question.trigger {
            Trigger::IncomingCall => names
                .verified
                .patience(self.config.details_timeout)
                .min(left / 2),
            Trigger::ManualRefresh | Trigger::InitialMatch => left / 10 * 9,
        }
    }

    /// A load for a caller that waits: it hears in time that the quota has no room.
    fn trip(&self, asked: Asked<'_>, whose: Whose) -> LoadRequest {
        let deadline = asked
            .question
            .deadline
            .or_else(|| clock::after(self.config.timeout));
        let lane = asked.question.trigger.lane();
        LoadRequest {
            whose,
            lane,
            deadline,
            must_ask: false,
            join: Join::Any,
            spent: Arc::default(),
        }
    }

    fn board(&self, asked: Asked<'_>, trip: LoadRequest) -> Seat<Loaded> {
        let LoadRequest {
            whose,
            lane,
            deadline,
            must_ask,
            join,
            spent,
        } = trip;
        let Asked {
            question,
            key,
            auth,
        } = asked;
        let since = self.rooms.cache.invalidated_at(&key);
        let flight = LoadKey {
            question: key,
            auth,
            must_ask,
            since,
        };
        let asker = Asker {
            lane,
            deadline,
            trusted: self.is_trusted(asked),
        };
        let begin = || {
            Some((
                self.load_place(asked, whose, lane)?,
                question.span.step("load"),
            ))
        };
        let seat = self
            .loads
            .join_or_lead(flight, join, asker, begin, |span, urgency, early| {
                let (resolver, question) = (self.clone(), question.clone());
                Load {
                    resolver,
                    question,
                    key,
                    auth,
                    whose,
                    must_ask,
                    urgency,
                    early,
                    spent,
                    span,
                }
                .run()
            });
        if seat.joined() {
            question.span.link(seat.span());
        }
        seat
    }
}

/// What a load is made for.
struct LoadRequest {
    /// Whose answer it brings, as far as known.
    whose: Whose,
    lane: Lane,
    /// Without one the load waits for its turn in the quota however long that takes.
    deadline: Option<Instant>,
    /// Ask the CRM whatever is stored.
    must_ask: bool,
    join: Join,
    /// Where its HTTP calls are counted.
    spent: Arc<AtomicU32>,
}
