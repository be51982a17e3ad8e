//! The one place that knows the order of things.
//!
//! [`Resolver::find`] is the walk of every look-up; [`Resolver::stored`] is its first step, for
//! those who have no time for a future. A stored answer is served under a credential that the CRM
//! has accepted a short time ago, to the identity that the CRM says the credential is: fresh as it
//! is, stale with a refresh behind it ([`decision`]). An unknown credential is asked about first
//! ([`trust`], [`whoami`]). If nothing is stored one load per question asks the CRM, and all
//! callers wait for it ([`load`]). A manual refresh goes to the CRM in any case, and only its
//! success changes what is stored.

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

mod answering;
mod asker;
mod background;
mod decision;
mod forget;
mod jobs;
mod load;
mod load_request;
mod load_task;
mod places;
mod prefetch;
mod question;
mod revalidate;
mod revoke;
mod start;
mod trouble;
mod trust;
mod wait;
mod walk;
mod whoami;

pub(crate) use asker::Asker;
use background::BackgroundLimit;
pub(crate) use forget::Forgotten;
pub(crate) use jobs::JobProgress;
use load_task::{LoadKey, Loaded};
use places::Places;
pub(crate) use prefetch::{Batch, CutShort, PrefetchEvent, PrefetchEvents};
pub(crate) use question::{Answer, Question, Trigger};
use whoami::NamedCredential;

/// The error of a caller whose look-up took longer than `lookup.timeout`.
const TOO_LONG: LookupError = LookupError::CrmUnavailable(Unavailable::Timeout);

/// Settings of the walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResolverConfig {
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
    /// Whether there is one connector only, which leaves nothing to others.
    pub(crate) is_one_connector: bool,
}

/// The rooms that a resolver uses.
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
    /// One load per key among replicas; none without Redis.
    pub(crate) leases: Option<Leases>,
    /// What loads belong to.
    pub(crate) tasks: TaskTracker,
    /// Where they run, with all calls to CRMs.
    pub(crate) runtime: Handle,
    /// Ends when the daemon begins to stop.
    pub(crate) stopping: CancellationToken,
    /// Counts.
    pub(crate) metrics: Arc<Metrics>,
}

/// Answers questions. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Resolver {
    config: ResolverConfig,
    deps: Arc<Deps>,
    loads: Flights<LoadKey, Loaded>,
    /// Who a credential is: one question at a time for each.
    whoami: Flights<AuthTag, NamedCredential>,
    places: Places,
    refreshing: Arc<BackgroundLimit<QuestionKey>>,
    renewing: Arc<BackgroundLimit<(UserTag, AuthTag)>>,
    /// Revocations that the other replicas do not know of yet.
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
            refreshing: Arc::new(BackgroundLimit::new(background::OF_A_SCOPE)),
            renewing: Arc::new(BackgroundLimit::new(background::OF_A_SCOPE)),
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

    /// How far the prefetch jobs under way are, the oldest first.
    #[must_use]
    pub(crate) fn jobs(&self) -> Vec<JobProgress> {
        self.jobs.progress()
    }
}
