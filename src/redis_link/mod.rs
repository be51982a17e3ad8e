//! The one connection to Redis.
//!
//! Contains the connection, its limits and its circuit breaker. A call ends within `redis.timeout`,
//! whatever Redis does, and start-up does not wait. Knows nothing of what is stored.
//!
//! Everything that talks to Redis has a [`Link`]. Its [`Keeper`](keeper::Keeper) runs in the
//! background and is the only one that connects.
//!
//! * A broken connection is replaced immediately, and at growing intervals if that happens
//!   repeatedly.
//! * A connection that leaves a call without an answer is in doubt: calls fail at once with
//!   [`LinkError::Down`] until it has answered the keeper within the timeout. So a brief stall
//!   costs one timeout. If it stays silent for a second, or for twice the timeout if that is
//!   longer, it is given up, and the keeper makes a new one. (A stopped server keeps its sockets
//!   open.)
//! * A command that Redis refuses says nothing about the connection, which stays in use for what
//!   works. Every command in use is tried once on each new connection. If Redis refuses some of
//!   them, then or later (not permitted, unknown, full, read-only), the log says what does not
//!   work. Unless that is only `INFO`, `contactd_redis_up` is 0, and the keeper makes new
//!   connections until one is fine. The keeper resolves the name each time: after a failover the
//!   name may lead to the new master.

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
mod steadiness;
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
pub(crate) use steadiness::RoundTrip;
pub(crate) use time::DATA_TOKEN;
pub(crate) use time::NotedPoll;
pub use time::{DataToken, RedisTime, TimePoll};
pub(crate) use url::RedisUrl;

/// How long one connection attempt may take, including name resolution and TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Settings of the link.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The address of Redis.
    pub url: RedisUrl,
    /// The prefix of all keys.
    pub key_prefix: KeyPrefix,
    /// The longest time for one call.
    pub timeout: Duration,
    /// The secret from `redis.key_secret_file`; see [`derive_secret`].
    pub secret: Option<SharedSecret>,
    /// Certificates (PEM) to trust instead of the system's, for TLS.
    pub ca: Option<CaCertificates>,
}

/// Why there was no answer from Redis.
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
    /// Redis refused this command; the connection is fine. Contains the error's code (`WRONGTYPE`,
    /// `READONLY`, `OOM`, `NOPERM`, `unknown command`), never its text.
    #[error("Redis refused: {0}")]
    Failed(String),
    /// Redis sent a reply or a value of another form than expected; the connection is fine.
    #[error("Redis sent an unexpected reply")]
    Unexpected,
}

impl LinkError {
    /// Returns whether Redis did not answer, so that the call may succeed if it is repeated.
    #[must_use]
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::Down | Self::Timeout | Self::Broken => true,
            Self::Failed(_) | Self::Unexpected => false,
        }
    }

    /// What is wrong with a key: the code of a refusal that is about it, such as one of another
    /// type, or an unexpected reply. `None` if the fault lies with the server or the Redis user.
    #[must_use]
    pub(crate) fn about_a_key(&self) -> Option<&str> {
        match self {
            Self::Failed(code) => (!refusal::is_general(code)).then_some(code),
            Self::Unexpected => Some("an unexpected reply"),
            Self::Down | Self::Timeout | Self::Broken => None,
        }
    }
}

/// Options that can never work.
#[derive(Debug, thiserror::Error)]
#[error("the connection to Redis cannot be set up: {0}")]
pub struct SetupError(RedisError);
