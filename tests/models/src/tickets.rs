//! Load tickets: two replicas load, store, look up and invalidate the same answers over one Redis.
//!
//! What must hold:
//! * from a confirmed invalidation on, the replica that confirmed it never returns an answer whose
//!   load began before; the other replica does not either, once it has read the log;
//! * of loads that end in any order, the one that began last stays, and in the end both replicas
//!   return it;
//! * once all is done, an answer that is loaded is found by both replicas.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio_util::task::{TaskTracker, cancel_one_in};

use crate::cache::{
    Fetched, InvalidationLog, LoadTicket, LogReader, RedisTier, ReplicaEvent, SharedTier, Stored,
    TieredCache,
};
use crate::clock::sleep;
use crate::domain::{ContactKey, Identity, QuestionKey, SharedTime};
use crate::explore::{all, choose, one_in, one_of};
use crate::redis_link::{self, Link, Reads, RedisTime};
use crate::samples;

/// A few steps that can only go wrong in a few ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// Look-ups of an answer that is being invalidated.
    Invalidation,
    /// Look-ups of an answer that is being replaced here, while another replica replaces other
    /// answers of the user.
    Replacement,
}

/// What one execution is about.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    actors: u64,
    invalidates: bool,
    /// What its actors do after a first load. If it is `None`, they do everything.
    about: Option<About>,
    /// One call in so many to Redis gets no answer.
    fails_one_in: u32,
}

/// Loads and refreshes only.
pub const ORDER: Scenario = Scenario {
    actors: 4,
    invalidates: false,
    about: None,
    fails_one_in: 0,
};

/// Loads and invalidations.
pub const INVALIDATION: Scenario = Scenario {
    actors: 4,
    invalidates: true,
    about: None,
    fails_one_in: 0,
};

/// Look-ups of an answer that is being invalidated, and nothing else.
pub const READING: Scenario = Scenario {
    actors: 3,
    invalidates: true,
    about: Some(About::Invalidation),
    fails_one_in: 0,
};

/// Look-ups of an answer that is being replaced, and nothing else.
pub const REPLACING: Scenario = Scenario {
    actors: 4,
    invalidates: false,
    about: Some(About::Replacement),
    fails_one_in: 0,
};

/// The same as [`INVALIDATION`] with a Redis that fails.
pub const FAILING: Scenario = Scenario {
    actors: 4,
    invalidates: true,
    about: None,
    fails_one_in: 6,
};

impl Scenario {
    /// Between two steps of an actor. Steps that are about one moment should overlap.
    fn pause(self) -> Duration {
        let is_close = self.about == Some(About::Replacement);
        Duration::from_millis(choose(0..if is_close { 2 } else { 3 }))
    }
}

#[derive(Clone)]
struct World {
    scenario: Scenario,
    replicas: [Replica; 2],
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone)]
struct Replica {
    cache: TieredCache,
    log: Arc<Mutex<Option<LogReader>>>,
    time: RedisTime,
}

/// What the model knows without the cache.
#[derive(Default)]
struct Seen {
    /// The order of what begins and is confirmed.
    sequence: u64,
    loads: Vec<Load>,
    /// Loads that began before are void at each replica.
    void_before: [u64; 2],
    /// Invalidations that are confirmed: the loads that began before are void.
    confirmed: u64,
    /// When the latest answer that was stored by each replica was asked for, in milliseconds.
    latest: [u64; 2],
    /// When the answer that was stored last was asked for, by Redis' clock.
    last: Option<SharedTime>,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    began: u64,
    asked: u64,
    ended: bool,
}

/// One execution.
pub async fn run(scenario: Scenario) {
    cancel_one_in(0);
    redis_link::fail_one_in(0);
    redis_link::run::<()>(&redis::cmd("FLUSHALL"));
    let (link, tasks) = (Link::new("model"), TaskTracker::new());
    let world = World {
        scenario,
        replicas: [(); 2].map(|()| Replica::new(&link, &tasks)),
        seen: Arc::default(),
    };
    for at in 0..2 {
        world.read_log(at, true).await;
    }
    if scenario.about.is_some() {
        world.load(0).await;
        // What is loaded from now on is later.
        sleep(Duration::from_millis(1)).await;
    }
    redis_link::fail_one_in(scenario.fails_one_in);
    all((0..scenario.actors).map(|_| world.clone().act())).await;
    redis_link::fail_one_in(0);
    tasks.wait().await;
    world.check_the_end().await;
}

impl Replica {
    fn new(link: &Link, tasks: &TaskTracker) -> Self {
        let log = InvalidationLog::new(link.clone());
        let (reader, time) = (
            log.reader(),
            RedisTime::new(Arc::new(samples::VirtualClock)),
        );
        let redis = RedisTier::new(link.clone(), Reads::new(link.clone(), tasks.clone()));
        let shared = SharedTier {
            redis,
            log,
            time: time.clone(),
            tasks: tasks.clone(),
        };
        Self {
            cache: samples::tiers(Some(shared), link),
            log: Arc::new(Mutex::new(Some(reader))),
            time,
        }
    }
}

fn question() -> QuestionKey {
    samples::question(0, 0)
}

fn key() -> ContactKey {
    question().of(&Identity::Caller)
}

impl World {
    /// One of those who use a replica.
    async fn act(self) {
        for _ in 0..choose(1..4) {
            sleep(self.scenario.pause()).await;
            let at = choose(0..2) as usize;
            match (self.scenario.about, choose(0..10)) {
                (Some(About::Invalidation), 0..2) => self.invalidate(at).await,
                (Some(About::Replacement), 0..3) => self.load(1).await,
                (Some(About::Replacement), 3..6) => self.hear(1),
                (Some(About::Replacement), _) => self.look_up(1).await,
                (Some(About::Invalidation), _) => self.look_up(at).await,
                (None, 0..3) => self.load(at).await,
                (None, 3) if self.scenario.invalidates => self.invalidate(at).await,
                (None, 4) => self.read_log(at, false).await,
                (None, 5) => self.replicas[at].cache.sweep_once().await,
                (None, 6) => self.hear(at),
                (None, _) => self.look_up(at).await,
            }
        }
    }

    async fn load(&self, at: usize) {
        let cache = &self.replicas[at].cache;
        let bounds = self.seen().bounds(at);
        let ticket = cache.begin(&question()).await;
        let load = {
            let mut seen = self.seen();
            // The CRM is asked from now on.
            let (began, asked) = (seen.next(), ticket.asked().0);
            seen.loads.push(Load {
                began,
                asked,
                ended: false,
            });
            seen.loads.len() - 1
        };
        if one_in(3) {
            // A load looks whether another one was faster.
            self.check(at, bounds, cache.stored_before(&ticket, &key()));
        }
        sleep(Duration::from_millis(choose(0..3))).await;
        self.store(at, load, &ticket).await;
    }

    async fn store(&self, at: usize, load: usize, ticket: &LoadTicket) {
        let entry = samples::entry(load, ticket.asked_at());
        let cache = &self.replicas[at].cache;
        cache.store(&key(), ticket, &entry, one_in(2)).await;
        let mut seen = self.seen();
        seen.loads[load].ended = true;
        seen.last = Some(ticket.asked_at());
        seen.latest[at] = seen.latest[at].max(seen.loads[load].asked);
    }

    /// Learns that another replica has replaced answers of the user, up to the last one. If the
    /// scenario is about that: or only this answer, or that events were lost.
    fn hear(&self, at: usize) {
        let last = self.seen().last;
        if let Some(last) = last {
            let event = match (self.scenario.about, choose(0..4)) {
                (Some(About::Replacement), 0) => ReplicaEvent::Lost,
                (Some(About::Replacement), 1) => ReplicaEvent::Replaced(key().slot(), last),
                _ => ReplicaEvent::ReplacedMany(question().user(), last),
            };
            self.replicas[at].cache.apply(&event);
        }
    }

    async fn invalidate(&self, at: usize) {
        let (cache, question) = (&self.replicas[at].cache, question());
        let before = self.seen().next();
        let done = if one_in(3) {
            cache.invalidate_user(question.user()).await
        } else {
            cache
                .invalidate_numbers(question.user(), &[question.party()])
                .await
        };
        if done.is_ok() {
            let mut seen = self.seen();
            seen.confirmed = seen.confirmed.max(before);
            seen.void_before[at] = seen.void_before[at].max(before);
        }
    }

    async fn look_up(&self, at: usize) {
        let cache = &self.replicas[at].cache;
        let bounds = self.seen().bounds(at);
        let stored = if one_in(2) {
            cache.lookup(&question(), &key()).await
        } else {
            // The owner of the answer becomes known later.
            let fetched: Fetched = cache.fetch(&question()).await;
            sleep(Duration::from_millis(choose(0..2))).await;
            cache.pick(&fetched, &key())
        };
        self.check(at, bounds, stored);
    }

    /// Reads the log to its end, as `LogFollower` of the app does.
    async fn read_log(&self, at: usize, is_first: bool) {
        let replica = &self.replicas[at];
        let Some(mut reader) = replica.log.lock().expect("no panic").take() else {
            return;
        };
        let confirmed = self.seen().confirmed;
        let polled = reader.poll().await;
        if let Ok(polled) = polled {
            if is_first {
                replica.cache.apply(&ReplicaEvent::Lost);
            }
            replica.time.apply(polled.time);
            polled
                .events
                .iter()
                .for_each(|event| replica.cache.apply(event));
            if !polled.more {
                let mut seen = self.seen();
                seen.void_before[at] = seen.void_before[at].max(confirmed);
            }
        }
        *replica.log.lock().expect("no panic") = Some(reader);
    }

    fn check(&self, at: usize, bounds: Bounds, stored: Option<Stored>) {
        let Some(stored) = stored else {
            return;
        };
        let load = self.seen().loads[samples::load_of(&stored.entry)];
        let source = stored.source;
        assert!(
            load.began >= bounds.void_before,
            "replica {at}: {load:?} of {source:?} from before an invalidation at {}",
            bounds.void_before
        );
        let is_ordered = !self.scenario.invalidates && self.scenario.fails_one_in == 0;
        // What is said of one answer may drop a later one from memory. Then the answer of an
        // earlier load is there until Redis has told that load that it is superseded.
        let is_ordered =
            is_ordered && (load.ended || self.scenario.about != Some(About::Replacement));
        assert!(
            !is_ordered || load.asked >= bounds.latest,
            "replica {at}: {load:?} of {source:?} although a later one was stored at {}",
            bounds.latest
        );
    }

    async fn check_the_end(&self) {
        for at in 0..2 {
            self.read_log(at, false).await;
        }
        let latest = self.seen().latest.into_iter().max().unwrap_or(0);
        for at in 0..2 {
            let bounds = Bounds {
                latest,
                ..self.seen().bounds(at)
            };
            let stored = self.replicas[at].cache.lookup(&question(), &key()).await;
            let must = latest > 0 && !self.scenario.invalidates;
            assert!(
                !must || stored.is_some(),
                "replica {at} has lost the answer"
            );
            self.check(at, bounds, stored);
        }
        sleep(Duration::from_secs(2)).await;
        self.load(one_of(&[0, 1])).await;
        for at in 0..2 {
            let stored = self.replicas[at].cache.lookup(&question(), &key()).await;
            assert!(stored.is_some(), "replica {at} does not find the last load");
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic")
    }
}

/// What a look-up that begins now may not return.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    void_before: u64,
    latest: u64,
}

impl Seen {
    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn bounds(&self, at: usize) -> Bounds {
        Bounds {
            void_before: self.void_before[at],
            latest: self.latest[at],
        }
    }
}
