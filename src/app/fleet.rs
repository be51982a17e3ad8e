//! What replicas share through Redis, its replacement without Redis, and the tasks that maintain
//! it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::budgets::Budgets;
use super::ceiling;
use super::live_stats::LiveStats;
use super::log_follower::LogFollower;
use super::reload::{Reload, admissions_config};
use super::site::Site;
use super::supervisor::Supervisor;
use crate::admission::Admissions;
use crate::budget::{self, Budget, SharedQuota};
use crate::cache::{InvalidationLog, MemoryCache, RedisTier, SharedTier, TieredCache};
use crate::clients::Clients;
use crate::clock;
use crate::config::Config;
use crate::connector::{ConnectorConfig, HouseLogin};
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
    pub(super) fn build(site: &Site<'_>) -> anyhow::Result<Self> {
        let config = site.config;
        let (secret, prefix) = match &config.redis {
            Some(redis) => (derive_secret(redis), redis.key_prefix.clone()),
            None => (random_secret()?, KeyPrefix::default()),
        };
        let shared = config
            .redis
            .as_ref()
            .map(|redis| SharedRedis::connect(redis, site))
            .transpose()?;
        let memory = MemoryCache::new(config.memory, config.ages, Arc::clone(site.clock));
        let tier = shared.as_ref().map(|shared| SharedTier {
            redis: RedisTier::new(shared.link.clone(), shared.reads.clone())
                .sealed(config.redis_keys.clone()),
            log: shared.log.clone(),
            time: shared.time.clone(),
            tasks: site.supervisor.tasks.clone(),
        });
        let (names, clock) = (KeyNames::new(prefix, &secret), Arc::clone(site.clock));
        Ok(Self {
            keys: KeyMaker::new(secret.for_keys()),
            cache: TieredCache::new(memory, tier, names, clock, site.metrics),
            admissions: Admissions::new(
                admissions_config(config),
                Arc::clone(site.clock),
                shared.clone().map(
                    |SharedRedis {
                         link, reads, time, ..
                     }| (link, reads, time),
                ),
            ),
            shared,
            budgets: Arc::default(),
            replicas: Arc::new(AtomicU32::new(1)),
        })
    }

    /// The budget of one connector.
    pub(super) fn budget(&self, site: &Site<'_>, connector: &ConnectorConfig) -> Arc<Budget> {
        let (config, tasks) = (site.config, &site.supervisor.tasks);
        let shared = self
            .shared
            .as_ref()
            .map(|shared| SharedQuota::new(shared.link.clone(), &connector.name, tasks.clone()));
        let budgets = budget::BudgetConfig {
            call_timeout: config.limits.call_timeout + budget::STALE,
            admitted: config.admitted,
            replicas: config.replicas,
            is_past_known: config.are_crms_new,
        };
        let budget = Arc::new(Budget::new(
            connector.quotas,
            &budgets,
            &connector.name,
            site.metrics,
            shared.as_ref(),
        ));
        self.budgets
            .lock()
            .push((connector.name.clone(), Arc::clone(&budget)));
        let swept = Arc::clone(&budget);
        site.supervisor.spawn("the sweep of quotas", async move {
            loop {
                clock::sleep(SWEEP).await;
                swept.sweep();
            }
        });
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

    /// The rooms that apply new settings.
    pub(super) fn reload(
        &self,
        clients: Clients,
        tls: Option<Tls>,
        logins: Vec<(String, HouseLogin)>,
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
    pub(super) fn deps(&self, site: &Site<'_>, runtime: Handle) -> Deps {
        let leases = |shared: &SharedRedis| Leases::new(shared.link.clone(), site.loads.clone());
        Deps {
            clock: Arc::clone(site.clock),
            keys: self.keys.clone(),
            cache: self.cache.clone(),
            admissions: self.admissions.clone(),
            leases: self.shared.as_ref().map(leases),
            tasks: site.loads.clone(),
            runtime,
            stopping: site.stopping.clone(),
            metrics: Arc::clone(site.metrics),
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

impl SharedRedis {
    /// Starts to connect. The Redis keeper maintains the connection.
    fn connect(redis: &redis_link::LinkConfig, site: &Site<'_>) -> anyhow::Result<Self> {
        let (link, keeper) = Link::new(redis, signals(site.metrics)).context("section redis")?;
        site.supervisor.spawn("the Redis keeper", keeper.run());
        Ok(Self {
            reads: Reads::new(link.clone(), site.supervisor.tasks.clone()),
            log: InvalidationLog::new(link.clone()),
            time: RedisTime::new(Arc::clone(site.clock)),
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

/// Without Redis no other replica needs to know it.
/// The key of the hashes of numbers in the log. Only a secret file makes it the same everywhere: a
/// password may be weak, or there is none, and then everybody could hash all numbers.
pub(super) fn log_key(config: &Config) -> anyhow::Result<[u8; 32]> {
    let secret = config.redis.as_ref().and_then(|redis| redis.secret.clone());
    Ok(secret.map_or_else(random_secret, Ok)?.for_log())
}

fn random_secret() -> anyhow::Result<SharedSecret> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| anyhow::anyhow!("the system provides no random bytes: {error}"))?;
    Ok(SharedSecret::new(secret))
}
