//! Connects, and connects again.
//!
//! Owns the attempts: one at a time, at once after a break and then at growing distances. Promises to go on for as
//! long as it runs, and that no password is logged. Knows nothing of the calls.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::watch;

use super::breaker::Breaker;
use super::connect::{Connection, Connector};
use super::{CONNECT_LIMIT, Config, Live, Status};
use crate::clock;

/// The distance between the first attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest distance: how long after its return Redis is used again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The background half of a [`Link`](super::Link).
pub struct Keeper {
    connector: Connector,
    status: Arc<watch::Sender<Status>>,
    up: Gauge,
    shown_url: String,
    /// How long callers wait for an attempt.
    patience: Duration,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("url", &self.shown_url).finish_non_exhaustive()
    }
}

impl Keeper {
    pub(super) fn new(connector: Connector, status: Arc<watch::Sender<Status>>, up: Gauge, config: &Config) -> Self {
        Self { connector, status, up, shown_url: config.url.to_string(), patience: config.timeout }
    }

    /// Keeps the link connected; never ends by itself. Once dropped, a connection that breaks stays down.
    pub async fn run(mut self) {
        let mut status = self.status.subscribe();
        loop {
            self.up.set(0);
            self.connect().await;
            self.up.set(1);
            // The sender lives as long as `self`, so this waits until the connection is given up.
            let _ = status.wait_for(|status| !matches!(status, Status::Up(_))).await;
            tracing::warn!(
                redis = self.shown_url,
                "the connection to Redis is lost; answers come from memory and CRMs"
            );
        }
    }

    /// Tries until there is a connection.
    async fn connect(&mut self) {
        let mut pause = FIRST_PAUSE;
        let mut said = None;
        loop {
            match self.attempt().await {
                Some(Ok(connection)) => {
                    tracing::info!(redis = self.shown_url, "connected to Redis");
                    let live = Live { connection, breaker: Breaker::default() };
                    self.status.send_replace(Status::Up(Arc::new(live)));
                    return;
                }
                tried => {
                    self.status.send_replace(Status::Down);
                    let reason = reason(tried.and_then(Result::err).as_ref());
                    // Once for each reason: an hour without Redis is not an hour of lines.
                    if said.as_ref() != Some(&reason) {
                        tracing::warn!(redis = self.shown_url, reason, "Redis cannot be reached; going on without it");
                        said = Some(reason);
                    }
                }
            }
            clock::pause(pause.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
            pause = longer(pause);
        }
    }

    /// One attempt; `None` where there was no answer. Callers wait for it as long as for an answer, then no more.
    async fn attempt(&mut self) -> Option<RedisResult<Connection>> {
        let mut attempt = pin!(prove(&mut self.connector, self.patience));
        if let Some(made) = clock::within(self.patience, &mut attempt).await {
            return made;
        }
        self.status.send_replace(Status::Down);
        attempt.await
    }
}

/// A connection that has answered as fast as callers will want it to: one that does not would only cost each of them
/// the timeout. Making it may take longer (names, TLS).
async fn prove(connector: &mut Connector, patience: Duration) -> Option<RedisResult<Connection>> {
    let mut connection = match clock::within(CONNECT_LIMIT, connector.connect()).await? {
        Ok(connection) => connection,
        Err(error) => return Some(Err(error)),
    };
    let answered = clock::within(patience, redis::cmd("PING").exec_async(&mut connection)).await?;
    Some(answered.map(|()| connection))
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

/// Why an attempt failed, in words that hold nothing of the URL's user and password.
fn reason(error: Option<&RedisError>) -> String {
    let Some(error) = error else {
        return "no answer in time".to_owned();
    };
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) => "the user or password was refused".to_owned(),
        (_, Some(code)) => format!("refused with {code}"),
        (ErrorKind::Io, None) => error.to_string(),
        (_, None) => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_move_apart_up_to_a_second() {
        let pauses: Vec<_> = std::iter::successors(Some(FIRST_PAUSE), |pause| Some(longer(*pause)))
            .map(|pause| pause.as_millis())
            .take(6)
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn a_refused_password_is_told_without_it() {
        let refused = RedisError::from((ErrorKind::AuthenticationFailed, "AUTH", "pw".to_owned()));
        assert_eq!(reason(Some(&refused)), "the user or password was refused");
    }
}
