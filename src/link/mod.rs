//! The one connection to Redis.
//!
//! Owns the connection, its limits and its breaker. Promises that a call ends within `redis.timeout`, whatever Redis
//! does, and that start-up waits for nothing. Knows nothing of what is stored.
//!
//! A [`Link`] is handed to everything that talks to Redis; its [`Keeper`] runs in the background and is the only one
//! that connects. A connection that breaks, or that leaves three calls in a row without an answer (a stopped server
//! keeps its sockets open), is given up: calls fail at once with [`LinkError::Down`] until the keeper has a new
//! connection that answers a PING within the timeout. So a dead Redis costs nothing after the first calls, a slow one
//! is not taken for a sound one, and both come back by themselves. After a call without an answer the next ones wait
//! for a part of the timeout only, so that the calls of one look-up do not add up to many times the timeout. An error
//! of one command (wrong type, read-only, full, not permitted) says nothing about the connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Script};
use tokio::sync::watch;

use crate::clock::{self, Stopwatch};

mod breaker;
mod connect;
mod keeper;
mod names;
mod reads;
mod secret;
mod time;
mod url;
pub mod user;

use breaker::Breaker;
use connect::{Connection, Connector};
pub use keeper::Keeper;
pub use names::{KeyPrefix, KeyPrefixError, Names, PartyHash, hex};
pub use reads::Reads;
pub use secret::{SharedSecret, derive_secret};
pub use time::RedisTime;
pub use url::{RedisUrl, RedisUrlError};

/// How long one attempt to connect may take, name resolution and TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The part of the timeout for a call after one that was not answered.
const DOUBT: u32 = 4;

/// Settings of the link.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where Redis is.
    pub url: RedisUrl,
    /// What the names of all keys begin with.
    pub key_prefix: KeyPrefix,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// The content of `redis.key_secret_file`; see [`derive_secret`].
    pub secret: Option<SharedSecret>,
    /// Certificates (PEM) to trust instead of the system's, for TLS.
    pub ca: Option<Vec<u8>>,
}

/// Why Redis gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection; nothing was asked.
    #[error("Redis is down")]
    Down,
    /// No answer in time. What was asked may have been done.
    #[error("Redis did not answer in time")]
    Timeout,
    /// The connection broke. What was asked may have been done.
    #[error("the connection to Redis broke")]
    Broken,
    /// Redis refused this command; the connection is sound. Holds the error's code (`WRONGTYPE`, `READONLY`, `OOM`,
    /// `NOPERM`), never its text.
    #[error("Redis refused: {0}")]
    Failed(String),
}

/// Options that cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("the connection to Redis cannot be set up: {0}")]
pub struct SetupError(RedisError);

/// The shared connection; clones are the same one.
#[derive(Clone)]
pub struct Link {
    status: Arc<watch::Sender<Status>>,
    timeout: Duration,
    names: Names,
    sharded: bool,
    /// Whether a refused write may mean that the master is another server by now.
    reconnect_on_read_only: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

/// What callers find.
#[derive(Clone)]
enum Status {
    /// A first attempt is under way: worth waiting for.
    Connecting,
    /// A connection that works as far as known.
    Up(Arc<Live>),
    /// The last attempt failed.
    Down,
}

/// How it stands with the connection, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The first attempt, or the first after a break, is under way; calls wait for it.
    Connecting,
    /// There is a connection that works as far as known.
    Up {
        /// Calls in a row that it left without an answer; the third one gives it up.
        failures: u32,
    },
    /// The breaker is open: calls fail at once, until an attempt to connect succeeds.
    Down,
}

/// A connection with its count of failures.
struct Live {
    connection: Connection,
    breaker: Breaker,
}

impl Link {
    /// A link that connects as soon as its keeper runs. Asks the network nothing. `up` is `contactd_redis_up`.
    ///
    /// # Errors
    /// Where the options can never work, such as certificates that cannot be read.
    pub fn new(config: &Config, up: Gauge) -> Result<(Self, Keeper), SetupError> {
        let connector = Connector::new(config).map_err(SetupError)?;
        let link = Self {
            status: Arc::new(watch::Sender::new(Status::Connecting)),
            timeout: config.timeout,
            names: Names::new(config.key_prefix.clone(), &derive_secret(config)),
            sharded: connector.shards(),
            reconnect_on_read_only: connector.may_find_another(),
        };
        let keeper = Keeper::new(connector, Arc::clone(&link.status), up, config);
        Ok((link, keeper))
    }

    /// Runs one command.
    ///
    /// # Errors
    /// [`LinkError`], within the timeout.
    pub async fn query<T: FromRedisValue>(&self, cmd: Cmd) -> Result<T, LinkError> {
        self.run(async |mut connection| cmd.query_async(&mut connection).await).await
    }

    /// Runs several commands in one round trip. On a cluster all their keys must share a hash slot.
    ///
    /// # Errors
    /// [`LinkError`], within the timeout; [`LinkError::Failed`] if any command was refused.
    pub async fn pipeline<T: FromRedisValue>(&self, pipe: Pipeline) -> Result<T, LinkError> {
        self.run(async |mut connection| pipe.query_async(&mut connection).await).await
    }

    /// Runs a script, by its hash where the server knows it. On a cluster all keys must share a hash slot.
    ///
    /// # Errors
    /// [`LinkError`], within the timeout.
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<T, LinkError> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        for arg in args {
            call.arg(*arg);
        }
        self.run(async |mut connection| call.invoke_async(&mut connection).await).await
    }

    /// Whether there is a connection that works as far as known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(*self.status.borrow(), Status::Up(_))
    }

    /// How it stands with the connection.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match &*self.status.borrow() {
            Status::Connecting => Standing::Connecting,
            Status::Up(live) => Standing::Up { failures: live.breaker.failures() },
            Status::Down => Standing::Down,
        }
    }

    /// A name of no user: the prefix and the parts, joined by colons. Braces in a part set the hash slot.
    #[must_use]
    pub fn key(&self, parts: &[&str]) -> String {
        self.names.shared(parts)
    }

    /// Whether the keys of two users may lie on two servers, so that one command cannot read both.
    #[must_use]
    pub fn is_sharded(&self) -> bool {
        self.sharded
    }

    /// The spelling of names.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    async fn run<T>(&self, ask: impl AsyncFnOnce(Connection) -> RedisResult<T>) -> Result<T, LinkError> {
        let watch = Stopwatch::start();
        let live = match self.up() {
            Some(live) => live,
            None => clock::within(self.timeout, self.live()).await.unwrap_or(Err(LinkError::Down))?,
        };
        let limit = if live.breaker.in_doubt() { self.timeout / DOUBT } else { self.timeout };
        let left = limit.saturating_sub(watch.elapsed());
        match clock::within(left, ask(live.connection.clone())).await {
            Some(Ok(answer)) => {
                live.breaker.succeeded();
                Ok(answer)
            }
            Some(Err(error)) => Err(self.judge(&live, &error)),
            None => {
                self.count_failure(&live);
                Err(LinkError::Timeout)
            }
        }
    }

    /// The connection, where there is one.
    fn up(&self) -> Option<Arc<Live>> {
        match &*self.status.borrow() {
            Status::Up(live) => Some(Arc::clone(live)),
            Status::Connecting | Status::Down => None,
        }
    }

    /// The connection; waits only for a first attempt.
    async fn live(&self) -> Result<Arc<Live>, LinkError> {
        let mut status = self.status.subscribe();
        let decided = status.wait_for(|status| !matches!(status, Status::Connecting)).await;
        match decided.as_deref() {
            Ok(Status::Up(live)) => Ok(Arc::clone(live)),
            _ => Err(LinkError::Down),
        }
    }

    /// What an error says about the connection.
    fn judge(&self, live: &Arc<Live>, error: &RedisError) -> LinkError {
        let code = error.code().unwrap_or_default();
        let locked_out = matches!(code, "NOAUTH" | "WRONGPASS");
        let stale_master = self.reconnect_on_read_only && code == "READONLY";
        let single = matches!(live.connection, Connection::Single(_));
        // A cluster connection mends itself, unless its failures add up.
        let broken = single && (error.is_unrecoverable_error() || error.is_io_error());
        if locked_out || stale_master || broken {
            self.give_up(live, Status::Connecting);
            return LinkError::Broken;
        }
        if error.is_io_error() || error.is_unrecoverable_error() || error.is_cluster_error() || is_not_ready(code) {
            self.count_failure(live);
            return LinkError::Broken;
        }
        live.breaker.succeeded();
        LinkError::Failed(if code.is_empty() { "an unexpected reply".to_owned() } else { code.to_owned() })
    }

    fn count_failure(&self, live: &Arc<Live>) {
        if live.breaker.failed() {
            // Nobody waits for the next attempt: a server that does not answer will not accept either.
            self.give_up(live, Status::Down);
        }
    }

    /// Lets go of this connection, unless it has been replaced already.
    fn give_up(&self, live: &Arc<Live>, next: Status) {
        self.status.send_if_modified(|status| {
            let current = matches!(status, Status::Up(current) if Arc::ptr_eq(current, live));
            if current {
                *status = next;
            }
            current
        });
    }
}

/// Codes of a server that is there but cannot serve anybody yet.
fn is_not_ready(code: &str) -> bool {
    matches!(code, "LOADING" | "MASTERDOWN" | "BUSY")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        Config {
            url: url.parse().unwrap(),
            key_prefix: "contactd".parse().unwrap(),
            timeout: Duration::from_millis(50),
            secret: None,
            ca: None,
        }
    }

    fn assert_send<T: Send>(value: T) -> T {
        value
    }

    #[tokio::test(start_paused = true)]
    async fn without_its_keeper_a_call_waits_its_timeout_and_no_longer() {
        let (link, keeper) = Link::new(&config("redis://127.0.0.1:1"), Gauge::default()).unwrap();
        let watch = Stopwatch::start();
        assert_eq!(assert_send(link.query::<()>(redis::cmd("PING"))).await, Err(LinkError::Down));
        assert_eq!(watch.elapsed(), Duration::from_millis(50));
        drop(assert_send(keeper.run()));
    }

    #[test]
    fn certificates_that_cannot_be_read_are_found_at_start() {
        let config = Config { ca: Some(b"no certificate".to_vec()), ..config("rediss://localhost") };
        assert!(Link::new(&config, Gauge::default()).is_err());
    }

    #[tokio::test]
    async fn scripts_and_pipelines_may_run_in_tasks() {
        let (link, _keeper) = Link::new(&config("redis://127.0.0.1:1"), Gauge::default()).unwrap();
        let script = Script::new("return 1");
        assert!(assert_send(link.script::<()>(&script, &[], &[])).await.is_err());
        assert!(assert_send(link.pipeline::<()>(redis::pipe())).await.is_err());
        assert!(!link.is_up());
    }
}
