//! The link to Redis, without its keeper: each call is one step, made on a blocking connection.
//!
//! The names of keys, the scripts, the shared reads and Redis' time are the daemon's.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use redis::{Cmd, Connection, FromRedisValue, Pipeline, RedisResult, Script};
use shuttle::future::yield_now;
use shuttle::rand::Rng as _;

use crate::clock::Instant;
use crate::domain::SharedTime;

#[path = "../../../src/redis_link/names.rs"]
mod names;
#[path = "../../../src/redis_link/reads.rs"]
mod reads;
#[path = "../../../src/redis_link/secret.rs"]
mod secret;
#[path = "../../../src/redis_link/time.rs"]
mod time;
#[path = "../../../src/redis_link/user.rs"]
pub mod user;

pub use names::{KeyNames, KeyPrefix};
pub(crate) use names::{PartyHash, hex};
pub use reads::Reads;
pub use secret::SharedSecret;
pub(crate) use time::DATA_TOKEN;
pub(crate) use time::NotedPoll;
pub use time::{DataToken, RedisTime, TimePoll};

/// A reading of Redis' time. Its clock is not virtual, so nothing is said of whether it runs
/// evenly.
#[allow(dead_code, reason = "the daemon compares what was told")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundTrip {
    pub(crate) told: SharedTime,
    pub(crate) step: i64,
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
}

impl RoundTrip {
    pub(crate) fn took(&self) -> Duration {
        self.received.saturating_duration_since(self.sent)
    }

    pub(crate) fn jump_since(&self, _: &Self) -> i64 {
        0
    }
}

/// Settings of the link, as far as they make its secret.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The address, whose password makes a secret.
    pub url: RedisUrl,
    /// The prefix of all keys.
    pub key_prefix: KeyPrefix,
    /// The secret, if it is given.
    pub secret: Option<SharedSecret>,
}

/// An address without a password.
#[derive(Debug, Clone)]
pub struct RedisUrl {
    password: Option<secrecy::SecretString>,
}

/// Why there was no answer from Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("Redis is down")]
    Down,
    #[error("Redis did not answer in time")]
    Timeout,
    #[error("Redis refused: {0}")]
    Failed(String),
    #[error("Redis sent an unexpected reply")]
    Unexpected,
}

impl LinkError {
    pub(crate) fn about_a_key(&self) -> Option<&str> {
        None
    }
}

thread_local! {
    static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
    static FAIL_ONE_IN: Cell<u32> = const { Cell::new(0) };
}

/// Uses the server at this address from now on, in this thread.
pub fn connect(url: &str) -> RedisResult<()> {
    let connection = redis::Client::open(url)?.get_connection()?;
    CONNECTION.set(Some(connection));
    Ok(())
}

/// From now on, one call in so many gets no answer: half of these reach Redis. None if zero.
pub fn fail_one_in(many: u32) {
    FAIL_ONE_IN.set(many);
}

/// Runs a command beside the code under test.
pub fn run<T: FromRedisValue>(command: &Cmd) -> T {
    on_connection(|connection| command.query(connection)).expect("redis answers")
}

fn on_connection<T>(ask: impl FnOnce(&mut Connection) -> T) -> T {
    CONNECTION.with_borrow_mut(|connection| ask(connection.as_mut().expect("connect was called")))
}

/// See the daemon's.
#[derive(Clone)]
pub struct Link {
    names: KeyNames,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// A link over this thread's connection. Keys begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        let prefix = prefix.parse().expect("a prefix");
        Self {
            names: KeyNames::new(prefix, &SharedSecret::new([7; 32])),
        }
    }

    pub async fn query<T: FromRedisValue>(&self, cmd: Cmd) -> Result<T, LinkError> {
        Self::call(|connection| cmd.query(connection)).await
    }

    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipe: Pipeline) -> Result<T, LinkError> {
        Self::call(|connection| pipe.query(connection)).await
    }

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
        Self::call(|connection| call.invoke(connection)).await
    }

    pub(crate) async fn script_on<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<(T, u64), LinkError> {
        Ok((self.script(script, keys, args).await?, 0))
    }

    /// There is one connection, which is never replaced.
    pub fn connections(&self) -> Arc<AtomicU64> {
        Arc::default()
    }

    pub(crate) async fn connected_after(&self, _: u64) {
        std::future::pending().await
    }

    /// The request is under way, Redis runs it, and the reply is under way.
    async fn call<T>(ask: impl FnOnce(&mut Connection) -> RedisResult<T>) -> Result<T, LinkError> {
        yield_now().await;
        let (mut random, one_in) = (shuttle::rand::thread_rng(), FAIL_ONE_IN.get());
        let fails = one_in > 0 && random.gen_range(0..one_in) == 0;
        if fails && random.r#gen() {
            return Err(LinkError::Down);
        }
        let reply = on_connection(ask);
        yield_now().await;
        if fails {
            return Err(LinkError::Timeout);
        }
        reply.map_err(|error| LinkError::Failed(error.to_string()))
    }

    pub(crate) async fn answers(&self) -> bool {
        true
    }

    pub(crate) fn refused(&self, reply: &str) -> LinkError {
        LinkError::Failed(reply.to_owned())
    }

    pub(crate) fn set_impaired(&self, _: bool) {}

    pub(crate) fn key(&self, parts: &[&str]) -> String {
        self.names.shared(parts)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    pub(crate) fn is_sharded(&self) -> bool {
        false
    }

    pub fn names(&self) -> &KeyNames {
        &self.names
    }
}
