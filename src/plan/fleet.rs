//! The replicas of a replay: the memory of each, the Redis that they share, and which credentials
//! they trust.

use super::stored::{Answers, Kept};
use super::terms::Terms;
use super::tier::{Tier, TierPeak};
use crate::admission::{AdmissionConfig, Credential};
use crate::domain::{Freshness, Identity, Source};
use crate::resolver::StoredFacts;
use std::time::Duration;

/// Bytes of an answer in Redis besides the encoded answer: tokens and a record's head (see
/// `cache::layout`), the key, its place in the user's index, and what Redis 7 needs for all of
/// them. Measured as `used_memory` per answer (deploy/RUNBOOK.md#redis).
const IN_REDIS: u64 = 430;

/// See the header. Times are milliseconds since the Unix epoch.
pub(super) struct Fleet {
    answers: Answers,
    config: AdmissionConfig,
    replicas: Vec<Replica>,
    redis: Option<Shared>,
    jitter: fastrand::Rng,
}

struct Replica {
    memory: Tier,
    /// By user: when the CRM last accepted the credential; zero if never.
    admitted: Vec<u64>,
}

struct Shared {
    answers: Tier,
    admitted: Vec<u64>,
}

impl Fleet {
    /// Replicas that know nothing.
    pub(super) fn new(terms: &Terms, users: usize) -> Self {
        let replica = |_| Replica {
            memory: Tier::new(terms.memory),
            admitted: vec![0; users],
        };
        Self {
            answers: Answers::new(terms),
            config: terms.admission(),
            replicas: (0..terms.replicas.get()).map(replica).collect(),
            redis: terms.has_redis.then(|| Shared {
                answers: Tier::new(u64::MAX),
                admitted: vec![0; users],
            }),
            jitter: fastrand::Rng::with_seed(terms.seed),
        }
    }

    /// What a replica itself knows of a user's credential.
    pub(super) fn known(&self, replica: u32, user: u32, now: u64) -> Option<Credential> {
        self.judge(self.replicas[replica as usize].admitted[user as usize], now)
    }

    /// The same, or what it learns from Redis.
    pub(super) fn credential(&mut self, replica: u32, user: u32, now: u64) -> Option<Credential> {
        let known = self.known(replica, user, now);
        if known.is_some_and(|known| known.is_verified()) {
            return known;
        }
        let shared = self
            .redis
            .as_ref()
            .map(|redis| redis.admitted[user as usize]);
        let learnt = shared.and_then(|asked| self.judge(asked, now));
        if let (Some(asked), Some(_)) = (shared, learnt) {
            later(
                &mut self.replicas[replica as usize].admitted[user as usize],
                asked,
            );
        }
        learnt.or(known)
    }

    /// The CRM has accepted a user's credential in a call that began at `asked`.
    pub(super) fn admit(&mut self, replica: u32, user: u32, asked: u64) {
        later(
            &mut self.replicas[replica as usize].admitted[user as usize],
            asked,
        );
        if let Some(redis) = &mut self.redis {
            later(&mut redis.admitted[user as usize], asked);
        }
    }

    fn judge(&self, asked: u64, now: u64) -> Option<Credential> {
        let age = Duration::from_millis(now - asked);
        let was_asked = asked > 0;
        was_asked.then(|| Credential::judge(Identity::Caller, age, self.config))?
    }

    /// The answer in a replica's memory, if it may be served.
    pub(super) fn in_memory(
        &mut self,
        replica: u32,
        question: u32,
        now: u64,
    ) -> Option<StoredFacts> {
        let kept = self.replicas[replica as usize].memory.get(question, now)?;
        self.answers.judged(&kept, now)
    }

    /// The answer in a replica's memory, or in Redis. The latter is then kept in memory too.
    pub(super) fn pick(
        &mut self,
        replica: u32,
        question: u32,
        now: u64,
    ) -> Option<(StoredFacts, Source)> {
        match self.in_memory(replica, question, now) {
            Some(facts) => Some((facts, Source::Memory)),
            None => Some((self.promote(replica, question, now)?, Source::Redis)),
        }
    }

    /// A stored answer that makes a load unnecessary.
    pub(super) fn good_enough(&mut self, replica: u32, question: u32, now: u64) -> Option<Source> {
        let is_fresh = |facts: &StoredFacts| facts.freshness == Freshness::Fresh;
        let in_memory = self.in_memory(replica, question, now);
        if in_memory.as_ref().is_some_and(is_fresh) {
            return Some(Source::Memory);
        }
        let in_redis = self.promote(replica, question, now);
        in_redis
            .as_ref()
            .is_some_and(is_fresh)
            .then_some(Source::Redis)
    }

    /// Copies an answer of Redis into a replica's memory, if it may be served.
    pub(super) fn promote(&mut self, replica: u32, question: u32, now: u64) -> Option<StoredFacts> {
        let kept = self.redis.as_mut()?.answers.get(question, now)?;
        let facts = self.answers.judged(&kept, now)?;
        self.keep(replica, question, kept, now);
        Some(facts)
    }

    /// A load that began at `asked` has ended: its answer is stored in both tiers.
    pub(super) fn store(
        &mut self,
        replica: u32,
        question: u32,
        (is_found, asked): (bool, u64),
        now: u64,
    ) {
        let before = self.replicas[replica as usize].memory.get(question, now);
        let is_old = |kept: &Kept| {
            let facts = self.answers.judged(kept, now);
            facts.is_some_and(|facts| facts.freshness != Freshness::Fresh)
        };
        let before = before.filter(is_old);
        let jitter = self.jitter.u8(..);
        let kept = self
            .answers
            .loaded(is_found, (asked, jitter), before.as_ref());
        self.keep(replica, question, kept, now);
        if let Some(redis) = &mut self.redis {
            let bytes = self.answers.bytes(&kept) as u64 + IN_REDIS;
            redis.answers.store(question, kept, bytes, now);
        }
    }

    fn keep(&mut self, replica: u32, question: u32, kept: Kept, now: u64) {
        let bytes = self.answers.weight(&kept);
        let memory = &mut self.replicas[replica as usize].memory;
        memory.store(question, kept, bytes, now);
    }

    /// The peak of each replica's memory, and of Redis.
    pub(super) fn peaks(&self) -> (Vec<TierPeak>, Option<TierPeak>) {
        let memory = self.replicas.iter().map(|replica| replica.memory.peak());
        let redis = self.redis.as_ref().map(|redis| redis.answers.peak());
        (memory.collect(), redis)
    }
}

/// Never replaces a later time.
fn later(known: &mut u64, asked: u64) {
    *known = (*known).max(asked);
}
