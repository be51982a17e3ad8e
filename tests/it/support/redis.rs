//! A real redis-server on a free port, with nothing on disk, that can be stopped, paused and
//! started again.

use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use contactd::cache::RedisTier;
use contactd::clock::{sleep, timeout};
use contactd::redis_link::{self, DataToken, Link, Reads};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prometheus_client::metrics::gauge::Gauge;
use redis::FromRedisValue;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::outside::program;
use super::ports::free_port;

pub(crate) struct RedisServer {
    pub(crate) port: u16,
    pub(crate) dir: TempDir,
    args: Vec<String>,
    env: Vec<(String, String)>,
    child: Option<Child>,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A server with further arguments, such as `["--requirepass", "pw"]`.
    pub(crate) async fn with(args: &[&str]) -> Self {
        let mut server = Self::on(free_port(), args);
        server.restart().await;
        server
    }

    /// A server that is not running yet.
    pub(crate) fn on(port: u16, args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self {
            port,
            dir: tempfile::tempdir().unwrap(),
            args,
            env: Vec::new(),
            child: None,
        }
    }

    /// The same with this in its environment.
    pub(crate) fn with_env(mut self, env: &[(String, String)]) -> Self {
        self.env.extend_from_slice(env);
        self
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it on the same port, empty unless its folder has a snapshot, and waits until it
    /// listens.
    pub(crate) async fn restart(&mut self) {
        self.stop();
        let port = self.port.to_string();
        let mut command = program("redis-server");
        if !self.args.iter().any(|arg| arg == "--sentinel") {
            command.args(["--port", &port, "--save", "", "--appendonly", "no"]);
        }
        let child = command
            .args(&self.args)
            .envs(self.env.iter().cloned())
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server starts"));
        let port = self.port;
        let listening = timeout(Duration::from_secs(10), async {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(
            listening.await.is_some(),
            "redis-server does not listen on port {port}"
        );
    }

    /// Ends it without a farewell.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it in its tracks: its sockets stay open and nobody answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().expect("the server runs").id();
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// Runs one command beside the code under test, without a password.
    pub(crate) fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client
            .get_connection_with_timeout(Duration::from_secs(5))
            .unwrap();
        let mut cmd = redis::Cmd::new();
        for word in words {
            cmd.arg(*word);
        }
        cmd.query(&mut connection).unwrap()
    }

    pub(crate) fn flush(&self) {
        self.run::<()>(&["FLUSHALL"]);
    }

    /// Its keys and their data, for [`RedisServer::set_back`].
    pub(crate) fn dump(&self) -> Dump {
        let keys = self.keys().into_iter();
        keys.map(|key| (key.clone(), self.run(&["DUMP", &key])))
            .collect()
    }

    /// As the data was when its keys were dumped, and nothing that came later.
    pub(crate) fn set_back(&self, dumped: &Dump) {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut all = redis::pipe();
        all.atomic().cmd("FLUSHALL");
        for (key, data) in dumped.iter().filter(|(_, data)| !data.is_empty()) {
            all.cmd("RESTORE").arg(key).arg(0).arg(data);
        }
        all.exec(&mut connection).unwrap();
    }

    /// The names of all keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
        loop {
            let (next, batch): (String, Vec<String>) =
                self.run(&["SCAN", &cursor, "COUNT", "1000"]);
            keys.extend(batch);
            if next == "0" {
                keys.sort_unstable();
                keys.dedup();
                return keys;
            }
            cursor = next;
        }
    }
}

/// Keys, and what `DUMP` returned for each.
pub(crate) type Dump = Vec<(String, Vec<u8>)>;

pub(crate) fn config(url: &str) -> redis_link::LinkConfig {
    redis_link::LinkConfig {
        url: url.parse().unwrap(),
        key_prefix: "contactd".parse().unwrap(),
        timeout: Duration::from_millis(50),
        // The same for all URLs, so that replicas agree even if they reach one Redis by different
        // URLs.
        secret: Some(redis_link::SharedSecret::new([7; 32])),
        ca: None,
    }
}

/// A link to `url` with its keeper running, and its gauge.
pub(crate) fn link_with(config: &redis_link::LinkConfig) -> (Link, Gauge) {
    let up = Gauge::default();
    let (link, keeper) = Link::new(config, up.clone()).unwrap();
    TaskTracker::new().spawn(keeper.run());
    (link, up)
}

/// A link for tests of what Redis keeps, on machines that may be busy.
pub(crate) fn link_to(url: &str) -> Link {
    let patient = redis_link::LinkConfig {
        timeout: Duration::from_secs(1),
        ..config(url)
    };
    link_with(&patient).0
}

pub(crate) fn tier_on(link: Link) -> RedisTier {
    RedisTier::new(link.clone(), Reads::new(link, TaskTracker::new()))
}

/// A data token, for tests without a log.
pub(crate) fn data() -> DataToken {
    DataToken::read(b"the data").unwrap()
}
