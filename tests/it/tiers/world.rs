//! Two replicas' tiers over one real redis-server, and a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contactd::cache::{
    InvalidationLog, LoadTicket, LogReader, MemoryCache, MemoryConfig, ReplicaEvent, SharedTier,
    TieredCache,
};
use contactd::clock::{Clock, sleep};
use contactd::domain::{
    AgePolicy, Ages, AuthTag, ContactKey, Entry, Identity, QuestionKey, SharedTime, Source,
    Timestamp, UserTag,
};
use contactd::metrics::Metrics;
use contactd::redis_link::{Link, RedisTime};
use tokio_util::task::TaskTracker;

use super::Replica;
use super::model::Load;
use crate::redis_tier::{contact, party, question};
use crate::support::clocks::{Clocks, FakeClock};
use crate::support::ports::free_port;
use crate::support::redis::{RedisServer, config, link_with, tier_on};

pub(super) const AGES: AgePolicy = AgePolicy {
    found: Ages {
        fresh: Duration::from_secs(600),
        stale: Duration::from_secs(3600),
    },
    absent: Ages {
        fresh: Duration::from_secs(60),
        stale: Duration::from_secs(600),
    },
};

/// A user's question about a number, and whose credential asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) user: usize,
    pub(super) number: u32,
    /// Of two owners who both claim to be the user.
    pub(super) owner: u8,
}

impl Question {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|n| Self {
            user: usize::from(n & 1),
            number: u32::from(n >> 1 & 1),
            owner: n >> 2,
        })
    }

    fn user_id(self) -> &'static str {
        ["ann", "bob"][self.user]
    }

    fn key(self) -> ContactKey {
        let owner = AuthTag::from_bytes([self.owner; 16]);
        self.question().of(&Identity::Credential(owner))
    }

    fn question(self) -> QuestionKey {
        question(self.user_id(), self.number)
    }
}

fn user_tag(user: usize) -> UserTag {
    let (number, owner) = (0, 0);
    let question = Question {
        user,
        number,
        owner,
    };
    question.key().user()
}

/// What a look-up returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Of the contact, up to the load's number; none if nobody has the number.
    pub(super) name: Option<String>,
    pub(super) asked_at: u64,
    /// Whether it was in Redis, not in memory.
    pub(super) is_from_redis: bool,
}

/// The true time, and what clocks show of it. Clones share it.
#[derive(Debug, Clone, Default)]
struct Time {
    /// Milliseconds that have passed.
    passed: Arc<AtomicU64>,
    /// What the process' clock showed at its start.
    zero: u64,
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp(self.zero + self.passed.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        self.now()
    }

    fn elsewhere(&self, told: SharedTime) -> SharedTime {
        SharedTime(told.0 + self.passed.load(Ordering::Relaxed))
    }
}

pub(super) struct World {
    redis: RedisServer,
    redis_clock: FakeClock,
    _clocks: Clocks,
    is_stalled: bool,
    links: [Link; 2],
    time: Time,
    replicas: Vec<Running>,
}

/// A replica since its start.
struct Running {
    cache: TieredCache,
    log: LogReader,
    time: RedisTime,
    has_read: bool,
}

impl World {
    pub(super) async fn start(timeout: Duration) -> Self {
        let clocks = Clocks::compile();
        let redis_clock = clocks.clock("redis");
        let mut redis = RedisServer::on(free_port(), &[]).with_env(&redis_clock.env());
        redis.restart().await;
        let settings = contactd::redis_link::LinkConfig {
            timeout,
            ..config(&redis.url())
        };
        let links = [(); 2].map(|()| link_with(&settings).0);
        Self {
            redis,
            redis_clock,
            _clocks: clocks,
            is_stalled: false,
            links,
            time: Time::default(),
            replicas: Vec::new(),
        }
    }

    /// A new case: an empty Redis and two new replicas.
    pub(super) async fn begin_anew(&mut self) {
        self.flush().await;
        self.time = Time::default();
        self.replicas.clear();
        for at in 0..2 {
            let running = self.replica(at);
            self.replicas.push(running);
            self.read_log(at).await;
        }
    }

    fn replica(&self, at: Replica) -> Running {
        let (link, tasks) = (self.links[at].clone(), TaskTracker::new());
        // Their clocks have nothing to do with each other.
        let clock: Arc<dyn Clock> = Arc::new(Time {
            zero: 10_000_000_000 + 77_777_777 * at as u64,
            ..self.time.clone()
        });
        let (log, time) = (
            InvalidationLog::new(link.clone()),
            RedisTime::new(Arc::clone(&clock)).over(link.connections()),
        );
        let reader = log.reader();
        let names = link.names().clone();
        let shared = SharedTier {
            redis: tier_on(link),
            log,
            time: time.clone(),
            tasks,
        };
        let memory = MemoryCache::new(MemoryConfig { bytes: 1 << 22 }, AGES, Arc::clone(&clock));
        Running {
            cache: TieredCache::new(memory, Some(shared), names, clock, &Metrics::default()),
            log: reader,
            time,
            has_read: false,
        }
    }

    pub(super) fn restart(&mut self, at: Replica) {
        self.replicas[at] = self.replica(at);
    }

    /// The true time in milliseconds.
    pub(super) fn now(&self) -> u64 {
        self.time.passed.load(Ordering::Relaxed)
    }

    pub(super) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.time.passed.fetch_add(millis, Ordering::Relaxed);
    }

    pub(super) fn set_redis_clock(&self, seconds: i64) {
        let by = Duration::from_secs(seconds.unsigned_abs());
        self.redis_clock.step(by, seconds > 0);
    }

    pub(super) async fn look_up(&self, at: Replica, of: Question) -> Option<Answer> {
        let found = self.replicas[at]
            .cache
            .lookup(&of.question(), &of.key())
            .await?;
        let text = String::from_utf8_lossy(found.entry.encoded()).into_owned();
        let name = text.find("load ").map(|from| {
            let digits = text[from + 5..].find(' ').unwrap();
            text[from..from + 5 + digits + 1].to_owned()
        });
        assert_eq!(name.is_none(), found.entry.count() == 0);
        Some(Answer {
            name,
            asked_at: found.entry.asked_at().0,
            is_from_redis: found.source == Source::Redis,
        })
    }

    pub(super) async fn begin(&self, at: Replica, of: Question) -> LoadTicket {
        self.replicas[at].cache.begin(&of.question()).await
    }

    pub(super) async fn store(&self, load: &Load, ticket: &LoadTicket, is_refresh: bool) {
        let contacts: Vec<_> = load
            .name()
            .iter()
            .map(|name| contact(&format!("{name}is it")))
            .collect();
        let entry = Entry::new(&party(load.of.number), &contacts, true, ticket.asked_at());
        let (cache, key) = (&self.replicas[load.at].cache, load.of.key());
        cache.store(&key, ticket, &entry, is_refresh).await;
    }

    /// Whether it is confirmed.
    pub(super) async fn forget_number(&self, at: Replica, of: Question) -> bool {
        let cache = &self.replicas[at].cache;
        let done = cache
            .invalidate_numbers(of.key().user(), &[party(of.number)])
            .await;
        done.is_ok()
    }

    pub(super) async fn forget_user(&self, at: Replica, user: usize) -> bool {
        let cache = &self.replicas[at].cache;
        cache.invalidate_user(user_tag(user)).await.is_ok()
    }

    /// Reads the log to its end and applies it, as a replica does ten times a second. False if
    /// Redis does not answer.
    pub(super) async fn read_log(&mut self, at: Replica) -> bool {
        let Running {
            cache,
            log,
            time,
            has_read,
        } = &mut self.replicas[at];
        loop {
            let Ok(polled) = log.poll().await else {
                return false;
            };
            if !std::mem::replace(has_read, true) {
                cache.apply(&ReplicaEvent::Lost);
            }
            time.apply(polled.time);
            polled.events.iter().for_each(|event| cache.apply(event));
            if !polled.more {
                return true;
            }
        }
    }

    pub(super) fn replaced(&self, at: Replica, user: usize, asked_at: u64) {
        let event = ReplicaEvent::ReplacedMany(user_tag(user), SharedTime(asked_at));
        self.replicas[at].cache.apply(&event);
    }

    pub(super) async fn sweep(&self, at: Replica) {
        self.replicas[at].cache.sweep_once().await;
    }

    pub(super) fn stall(&mut self) {
        self.redis.pause();
        self.is_stalled = true;
    }

    /// Redis answers again, and both replicas know it.
    pub(super) async fn resume(&mut self) {
        self.redis.resume();
        self.is_stalled = false;
        self.reconnected().await;
    }

    pub(super) async fn restart_redis(&mut self) {
        self.redis.restart().await;
        self.is_stalled = false;
        self.reconnected().await;
    }

    pub(super) async fn flush(&mut self) {
        self.resume().await;
        self.redis.flush();
    }

    pub(super) async fn evict(&mut self, place: usize) {
        self.resume().await;
        let keys = self.redis.keys();
        if let Some(key) = keys.get(place.checked_rem(keys.len()).unwrap_or(0)) {
            self.redis.run::<u64>(&["DEL", key]);
        }
    }

    /// Redis loses the stream, its counter, or both.
    pub(super) async fn lose_log(&mut self, what: u8) {
        self.resume().await;
        let ends: &[&str] =
            [&["{log}:s"][..], &["{log}:h"], &["{log}:s", "{log}:h"]][usize::from(what)];
        for key in self.redis.keys() {
            if ends.iter().any(|end| key.ends_with(end)) {
                self.redis.run::<u64>(&["DEL", &key]);
            }
        }
    }

    async fn reconnected(&self) {
        for link in &self.links {
            // An answer shows that the link works; it fails at once while it does not.
            while link.query::<String>(redis::cmd("PING")).await.is_err() {
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
}
