//! What replicas share through Redis, what takes its place without Redis, and the tasks for both.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::budgets::Budgets;
use super::build_context::BuildContext;
use super::ceiling;
use super::live_stats::LiveStats;
use super::log_follower::LogFollower;
use super::reload::{Reload, admissions_config};
use super::supervisor::Supervisor;
use crate::admission::Admissions;
use crate::budget::{self, Budget, SharedQuota};
use crate::cache::{InvalidationLog, MemoryCache, RedisTier, SharedTier, TieredCache};
use crate::clients::Clients;
use crate::clock;
use crate::config::Config;
use crate::connector::{ConnectorConfig, SharedLogin};
use crate::domain::KeyMaker;
use crate::lease::Leases;
use crate::metrics::{Metrics, RedisRefusalLabels};
use crate::redis_link::{
    self, KeyNames, KeyPrefix, Link, LinkSignals, Reads, RedisTime, SharedSecret, derive_secret,
};
use crate::resolver::Deps;
use crate::tls::Tls;

/// How often unused scopes are dropped from the budgets.
const SWEEP: Duration = Duration::from_secs(60);

/// See the header.
pub(super) struct Fleet {
    pub(super) keys: KeyMaker,
    cache: TieredCache,
    admissions: Admissions,
    shared: Option<SharedRedis>,
    budgets: Arc<Mutex<Budgets>>,
    /// The number of replicas, from the log.
    replicas: Arc<AtomicU32>,
}

/// What replicas share.
#[derive(Clone)]
struct SharedRedis {
    link: Link,
    reads: Reads,
    log: InvalidationLog,
    time: RedisTime,
}

impl Fleet {
    pub(super) fn build(context: &BuildContext<'_>) -> anyhow::Result<Self> {
        let config = context.config;
        let (secret, prefix) = match &config.redis {
            Some(redis) => (derive_secret(redis), redis.key_prefix.clone()),
            None => (random_secret()?, KeyPrefix::default()),
        };
        let shared = match &config.redis {
            Some(redis) => Some(SharedRedis::connect(redis, context)?),
            None => None,
        };
        let clock = || Arc::clone(context.clock);
        let memory = MemoryCache::new(config.memory, config.ages, clock());
        let tier = shared.as_ref().map(|shared| shared.tier(context));
        let names = KeyNames::new(prefix, &secret);
        let cache = TieredCache::new(memory, tier, names, clock(), context.metrics);
        let sweep = cache.clone().sweep();
        context.supervisor.spawn("the sweep of memory", sweep);
        let admissions = admissions_config(config);
        let of_admissions = shared.as_ref().map(SharedRedis::for_admissions);
        Ok(Self {
            keys: KeyMaker::new(secret.for_keys()),
            cache,
            admissions: Admissions::new(admissions, clock(), of_admissions),
            shared,
            budgets: Arc::default(),
            replicas: Arc::new(AtomicU32::new(1)),
        })
    }

    /// The budget of one connector.
    pub(super) fn budget(
        &self,
        context: &BuildContext<'_>,
        connector: &ConnectorConfig,
    ) -> Arc<Budget> {
        let name = &connector.name;
        let tasks = || context.supervisor.tasks.clone();
        let shared = self.shared.as_ref();
        let shared = shared.map(|shared| {
            let quota = SharedQuota::new(shared.link.clone(), name, tasks());
            quota.by(shared.time.clone(), shared.log.seen_keys())
        });
        let budget = Arc::new(Budget::new(
            connector.quotas,
            &budget_config(context.config),
            name,
            context.metrics,
            shared.as_ref(),
        ));
        let named = (name.clone(), Arc::clone(&budget));
        self.budgets.lock().push(named);
        let sweep = sweep(Arc::clone(&budget));
        context.supervisor.spawn("the sweep of quotas", sweep);
        budget
    }

    /// What the status page shows besides the metrics.
    pub(super) fn live_stats(&self, config: &Config) -> LiveStats {
        LiveStats {
            budgets: self.budgets.lock().clone(),
            link: self.shared.as_ref().map(|shared| shared.link.clone()),
            replicas: Arc::clone(&self.replicas),
            memory_limit: config.memory.bytes,
            memory_ceiling: ceiling::bytes(config),
        }
    }

    /// The modules that apply new settings.
    pub(super) fn reload(
        &self,
        clients: Clients,
        tls: Option<Tls>,
        logins: Vec<(String, SharedLogin)>,
    ) -> Reload {
        let (cache, admissions) = (self.cache.clone(), self.admissions.clone());
        Reload {
            clients,
            tls,
            cache,
            admissions,
            budgets: Arc::clone(&self.budgets),
            logins,
        }
    }

    /// What the resolver depends on. Its loads run on `runtime`.
    pub(super) fn deps(&self, context: &BuildContext<'_>, runtime: Handle) -> Deps {
        let leases = |shared: &SharedRedis| Leases::new(shared.link.clone(), context.loads.clone());
        Deps {
            clock: Arc::clone(context.clock),
            keys: self.keys.clone(),
            cache: self.cache.clone(),
            admissions: self.admissions.clone(),
            leases: self.shared.as_ref().map(leases),
            tasks: context.loads.clone(),
            runtime,
            stopping: context.stopping.clone(),
            metrics: Arc::clone(context.metrics),
        }
    }

    /// The log that publishes invalidations.
    pub(super) fn log(&self) -> Option<InvalidationLog> {
        self.shared.as_ref().map(|shared| shared.log.clone())
    }

    /// Starts to apply what other replicas publish.
    pub(super) fn listen(&self, supervisor: &Supervisor) {
        let Some(shared) = &self.shared else {
            return;
        };
        let reader = LogFollower {
            log: shared.log.reader(),
            time: shared.time.clone(),
            cache: self.cache.clone(),
            admissions: self.admissions.clone(),
            budgets: Arc::clone(&self.budgets),
            replicas: Arc::clone(&self.replicas),
        };
        supervisor.spawn("the log reader", reader.run());
    }
}

fn budget_config(config: &Config) -> budget::BudgetConfig {
    budget::BudgetConfig {
        call_timeout: config.limits.call_timeout + budget::STALE,
        admitted: config.admitted,
        replicas: config.replicas,
        is_past_known: config.are_crms_new,
    }
}

/// Drops what a budget no longer needs, from time to time.
async fn sweep(budget: Arc<Budget>) {
    loop {
        clock::sleep(SWEEP).await;
        budget.sweep();
    }
}

impl SharedRedis {
    /// The tier of the cache that replicas share.
    fn tier(&self, context: &BuildContext<'_>) -> SharedTier {
        let redis = RedisTier::new(self.link.clone(), self.reads.clone());
        SharedTier {
            redis: redis.sealed(context.config.redis_keys.clone()),
            log: self.log.clone(),
            time: self.time.clone(),
            tasks: context.supervisor.tasks.clone(),
        }
    }

    fn for_admissions(&self) -> (Link, Reads, RedisTime) {
        (self.link.clone(), self.reads.clone(), self.time.clone())
    }

    /// Starts to connect. The Redis keeper maintains the connection.
    fn connect(redis: &redis_link::LinkConfig, context: &BuildContext<'_>) -> anyhow::Result<Self> {
        let (link, keeper) = Link::new(redis, signals(context.metrics)).context("section redis")?;
        context.supervisor.spawn("the Redis keeper", keeper.run());
        Ok(Self {
            reads: Reads::new(link.clone(), context.supervisor.tasks.clone()),
            log: InvalidationLog::new(link.clone()),
            time: RedisTime::new(Arc::clone(context.clock)).over(link.connections()),
            link,
        })
    }
}

/// The metrics that show the state of the link to Redis.
fn signals(metrics: &Metrics) -> LinkSignals {
    let refused = metrics.redis_refused.clone();
    let refused = Box::new(move |code| {
        refused.get_or_create(&RedisRefusalLabels { code }).inc();
    });
    LinkSignals {
        up: metrics.redis_up.clone(),
        refused,
    }
}

/// The key of the hashes of numbers in the log. It is the same on all replicas only if there is a
/// secret file. It is not derived from the password of Redis, which may be weak or absent: then
/// anybody could find a number by hashing all of them.
pub(super) fn log_key(config: &Config) -> anyhow::Result<[u8; 32]> {
    let secret = config.redis.as_ref().and_then(|redis| redis.secret.clone());
    Ok(secret.map_or_else(random_secret, Ok)?.for_log())
}

/// A secret for this process alone. No other replica needs to know it.
fn random_secret() -> anyhow::Result<SharedSecret> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| anyhow::anyhow!("the system provides no random bytes: {error}"))?;
    Ok(SharedSecret::new(secret))
}
