//! Does what the plan says.

use std::time::Duration;

use contactd::clock;
use futures_util::future::join_all;

use super::Soak;
use super::plan::{Fault, Kind, Lane};
use super::redis::RedisPair;
use super::replica::Replica;
use super::troubles::Whose;
use crate::support::chaos::Mode;

impl Soak {
    /// Carries out the faults of the replicas' lane.
    pub(crate) async fn trouble_replicas(&self) {
        for fault in self.faults_of(Lane::Replicas) {
            if !self.waits_for(fault).await {
                break;
            }
            self.trouble_replica(fault).await;
            self.verdicts.ends(fault.kind);
        }
    }

    async fn trouble_replica(&self, fault: &Fault) {
        let replica = &self.replicas[fault.replica];
        let all = self.replicas.iter().skip(usize::from(fault.spares_first));
        match fault.kind {
            Kind::ReplicaKilled => self.kill(replica, fault.lasts).await,
            Kind::ReplicasAllKilled => {
                join_all(all.map(|replica| self.kill(replica, fault.lasts))).await;
            }
            Kind::ReplicaStopped => self.freeze(replica, fault.lasts).await,
            Kind::ReplicasRolled => {
                for replica in all {
                    self.roll(replica).await;
                }
            }
            Kind::ReplicaCutOff => self.part(replica, Mode::Refuse, fault.lasts).await,
            Kind::ReplicaStalledOff => self.part(replica, Mode::Stall, fault.lasts).await,
            kind => replica
                .clock
                .step(fault.by, kind == Kind::ReplicaClockForward),
        }
    }

    /// A replica does not reach Redis for `lasts`.
    async fn part(&self, replica: &Replica, mode: Mode, lasts: Duration) {
        self.troubles.begins(Whose::WayToRedis(replica.index));
        replica.to_redis.becomes(mode).await;
        clock::sleep(lasts).await;
        replica.to_redis.restore().await;
        self.troubles.ends(Whose::WayToRedis(replica.index));
    }

    /// Carries out the faults of Redis' lane.
    pub(crate) async fn trouble_redis(&self, mut redis: RedisPair) -> RedisPair {
        for fault in self.faults_of(Lane::Redis) {
            if !self.waits_for(fault).await {
                break;
            }
            self.trouble_one_redis(fault, &mut redis).await;
            self.verdicts.ends(fault.kind);
        }
        redis
    }

    async fn trouble_one_redis(&self, fault: &Fault, redis: &mut RedisPair) {
        let lasts = fault.lasts;
        match fault.kind {
            Kind::RedisRestartedEmpty => self.restart_empty(redis, lasts).await,
            Kind::RedisRestartedOld => self.restart_old(redis, fault.by, lasts).await,
            Kind::RedisFailedOver => self.fail_over(redis, fault.by).await,
            Kind::RedisFlushed => self.loses(async || redis.current().flush()).await,
            Kind::RedisStopped => {
                self.troubles.begins(Whose::Redis);
                redis.current().pause();
                clock::sleep(lasts).await;
                redis.current().resume();
                self.troubles.ends(Whose::Redis);
            }
            Kind::RedisCut => self.all_ways(Mode::Cut, lasts).await,
            Kind::RedisStalled => self.all_ways(Mode::Stall, lasts).await,
            Kind::RedisRefused => self.all_ways(Mode::Refuse, lasts).await,
            Kind::RedisSlow => self.all_ways(Mode::Slow(fault.by), lasts).await,
            Kind::RedisHungUp => {
                self.troubles.begins(Whose::Redis);
                self.replicas
                    .iter()
                    .for_each(|replica| replica.to_redis.hang_up());
                self.troubles.ends(Whose::Redis);
            }
            Kind::RedisFull => self.full(redis, "noeviction", lasts).await,
            Kind::RedisEvicted => self.full(redis, "allkeys-random", lasts / 4).await,
            kind => redis.step(fault.by, kind == Kind::RedisClockForward),
        }
    }

    async fn all_ways(&self, mode: Mode, lasts: Duration) {
        self.troubles.begins(Whose::Redis);
        join_all(
            self.replicas
                .iter()
                .map(|replica| replica.to_redis.becomes(mode)),
        )
        .await;
        clock::sleep(lasts).await;
        join_all(
            self.replicas
                .iter()
                .map(|replica| replica.to_redis.restore()),
        )
        .await;
        self.troubles.ends(Whose::Redis);
    }

    /// Carries out the faults of the CRM's lane.
    pub(crate) async fn trouble_crm(&self) {
        for fault in self.faults_of(Lane::Crm) {
            if !self.waits_for(fault).await {
                break;
            }
            self.crm.becomes(Some(fault.kind));
            clock::sleep(fault.lasts).await;
            self.crm.becomes(None);
            self.verdicts.ends(fault.kind);
        }
    }

    fn faults_of(&self, lane: Lane) -> impl Iterator<Item = &Fault> {
        self.plan.iter().filter(move |fault| fault.lane == lane)
    }

    /// Waits for the moment of a fault. Returns false if the run ends before that.
    async fn waits_for(&self, fault: &Fault) -> bool {
        let waited = self.until(self.moment(fault.at)).await;
        if waited {
            self.verdicts.begins(fault.kind);
        }
        waited
    }
}
