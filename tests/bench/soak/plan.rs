//! Which faults happen when: computed from the seed before anything starts.
//!
//! There are three lanes: the replicas, Redis, and the CRM. A lane has one fault at a time; faults
//! of different lanes overlap. Each lane draws its kinds like cards from a deck, so that all of
//! them come before one comes again.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use super::REPLICAS;

/// What a fault is. The first word of its name says whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ReplicaKilled,
    ReplicasAllKilled,
    ReplicaStopped,
    ReplicasRolled,
    ReplicaCutOff,
    ReplicaStalledOff,
    ReplicaClockForward,
    ReplicaClockBack,
    RedisRestartedEmpty,
    RedisRestartedOld,
    RedisStopped,
    RedisFlushed,
    RedisCut,
    RedisStalled,
    RedisRefused,
    RedisSlow,
    RedisHungUp,
    RedisFull,
    RedisEvicted,
    RedisFailedOver,
    RedisClockForward,
    RedisClockBack,
    CrmSlow,
    CrmSlowDetails,
    CrmStalled,
    CrmCut,
    CrmLimiting,
    CrmLimitingSilently,
    CrmFailing,
    CrmHostile,
    CrmLowerLimit,
}

const REPLICAS_LANE: &[Kind] = &[
    Kind::ReplicaKilled,
    Kind::ReplicasAllKilled,
    Kind::ReplicaStopped,
    Kind::ReplicasRolled,
    Kind::ReplicaCutOff,
    Kind::ReplicaStalledOff,
    Kind::ReplicaClockForward,
    Kind::ReplicaClockBack,
];
const REDIS_LANE: &[Kind] = &[
    Kind::RedisRestartedEmpty,
    Kind::RedisRestartedOld,
    Kind::RedisStopped,
    Kind::RedisFlushed,
    Kind::RedisCut,
    Kind::RedisStalled,
    Kind::RedisRefused,
    Kind::RedisSlow,
    Kind::RedisHungUp,
    Kind::RedisFull,
    Kind::RedisEvicted,
    Kind::RedisFailedOver,
    Kind::RedisClockForward,
    Kind::RedisClockBack,
];
const CRM_LANE: &[Kind] = &[
    Kind::CrmSlow,
    Kind::CrmSlowDetails,
    Kind::CrmStalled,
    Kind::CrmCut,
    Kind::CrmLimiting,
    Kind::CrmLimitingSilently,
    Kind::CrmFailing,
    Kind::CrmHostile,
    Kind::CrmLowerLimit,
];

/// How many kinds there are.
pub(crate) const KINDS: usize = REPLICAS_LANE.len() + REDIS_LANE.len() + CRM_LANE.len();

/// The part of the system that a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Replicas,
    Redis,
    Crm,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Replicas, Self::Redis, Self::Crm];

    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Replicas => REPLICAS_LANE,
            Self::Redis => REDIS_LANE,
            Self::Crm => CRM_LANE,
        }
    }

    /// From the end of a fault to the next one, in milliseconds. An answer is judged by all rules
    /// only some seconds after Redis is back, so its faults are further apart.
    fn gap(self, is_short: bool) -> std::ops::Range<u64> {
        match (self, is_short) {
            (Self::Redis, true) => 2_000..5_000,
            (Self::Redis, false) => 3_000..12_000,
            (_, true) => 500..2_500,
            (_, false) => 1_000..8_000,
        }
    }
}

/// A fault that will happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) lane: Lane,
    /// Since the beginning, without rests.
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) kind: Kind,
    /// The replica that it hits, if it hits one.
    pub(crate) replica: usize,
    /// How far a clock is set, how much later a reply comes, or how far a Redis lags behind.
    pub(crate) by: Duration,
    /// Whether replica 0 is spared, so that its memory is that of one long life.
    pub(crate) spares_first: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            lasts,
            kind,
            by,
            ..
        } = self;
        write!(f, "{:>9.3} s  {kind:?}", at.as_secs_f64())?;
        if kind.hits_one_replica() {
            write!(f, " {}", self.replica)?;
        }
        if !kind.is_instant() {
            write!(f, ", {:.1} s", lasts.as_secs_f64())?;
        }
        if kind.has_amount() {
            write!(f, ", by {:.1} s", by.as_secs_f64())?;
        }
        Ok(())
    }
}

impl Kind {
    fn hits_one_replica(self) -> bool {
        matches!(
            self,
            Self::ReplicaKilled
                | Self::ReplicaStopped
                | Self::ReplicaCutOff
                | Self::ReplicaStalledOff
                | Self::ReplicaClockForward
                | Self::ReplicaClockBack
        )
    }

    fn is_instant(self) -> bool {
        matches!(
            self,
            Self::ReplicaClockForward
                | Self::ReplicaClockBack
                | Self::RedisFlushed
                | Self::RedisHungUp
                | Self::RedisFailedOver
                | Self::RedisClockForward
                | Self::RedisClockBack
        )
    }

    fn has_amount(self) -> bool {
        matches!(
            self,
            Self::ReplicaClockForward
                | Self::ReplicaClockBack
                | Self::RedisClockForward
                | Self::RedisClockBack
                | Self::RedisRestartedOld
                | Self::RedisFailedOver
                | Self::RedisSlow
        )
    }

    fn amount(self, rng: &mut Rng) -> Duration {
        Duration::from_millis(match self {
            Self::RedisSlow => rng.u64(5..40),
            Self::RedisRestartedOld | Self::RedisFailedOver => rng.u64(500..4_000),
            // Half of them by as much as an answer lives, the others by hours.
            _ if rng.bool() => rng.u64(2_000..20_000),
            _ => rng.u64(60_000..7_200_000),
        })
    }
}

/// A run's times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) length: Duration,
    /// Without faults, at the beginning and at the end.
    pub(crate) calm: Duration,
    /// When everybody rests, if the run is long enough to judge memory.
    pub(crate) rest_at: Option<Duration>,
}

impl Times {
    pub(crate) fn of(length: Duration, judges_memory: bool) -> Self {
        Self {
            length,
            calm: (length / 6).min(Duration::from_secs(60)),
            rest_at: judges_memory.then(|| length / 4),
        }
    }

    /// No fault reaches into the rest, or into what is calm.
    fn may_have(&self, fault: &Fault) -> bool {
        let end = fault.at + fault.lasts + Duration::from_secs(8);
        end < self.length - self.calm
            && self
                .rest_at
                .is_none_or(|rest| end < rest || fault.at > rest)
    }
}

/// All faults of a run, in their order.
pub(crate) fn plan(seed: u64, times: Times) -> Vec<Fault> {
    let mut all = Vec::new();
    for lane in Lane::ALL {
        let mut rng = Rng::with_seed(seed.wrapping_mul(3).wrapping_add(lane as u64));
        let (mut at, mut deck) = (times.calm, Vec::new());
        loop {
            let is_short = times.length < Duration::from_secs(300);
            at += Duration::from_millis(rng.u64(lane.gap(is_short)));
            if at > times.length {
                break;
            }
            if deck.is_empty() {
                deck = lane.kinds().to_vec();
                rng.shuffle(&mut deck);
            }
            let Some(kind) = deck.pop() else { break };
            // It must have lived under load before the first rest too: a process that has just
            // started has less.
            let spares_first = times.rest_at.is_some_and(|rest| at > rest / 2);
            let fault = Fault {
                lane,
                at,
                lasts: Duration::from_millis(rng.u64(200..3_000)),
                kind,
                replica: if spares_first && kind == Kind::ReplicaKilled {
                    rng.usize(1..REPLICAS)
                } else {
                    rng.usize(..REPLICAS)
                },
                by: kind.amount(&mut rng),
                spares_first,
            };
            if times.may_have(&fault) {
                at += fault.lasts;
                all.push(fault);
            }
        }
    }
    all.sort_by_key(|fault| fault.at);
    all
}
