//! Calls to Redis, each within the timeout.
//!
//! Decides what an error of a call means for the connection. Never connects: the [`Keeper`] does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, Script, ScriptInvocation,
};
use tokio::sync::watch;

use super::connect::{RedisConnection, RedisConnector};
use super::health::{Health, LinkSignals};
use super::keeper::Keeper;
use super::live::{ConnectionStatus, LiveConnection, give_up};
use super::names::KeyNames;
use super::refusal::{self, ErrorClass};
use super::secret::derive_secret;
use super::{LinkConfig, LinkError, SetupError};
use crate::clock::{self, Stopwatch};

/// The shared connection. Clones are the same one.
#[derive(Clone)]
pub struct Link {
    status: Arc<watch::Sender<ConnectionStatus>>,
    timeout: Duration,
    names: KeyNames,
    sharded: bool,
    health: Arc<Health>,
    made: Arc<AtomicU64>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

/// The state of the connection, for the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// The first attempt, or the first after a break, is running. Calls wait for it.
    Connecting,
    /// There is a connection that works, as far as known.
    Up {
        /// Calls in a row without an answer. Calls fail at once until it has answered again.
        failures: u32,
    },
    /// There is a connection, but Redis refuses some of the commands in use.
    Limited,
    /// There is no connection. Calls fail at once until a connection attempt succeeds.
    Down,
}

impl Link {
    /// A link that connects as soon as its keeper runs. Does not use the network.
    ///
    /// # Errors
    /// If the options can never work, such as certificates that cannot be read.
    pub fn new(
        config: &LinkConfig,
        signals: impl Into<LinkSignals>,
    ) -> Result<(Self, Keeper), SetupError> {
        let connector = RedisConnector::new(config).map_err(SetupError)?;
        let link = Self {
            status: Arc::new(watch::Sender::new(ConnectionStatus::Connecting)),
            timeout: config.timeout,
            names: KeyNames::new(config.key_prefix.clone(), &derive_secret(config)),
            sharded: connector.shards(),
            health: Arc::new(Health::new(signals.into())),
            made: Arc::default(),
        };
        let keeper = Keeper::new(
            connector,
            Arc::clone(&link.status),
            Arc::clone(&link.health),
            link.names.clone(),
            Arc::clone(&link.made),
            config,
        );
        Ok((link, keeper))
    }

    /// Runs one command.
    ///
    /// # Errors
    /// [`LinkError`], within the timeout.
    pub async fn query<T: FromRedisValue>(&self, cmd: Cmd) -> Result<T, LinkError> {
        let answer = self.run(async |mut connection| cmd.query_async(&mut connection).await);
        answer.await.map(|(answer, _)| answer)
    }

    /// Runs several commands in one round trip. On a cluster all their keys must share a hash slot.
    ///
    /// # Errors
    /// [`LinkError`], within the timeout; [`LinkError::Failed`] if any command was refused.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipe: Pipeline) -> Result<T, LinkError> {
        let answer = self.run(async |mut connection| pipe.query_async(&mut connection).await);
        answer.await.map(|(answer, _)| answer)
    }

    /// Runs a script, by its hash if the server knows it. On a cluster all keys must share a hash
    /// slot.
    ///
    /// # Errors
    /// [`LinkError`], within the timeout.
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<T, LinkError> {
        let call = invocation(script, keys, args);
        let reply = self.run(async |mut connection| call.invoke_async(&mut connection).await);
        reply.await.map(|(reply, _)| reply)
    }

    /// As [`Link::script`]. Also returns the number of the connection that it ran on.
    pub(crate) async fn script_on<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<(T, u64), LinkError> {
        let call = invocation(script, keys, args);
        self.run(async |mut connection| call.invoke_async(&mut connection).await)
            .await
    }

    /// How many connections were made; the number of the latest one.
    #[must_use]
    pub fn connections(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.made)
    }

    /// Waits until there is a connection that was made after this count.
    pub(crate) async fn connected_after(&self, count: u64) {
        let is_later = |status: &ConnectionStatus| matches!(status, ConnectionStatus::Up(live) if live.number > count);
        // The sender is this link's own.
        let _ = self.status.subscribe().wait_for(is_later).await;
    }

    /// Returns whether there is a connection that works, as far as known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(*self.status.borrow(), ConnectionStatus::Up(_))
    }

    #[must_use]
    pub(crate) fn state(&self) -> LinkState {
        match &*self.status.borrow() {
            ConnectionStatus::Connecting => LinkState::Connecting,
            ConnectionStatus::Up(live)
                if live.refusing().is_some() || self.health.is_impaired() =>
            {
                LinkState::Limited
            }
            ConnectionStatus::Up(live) => LinkState::Up {
                failures: live.doubt.failures(),
            },
            ConnectionStatus::Down => LinkState::Down,
        }
    }

    /// Waits until Redis answers, if it may do so soon: after a short silence, or on a new
    /// connection. Returns false once it counts as down.
    pub(crate) async fn answers(&self) -> bool {
        let mut status = self.status.subscribe();
        while let Ok(live) = self.live().await {
            tokio::select! {
                biased;
                // The sender is this link's own.
                _ = status.wait_for(|status| !status.is_up_on(&live)) => {}
                () = live.doubt.is_over() => return true,
            }
        }
        false
    }

    /// Counts a command that was refused within a script that continued without it. `reply` is the
    /// error's text. Returns the corresponding error.
    #[must_use]
    pub(crate) fn refused(&self, reply: &str) -> LinkError {
        let (code, text) = reply.split_once(' ').unwrap_or((reply, ""));
        let code = refusal::read(code, text);
        if let Some(live) = self.up() {
            self.note(&live, code);
        }
        LinkError::Failed(code.to_owned())
    }

    /// Reports whether the log of invalidations can be read. If not, Redis does not count as up.
    pub(crate) fn set_impaired(&self, impaired: bool) {
        self.health.set_impaired(impaired);
    }

    /// A key that belongs to no user: the prefix and the parts, joined by colons. Braces in a part
    /// set the hash slot.
    #[must_use]
    pub(crate) fn key(&self, parts: &[&str]) -> String {
        self.names.shared(parts)
    }

    /// Returns whether the keys of two users may be on two servers, so that one command cannot read
    /// both.
    #[must_use]
    pub(crate) fn is_sharded(&self) -> bool {
        self.sharded
    }

    /// How long a call may take.
    #[must_use]
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The names of keys in this Redis.
    #[must_use]
    pub fn names(&self) -> &KeyNames {
        &self.names
    }

    /// Returns the answer and the number of the connection.
    async fn run<T>(
        &self,
        ask: impl AsyncFnOnce(RedisConnection) -> RedisResult<T>,
    ) -> Result<(T, u64), LinkError> {
        let watch = Stopwatch::start();
        let live = match self.up() {
            Some(live) => live,
            None => clock::timeout(self.timeout, self.live())
                .await
                .unwrap_or(Err(LinkError::Down))?,
        };
        if live.doubt.is_there() {
            return Err(LinkError::Down);
        }
        let left = self.timeout.saturating_sub(watch.elapsed());
        match clock::timeout(left, ask(live.connection.clone())).await {
            Some(Ok(answer)) => {
                live.doubt.answered();
                Ok((answer, live.number))
            }
            Some(Err(error)) => Err(self.judge(&live, &error)),
            None => {
                // A call that had to wait for the connection does not show how fast it answers.
                if left * 2 > self.timeout {
                    live.leaves_unanswered();
                }
                Err(LinkError::Timeout)
            }
        }
    }

    /// The connection, if there is one.
    fn up(&self) -> Option<Arc<LiveConnection>> {
        match &*self.status.borrow() {
            ConnectionStatus::Up(live) => Some(Arc::clone(live)),
            ConnectionStatus::Connecting | ConnectionStatus::Down => None,
        }
    }

    /// The connection. Waits only for a first attempt.
    async fn live(&self) -> Result<Arc<LiveConnection>, LinkError> {
        let mut status = self.status.subscribe();
        let decided = status
            .wait_for(|status| !matches!(status, ConnectionStatus::Connecting))
            .await;
        match decided.as_deref() {
            Ok(ConnectionStatus::Up(live)) => Ok(Arc::clone(live)),
            _ => Err(LinkError::Down),
        }
    }

    /// Decides what an error means for the connection.
    fn judge(&self, live: &Arc<LiveConnection>, error: &RedisError) -> LinkError {
        let single = matches!(live.connection, RedisConnection::Single(_));
        match refusal::classify(error) {
            Some(ErrorClass::Refused(code)) => {
                live.doubt.answered();
                self.note(live, code);
                LinkError::Failed(code.to_owned())
            }
            Some(ErrorClass::LockedOut) => {
                give_up(&self.status, live, ConnectionStatus::Connecting);
                LinkError::Broken
            }
            // A cluster connection repairs itself, unless its failures last.
            None if single && error.is_io_error() => {
                give_up(&self.status, live, ConnectionStatus::Connecting);
                LinkError::Broken
            }
            None if matches!(
                error.kind(),
                ErrorKind::UnexpectedReturnType | ErrorKind::Parse
            ) =>
            {
                LinkError::Unexpected
            }
            Some(ErrorClass::NotReady) | None => {
                live.leaves_unanswered();
                LinkError::Broken
            }
        }
    }

    fn note(&self, live: &LiveConnection, code: &'static str) {
        self.health.count(code, refusal::is_general(code));
        if refusal::is_general(code) {
            live.refuses(code);
        }
    }
}

fn invocation<'s>(script: &'s Script, keys: &[String], args: &[&[u8]]) -> ScriptInvocation<'s> {
    let mut call = script.prepare_invoke();
    for key in keys {
        call.key(key);
    }
    for arg in args {
        call.arg(*arg);
    }
    call
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    fn config(url: &str) -> LinkConfig {
        LinkConfig {
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
        assert_eq!(
            assert_send(link.query::<()>(redis::cmd("PING"))).await,
            Err(LinkError::Down)
        );
        assert_eq!(watch.elapsed(), Duration::from_millis(50));
        drop(assert_send(keeper.run()));
    }

    #[tokio::test]
    async fn scripts_and_pipelines_may_run_in_tasks() {
        let (link, _keeper) = Link::new(&config("redis://127.0.0.1:1"), Gauge::default()).unwrap();
        let script = Script::new("return 1");
        assert!(
            assert_send(link.script::<()>(&script, &[], &[]))
                .await
                .is_err()
        );
        assert!(
            assert_send(link.pipeline::<()>(redis::pipe()))
                .await
                .is_err()
        );
        assert!(!link.is_up());
    }
}
