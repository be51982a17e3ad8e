//! A real Redis Cluster of three nodes on loopback, without replicas.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Stdio};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, FromRedisValue, cmd};
use contactd::clock;

use super::outside::program;
use super::ports::free_port;

const NODES: u16 = 3;
const SLOTS: u16 = 16_384;

/// How long the nodes may take to find each other.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The cluster; its nodes end when it is dropped.
pub(crate) struct RedisCluster {
    nodes: Vec<Node>,
}

struct Node {
    port: u16,
    bus: u16,
    server: Child,
    dir: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Node {
    fn start(port: u16, bus: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            port,
            bus,
            server: Self::spawn(port, bus, &dir),
            dir,
        }
    }

    fn spawn(port: u16, bus: u16, dir: &tempfile::TempDir) -> Child {
        let [port_text, bus_text] = [port, bus].map(|port| port.to_string());
        program("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port_text,
                "--cluster-port",
                &bus_text,
            ])
            .args([
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed")
    }

    fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    async fn connect(&self) -> ::redis::RedisResult<MultiplexedConnection> {
        Client::open(format!("redis://{}/", self.addr()))
            .unwrap()
            .get_multiplexed_async_connection()
            .await
    }

    async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> ::redis::RedisResult<T> {
        let mut connection = self.connect().await?;
        let (name, args) = command.split_first().unwrap();
        let mut command = cmd(name);
        for arg in args {
            command.arg(*arg);
        }
        command.query_async(&mut connection).await
    }

    async fn is_up(&mut self) -> bool {
        while self.ask::<String>(&["PING"]).await.is_err() {
            // A port that somebody else took first.
            if self.server.try_wait().unwrap().is_some() {
                return false;
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

impl RedisCluster {
    /// Starts three nodes, shares the slots among them and waits until all of them serve.
    pub(crate) async fn start() -> Self {
        let ready = clock::timeout(READY_WITHIN, async {
            loop {
                if let Some(cluster) = Self::try_start().await {
                    return cluster;
                }
            }
        });
        ready.await.expect("the cluster is up in time")
    }

    async fn try_start() -> Option<Self> {
        let mut nodes = Vec::new();
        for (port, bus) in free_ports() {
            nodes.push(Node::start(port, bus));
        }
        for node in &mut nodes {
            if !node.is_up().await {
                return None;
            }
        }
        let cluster = Self { nodes };
        cluster.form().await.unwrap();
        while !cluster.all_are_ok().await {
            clock::sleep(Duration::from_millis(20)).await;
        }
        Some(cluster)
    }

    async fn form(&self) -> ::redis::RedisResult<()> {
        let (first, share) = (&self.nodes[0], SLOTS / NODES);
        for (node, turn) in self.nodes.iter().zip(0..) {
            let start = turn * share;
            let end = if turn + 1 == NODES {
                SLOTS
            } else {
                start + share
            } - 1;
            let [start, end, epoch] = [start, end, turn + 1].map(|number| number.to_string());
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &start, &end])
                .await?;
            // Equal epochs would be told apart, but only after a while.
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .await?;
        }
        for node in &self.nodes[1..] {
            let [port, bus] = [node.port, node.bus].map(|port| port.to_string());
            first
                .ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])
                .await?;
        }
        Ok(())
    }

    async fn all_are_ok(&self) -> bool {
        for node in &self.nodes {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
            if ![
                "cluster_state:ok",
                "cluster_known_nodes:3",
                "cluster_slots_ok:16384",
            ]
            .iter()
            .all(|is| info.contains(is))
            {
                return false;
            }
        }
        true
    }

    /// The nodes.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::addr).collect()
    }

    /// The URL of the settings.
    pub(crate) fn url(&self) -> String {
        let addrs: Vec<String> = self.addrs().iter().map(ToString::to_string).collect();
        format!("redis+cluster://{}", addrs.join(","))
    }

    /// A URL of each node, as the redis crate reads it.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.addrs()
            .iter()
            .map(|addr| format!("redis://{addr}/"))
            .collect()
    }

    /// The keys of each node that is up.
    pub(crate) async fn keys(&self) -> Vec<Vec<String>> {
        let mut keys = Vec::new();
        for node in &self.nodes {
            keys.push(node.ask(&["KEYS", "*"]).await.unwrap_or_default());
        }
        keys
    }

    /// Ends one node at once, as if its machine were gone.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].server.kill().unwrap();
        self.nodes[node].server.wait().unwrap();
    }

    /// Starts a killed node again, with its slots and without its keys, and waits until the cluster
    /// serves.
    pub(crate) async fn restart(&mut self, node: usize) {
        let again = &mut self.nodes[node];
        again.server = Node::spawn(again.port, again.bus, &again.dir);
        let ready = clock::timeout(READY_WITHIN, async {
            while !self.all_are_ok().await {
                clock::sleep(Duration::from_millis(20)).await;
            }
        });
        ready.await.expect("the cluster is whole again in time");
    }
}

/// Ports for clients and for the nodes among themselves, one pair a node.
fn free_ports() -> Vec<(u16, u16)> {
    (0..NODES).map(|_| (free_port(), free_port())).collect()
}

#[cfg(test)]
mod tests {
    use ::redis::AsyncCommands as _;
    use ::redis::cluster::ClusterClient;

    use super::*;

    #[tokio::test]
    async fn keys_are_spread_over_the_nodes_and_a_tag_keeps_them_together() {
        let mut cluster = RedisCluster::start().await;
        let mut client = ClusterClient::new(cluster.urls())
            .unwrap()
            .get_async_connection()
            .await
            .unwrap();
        for number in 0..30 {
            let () = client.set(format!("alone-{number}"), number).await.unwrap();
            let () = client
                .set(format!("{{user}}-{number}"), number)
                .await
                .unwrap();
        }
        let of_user =
            |keys: &Vec<String>| keys.iter().filter(|key| key.starts_with("{user}")).count();
        let keys = cluster.keys().await;
        assert_eq!(keys.iter().map(Vec::len).sum::<usize>(), 60);
        assert!(
            keys.iter().all(|keys| keys.len() > of_user(keys)),
            "every node has keys of its own"
        );
        assert_eq!(keys.iter().filter(|keys| of_user(keys) == 30).count(), 1);

        let owner = keys.iter().position(|keys| of_user(keys) == 30).unwrap();
        cluster.kill(owner);
        assert!(
            tokio::net::TcpStream::connect(cluster.addrs()[owner])
                .await
                .is_err()
        );
        assert!(cluster.keys().await[owner].is_empty());
    }
}
