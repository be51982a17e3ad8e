//! The Redis that replicas share, and the one that takes over from it.

use std::fs;
use std::time::Duration;

use contactd::clock;

use super::Soak;
use super::troubles::Whose;
use crate::support::clocks::FakeClock;
use crate::support::ports::free_port;
use crate::support::redis::RedisServer;

/// Two servers with one clock. Only one runs, except while the other becomes its copy.
pub(crate) struct RedisPair {
    servers: [RedisServer; 2],
    current: usize,
    clock: FakeClock,
}

impl RedisPair {
    pub(crate) async fn start(clock: FakeClock) -> Self {
        let server = || RedisServer::on(free_port(), &[]).with_env(&clock.env());
        let mut servers = [server(), server()];
        servers[0].restart().await;
        Self {
            servers,
            current: 0,
            clock,
        }
    }

    pub(crate) fn current(&self) -> &RedisServer {
        &self.servers[self.current]
    }

    pub(crate) fn step(&self, by: Duration, forward: bool) {
        self.clock.step(by, forward);
    }

    /// Starts the other server as a copy of the current one. The copy gets no further changes.
    async fn copy(&mut self) {
        let port = self.current().port.to_string();
        let other = &mut self.servers[1 - self.current];
        remove_snapshot(other);
        other.restart().await;
        other.run::<()>(&["REPLICAOF", "127.0.0.1", &port]);
        while !other
            .run::<String>(&["INFO", "replication"])
            .contains("master_link_status:up")
        {
            clock::sleep(Duration::from_millis(20)).await;
        }
        other.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    }
}

fn remove_snapshot(server: &RedisServer) {
    let _ = fs::remove_file(server.dir.path().join("dump.rdb"));
}

impl Soak {
    /// Redis loses data meanwhile.
    pub(crate) async fn loses(&self, lose: impl AsyncFnOnce()) {
        self.troubles.begins(Whose::RedisData);
        lose().await;
        self.troubles.ends(Whose::RedisData);
    }

    pub(crate) async fn restart_empty(&self, redis: &mut RedisPair, away: Duration) {
        let server = &mut redis.servers[redis.current];
        self.loses(async || {
            server.stop();
            remove_snapshot(server);
            clock::sleep(away).await;
            server.restart().await;
        })
        .await;
    }

    /// Redis ends and comes back with older data: that of a moment `old` before it ended.
    pub(crate) async fn restart_old(&self, redis: &mut RedisPair, old: Duration, away: Duration) {
        let server = &mut redis.servers[redis.current];
        server.run::<()>(&["SAVE"]);
        clock::sleep(old).await;
        self.loses(async || {
            server.stop();
            clock::sleep(away).await;
            server.restart().await;
        })
        .await;
        remove_snapshot(server);
    }

    /// A copy that lags behind takes over.
    pub(crate) async fn fail_over(&self, redis: &mut RedisPair, lag: Duration) {
        redis.copy().await;
        clock::sleep(lag).await;
        self.loses(async || {
            redis.current = 1 - redis.current;
            let port = redis.current().port;
            for replica in &self.replicas {
                replica.to_redis.leads_to(([127, 0, 0, 1], port).into());
                replica.to_redis.hang_up();
            }
            redis.servers[1 - redis.current].stop();
        })
        .await;
    }

    /// Redis has no memory left for `lasts`, and does what its `policy` requires.
    pub(crate) async fn full(&self, redis: &RedisPair, policy: &str, lasts: Duration) {
        self.loses(async || {
            let set = |name, value| redis.current().run::<()>(&["CONFIG", "SET", name, value]);
            set("maxmemory-policy", policy);
            set("maxmemory", "1");
            clock::sleep(lasts).await;
            set("maxmemory", "0");
        })
        .await;
    }
}
