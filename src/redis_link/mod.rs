//! The one connection to Redis.
//!
//! Owns the connection, its limits and its breaker. Promises that a call ends within
//! `redis.timeout`, whatever Redis does, and that start-up waits for nothing. Knows nothing of what
//! is stored.
//!
//! A [`Link`] is handed to everything that talks to Redis; its [`Keeper`](keeper::Keeper) runs in
//! the background and is the only one that connects.
//!
//! * A connection that breaks is replaced at once, and at a growing distance if that happens again
//!   and again.
//! * One that leaves a call without an answer is in doubt: calls fail at once with
//!   [`LinkError::Down`] until it has answered the keeper within the timeout. So a blip
//!   costs one timeout. If it stays silent for a second (a stopped server keeps its sockets open)
//!   it is given up, and the keeper makes a new one.
//! * A command that Redis refuses says nothing about the connection, which stays in use for what
//!   works. Every command that is used is tried once on each new connection. If Redis refuses a
//!   part of it, then or later (not permitted, unknown, full, read-only), `contactd_redis_up` is 0,
//!   the log says what does not work, and the keeper goes on making new connections, from the name
//!   on, until one is sound: after a failover the name may lead to the new master.

use std::time::Duration;

use redis::RedisError;

mod ca;
mod connect;
mod doubt;
mod health;
mod keeper;
mod link;
mod live;
mod names;
mod probe;
mod reads;
mod refusal;
mod secret;
mod time;
mod url;
pub mod user;

pub use ca::CaCertificates;
pub(crate) use health::LinkSignals;
pub use link::Link;
pub(crate) use link::LinkState;
pub use names::{KeyNames, KeyPrefix};
pub(crate) use names::{PartyHash, hex};
pub use reads::Reads;
pub use secret::SharedSecret;
pub(crate) use secret::derive_secret;
pub use time::RedisTime;
pub(crate) use url::RedisUrl;

/// How long one attempt to connect may take, name resolution and TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Settings of the link.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Where Redis is.
    pub url: RedisUrl,
    /// What the names of all keys begin with.
    pub key_prefix: KeyPrefix,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// The content of `redis.key_secret_file`; see [`derive_secret`].
    pub secret: Option<SharedSecret>,
    /// Certificates (PEM) to trust instead of the system's, for TLS.
    pub ca: Option<CaCertificates>,
}

/// Why Redis gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection, or none that answers at the moment. Nothing was sent.
    #[error("Redis is down")]
    Down,
    /// No answer in time. The command may have been executed.
    #[error("Redis did not answer in time")]
    Timeout,
    /// The connection broke. The command may have been executed.
    #[error("the connection to Redis broke")]
    Broken,
    /// Redis refused this command; the connection is sound. Holds the error's code (`WRONGTYPE`,
    /// `READONLY`, `OOM`, `NOPERM`, `unknown command`), never its text.
    #[error("Redis refused: {0}")]
    Failed(String),
}

impl LinkError {
    /// The code of a refusal that is about a key, such as one of another type, and not about the
    /// server or its user.
    #[must_use]
    pub(crate) fn about_a_key(&self) -> Option<&str> {
        match self {
            Self::Failed(code) if !refusal::is_general(code) => Some(code),
            _ => None,
        }
    }
}

/// Options that cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("the connection to Redis cannot be set up: {0}")]
pub struct SetupError(RedisError);
