//! What replicas share through Redis, or what stands in for it without Redis, and the parts that
//! keep it going.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budgets::Budgets;
use super::ceiling;
use super::chores::Chores;
use super::live_stats::LiveStats;
use super::reload::{Reload, admissions_config};
use crate::admission::Admissions;
use crate::budget::{self, Budget, Replicas, SharedQuota};
use crate::cache::{Event, InvalidationLog, MemoryCache, RedisTier, SharedTier, TieredCache};
use crate::clients::Clients;
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::connector;
use crate::domain::KeyMaker;
use crate::lease::Leases;
use crate::metrics::{Metrics, RedisRefusalLabels};
use crate::redis_link::{
    KeyNames, KeyPrefix, Link, Reads, RedisTime, SharedSecret, Signals, derive_secret,
};
use crate::resolver::Deps;
use crate::tls::Tls;

/// How often the log of invalidations is read: what is forgotten at one replica is forgotten at all
/// within a second.
const LISTEN: Duration = Duration::from_millis(100);

/// How soon after the start, or after Redis was reached, the log is first read.
const FIRST: Duration = Duration::from_millis(20);

/// How often scopes that nobody uses are dropped from the budgets.
const SWEEP: Duration = Duration::from_secs(60);

/// See the header.
pub(super) struct Fleet {
    pub(super) keys: KeyMaker,
    cache: TieredCache,
    admissions: Admissions,
    shared: Option<(Link, InvalidationLog, RedisTime)>,
    budgets: Arc<Mutex<Budgets>>,
    /// As many as the log knows of.
    replicas: Arc<AtomicU32>,
}

impl Fleet {
    pub(super) fn build(
        config: &Config,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
        chores: &Chores,
    ) -> anyhow::Result<Self> {
        let (secret, prefix) = match &config.redis {
            Some(redis) => (derive_secret(redis), redis.key_prefix.clone()),
            None => (random_secret()?, KeyPrefix::default()),
        };
        let shared = match &config.redis {
            Some(redis) => {
                let (link, keeper) = Link::new(redis, signals(metrics)).context("section redis")?;
                chores.spawn("the Redis keeper", keeper.run());
                let log = InvalidationLog::new(link.clone());
                Some((link, log, RedisTime::new(Arc::clone(clock))))
            }
            None => None,
        };
        let reads = shared
            .as_ref()
            .map(|(link, ..)| Reads::new(link.clone(), chores.tasks.clone()));
        let redis = || shared.as_ref().zip(reads.clone());
        let memory = MemoryCache::new(config.memory, config.ages, Arc::clone(clock));
        let tier = redis().map(|((link, log, time), reads)| SharedTier {
            redis: RedisTier::new(link.clone(), reads).sealed(config.redis_keys.clone()),
            log: log.clone(),
            time: time.clone(),
            tasks: chores.tasks.clone(),
        });
        let names = KeyNames::new(prefix, &secret);
        Ok(Self {
            keys: KeyMaker::new(secret.for_keys()),
            cache: TieredCache::new(memory, tier, names, Arc::clone(clock), metrics),
            admissions: Admissions::new(
                admissions_config(config),
                Arc::clone(clock),
                redis().map(|((link, _, time), reads)| (link.clone(), reads, time.clone())),
            ),
            shared,
            budgets: Arc::default(),
            replicas: Arc::new(AtomicU32::new(1)),
        })
    }

    /// The budget of one connector.
    pub(super) fn budget(
        &self,
        config: &Config,
        connector: &connector::Config,
        metrics: &Metrics,
        chores: &Chores,
    ) -> Arc<Budget> {
        let shared = self.shared.as_ref();
        let shared = shared.map(|(link, ..)| {
            SharedQuota::new(link.clone(), &connector.name, chores.tasks.clone())
        });
        let budgets = budget::BudgetConfig {
            call_timeout: config.limits.call_timeout + budget::STALE,
            admitted: config.admitted,
            replicas: config.replicas,
            is_past_known: config.are_crms_new,
        };
        let budget = Budget::new(
            connector.quotas,
            &budgets,
            &connector.name,
            metrics,
            shared.as_ref(),
        );
        let budget = Arc::new(budget);
        self.budgets
            .lock()
            .push((connector.name.clone(), Arc::clone(&budget)));
        let swept = Arc::clone(&budget);
        chores.spawn("the sweep of quotas", async move {
            loop {
                clock::sleep(SWEEP).await;
                swept.sweep();
            }
        });
        budget
    }

    /// What the status page shows of it.
    pub(super) fn figures(&self, config: &Config) -> LiveStats {
        LiveStats {
            budgets: self.budgets.lock().clone(),
            link: self.shared.as_ref().map(|(link, ..)| link.clone()),
            replicas: Arc::clone(&self.replicas),
            memory_limit: config.memory.bytes,
            memory_ceiling: ceiling::bytes(config),
        }
    }

    /// What takes up other settings.
    pub(super) fn reload(&self, callers: Clients, tls: Option<Tls>) -> Reload {
        let (cache, admissions) = (self.cache.clone(), self.admissions.clone());
        Reload {
            callers,
            tls,
            cache,
            admissions,
            budgets: Arc::clone(&self.budgets),
        }
    }

    /// The rooms of the resolver.
    pub(super) fn rooms(
        &self,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
        (tasks, runtime): (TaskTracker, Handle),
        stopping: CancellationToken,
    ) -> Deps {
        Deps {
            clock: Arc::clone(clock),
            keys: self.keys.clone(),
            cache: self.cache.clone(),
            admissions: self.admissions.clone(),
            leases: self
                .shared
                .as_ref()
                .map(|(link, ..)| Leases::new(link.clone(), tasks.clone())),
            tasks,
            runtime,
            stopping,
            metrics: Arc::clone(metrics),
        }
    }

    /// What the other replicas are told through.
    pub(super) fn log(&self) -> Option<InvalidationLog> {
        self.shared.as_ref().map(|(_, log, _)| log.clone())
    }

    /// Begins to hear what other replicas are told to forget, and how many there are.
    pub(super) fn listen(&self, chores: &Chores) {
        let Some((_, log, time)) = &self.shared else {
            return;
        };
        let (mut reader, time) = (log.reader(), time.clone());
        let (cache, admissions, budgets) = (
            self.cache.clone(),
            self.admissions.clone(),
            Arc::clone(&self.budgets),
        );
        let seen = Arc::clone(&self.replicas);
        chores.spawn("the log reader", async move {
            let (mut has_read, mut failed, mut wait) = (false, false, FIRST);
            loop {
                clock::sleep(wait).await;
                let Ok(polled) = reader.poll().await else {
                    // Once at least it may just have been slow.
                    wait = if has_read && failed { LISTEN } else { FIRST };
                    failed = true;
                    budgets
                        .lock()
                        .iter()
                        .for_each(|(_, budget)| budget.redis_unreachable());
                    continue;
                };
                failed = false;
                time.apply(polled.now);
                if !has_read {
                    // What was forgotten before the log was first read may be in memory already.
                    cache.apply(&Event::Lost);
                    has_read = true;
                }
                wait = if polled.more { Duration::ZERO } else { LISTEN };
                for event in &polled.events {
                    cache.apply(event);
                    apply_to_admissions(&admissions, event);
                }
                let Some(count) = polled.replicas.and_then(NonZeroU32::new) else {
                    // It would not count calls either.
                    budgets
                        .lock()
                        .iter()
                        .for_each(|(_, budget)| budget.redis_unreachable());
                    continue;
                };
                seen.store(count.get(), Ordering::Relaxed);
                let replicas = Replicas {
                    count,
                    present: polled.present,
                    kept_for: polled.kept_for,
                };
                budgets
                    .lock()
                    .iter()
                    .for_each(|(_, budget)| budget.apply_replicas(&replicas));
            }
        });
    }
}

/// Where the link to Redis shows how it stands.
fn signals(metrics: &Metrics) -> Signals {
    let refused = metrics.redis_refused.clone();
    let refused = Box::new(move |code| {
        refused.get_or_create(&RedisRefusalLabels { code }).inc();
    });
    Signals {
        up: metrics.redis_up.clone(),
        refused,
    }
}

fn apply_to_admissions(admissions: &Admissions, event: &Event) {
    match event {
        Event::Revoke(auth) => admissions.revoke_here(*auth),
        Event::InvalidateUser(user) => admissions.forget_user_here(*user),
        Event::Lost => admissions.clear_here(),
        Event::InvalidateNumber(..)
        | Event::InvalidateNumbers(_)
        | Event::Replaced(..)
        | Event::ReplacedMany(..) => {}
    }
}

/// Without Redis nobody else needs to know it.
fn random_secret() -> anyhow::Result<SharedSecret> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(SharedSecret::new(secret))
}
