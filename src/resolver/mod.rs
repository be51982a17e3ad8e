//! The only module that knows the order of a look-up's steps.
//!
//! [`Resolver::find`] does every look-up; [`Resolver::stored`] is its first step, for callers that
//! cannot await. A stored answer is served only under a credential that the CRM accepted a short
//! time ago, and only to the identity that the CRM names for it. A fresh answer is served as it is,
//! a stale one is also refreshed ([`decision`]). If the credential is unknown, the CRM is also
//! asked whose it is ([`trust`], [`whoami`]): before the search if an answer may be stored,
//! otherwise alongside the search. If nothing is stored, one load per question asks the CRM, and
//! all callers wait for it ([`load`]). A manual refresh always asks the CRM, and replaces what is
//! stored only if it succeeds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admissions;
use crate::cache::TieredCache;
use crate::clock::Clock;
pub(crate) use crate::domain::Source;
use crate::domain::error::Unavailable;
use crate::domain::{AuthTag, KeyMaker, LookupError, QuestionKey, UserTag};
use crate::flight::Flights;
use crate::lease::Leases;
use crate::metrics::Metrics;

mod answer;
mod answering;
mod asker;
mod background;
mod decision;
mod explain;
mod invalidate;
mod jobs;
mod load;
mod load_request;
mod load_task;
mod observed;
mod places;
mod plan;
mod prefetch;
mod question;
mod revalidate;
mod revoke;
mod start;
mod trigger;
mod trouble;
mod trust;
mod wait;
mod walk;
mod watch;
mod whoami;

pub(crate) use asker::Asker;
pub(crate) use background::{BackgroundLimit, OF_A_SCOPE};
pub(crate) use decision::{Decision, StoredFacts, Wish, decide};
pub(crate) use explain::Explanation;
pub(crate) use invalidate::InvalidationScope;
pub(crate) use jobs::JobProgress;
use load_task::{LoadKey, Loaded};
pub(crate) use observed::{Observations, Observer};
use places::Places;
pub(crate) use plan::LookupPlan;
pub(crate) use prefetch::{Batch, CutShort, PrefetchEvent, PrefetchEvents};
pub(crate) use question::{Answer, Question, Trigger};
pub(crate) use walk::NEWS;
pub(crate) use watch::{LookupProgress, Watcher};
use whoami::NamedCredential;

/// The error of a caller whose look-up took longer than `lookup.timeout`.
const TOO_LONG: LookupError = LookupError::CrmUnavailable(Unavailable::Timeout);

/// Settings of the resolver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResolverConfig {
    /// How long a load may take once a phone rings for it, including all its CRM calls; and how
    /// long a caller without a deadline waits. Background work has no such limit.
    pub timeout: Duration,
    /// How long a manual refresh waits for the CRM before the stored answer is served instead,
    /// labelled stale. If there is no result this long after the first call to the CRM, the CRM
    /// also counts as out of reach.
    pub(crate) soft_deadline: Duration,
    /// How long a ringing phone waits for the details of contacts that are already found. If the
    /// search took more than half of this, the phone waits for twice the time of the search.
    pub(crate) details_timeout: Duration,
    /// Loads running at once, including those whose callers have left. More are refused. As many
    /// callers may wait at once, and as many calls may ask whose a credential is.
    pub(crate) max_loads: usize,
    /// Batches running at once.
    pub(crate) max_jobs: usize,
    /// Whether there is only one connector. It need not leave places to others.
    pub(crate) is_one_connector: bool,
}

/// The modules that a resolver uses.
#[derive(Debug, Clone)]
pub(crate) struct Deps {
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Makes tags of identities and users.
    pub(crate) keys: KeyMaker,
    /// Stored answers.
    pub(crate) cache: TieredCache,
    /// Which credentials are verified, and whose they are.
    pub(crate) admissions: Admissions,
    /// One load per key among replicas. `None` without Redis.
    pub(crate) leases: Option<Leases>,
    /// The tracker of running loads.
    pub(crate) tasks: TaskTracker,
    /// Where they run, with all calls to CRMs.
    pub(crate) runtime: Handle,
    /// Ends when the daemon begins to stop.
    pub(crate) stopping: CancellationToken,
    /// Counts.
    pub(crate) metrics: Arc<Metrics>,
}

/// Answers questions. Clones are cheap and share everything.
#[derive(Clone)]
pub(crate) struct Resolver {
    config: ResolverConfig,
    deps: Arc<Deps>,
    loads: Flights<LoadKey, Loaded>,
    /// Flights that ask the CRM whose a credential is: at most one for each credential.
    whoami: Flights<AuthTag, NamedCredential>,
    places: Places,
    refreshing: Arc<BackgroundLimit<QuestionKey>>,
    renewing: Arc<BackgroundLimit<(UserTag, AuthTag)>>,
    /// Revocations that other replicas do not know yet.
    revoking: Arc<BackgroundLimit<AuthTag, ()>>,
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
    /// A resolver over `deps`.
    #[must_use]
    pub(crate) fn new(config: ResolverConfig, deps: Deps) -> Self {
        let (tasks, runtime) = (&deps.tasks, &deps.runtime);
        Self {
            config,
            loads: Flights::new(tasks.clone(), runtime.clone()),
            whoami: Flights::new(tasks.clone(), runtime.clone()),
            places: Places::new(&config),
            refreshing: Arc::new(BackgroundLimit::new(OF_A_SCOPE)),
            renewing: Arc::new(BackgroundLimit::new(OF_A_SCOPE)),
            revoking: Arc::new(BackgroundLimit::new(revoke::AT_ONCE)),
            jobs: jobs::Jobs::default(),
            deps: Arc::new(deps),
        }
    }

    /// Entries and bytes of the memory tier.
    #[must_use]
    pub(crate) fn memory_size(&self) -> (u64, u64) {
        self.deps.cache.memory_size()
    }

    /// How far the running batches are, the oldest first.
    #[must_use]
    pub(crate) fn jobs(&self) -> Vec<JobProgress> {
        self.jobs.progress()
    }
}
