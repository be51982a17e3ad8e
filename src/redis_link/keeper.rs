//! Connects and reconnects to Redis.
//!
//! Makes one attempt at a time: immediately after a break, then at growing intervals. Connections
//! that soon break again count as failed attempts. The keeper tries again until the daemon ends. A
//! connection that refuses something is used until there is a better one. No password is logged.
//! Knows nothing of the calls.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult};
use tokio::sync::watch;

use super::connect::{RedisConnection, RedisConnector};
use super::health::Health;
use super::live::{ConnectionStatus, LiveConnection, give_up};
use super::probe::{self, Shortfall};
use super::refusal::{self, ErrorClass};
use super::{CONNECT_LIMIT, KeyNames, LinkConfig};
use crate::clock::{self, Stopwatch};

/// The interval between the first attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest interval. Once Redis is back, it is used again about this long after that, at the
/// latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection that lived this long was good.
const SETTLED: Duration = Duration::from_secs(5);
/// This many connections in a row that lived shorter are replaced immediately. The next ones wait.
const AT_ONCE: u32 = 5;

/// A connection is given up after this silence, or after twice the timeout if that is longer. A
/// brief stall is shorter.
const SILENCE: Duration = Duration::from_secs(1);
/// The interval between two attempts to get an answer from a silent connection.
const ASK_PAUSE: Duration = Duration::from_millis(20);

/// The background half of a [`Link`](super::Link).
pub struct Keeper {
    connector: RedisConnector,
    status: Arc<watch::Sender<ConnectionStatus>>,
    health: Arc<Health>,
    names: KeyNames,
    shown_url: String,
    /// How many connections were made.
    made: Arc<AtomicU64>,
    /// How long callers wait for an answer.
    patience: Duration,
    /// Connections in a row that did not settle.
    unsettled: u32,
    /// The line that was logged last, so that it is not repeated.
    logged: Option<String>,
    /// The temporary refusal that was logged last.
    passed: Option<&'static str>,
}

/// A connection that answers, and what it refuses.
struct ProvenConnection {
    connection: RedisConnection,
    shortfall: Option<Shortfall>,
}

/// Why the watch of a connection ended.
enum WatchEnd {
    Lost,
    Replaced(ProvenConnection),
}

/// What happened to a watched connection.
enum WatchEvent {
    Lost,
    /// It is in doubt, or began to refuse something.
    Changed,
    /// It is time to look for a better one.
    Again,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("url", &self.shown_url)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    pub(super) fn new(
        connector: RedisConnector,
        status: Arc<watch::Sender<ConnectionStatus>>,
        health: Arc<Health>,
        names: KeyNames,
        made: Arc<AtomicU64>,
        config: &LinkConfig,
    ) -> Self {
        Self {
            connector,
            status,
            health,
            names,
            shown_url: config.url.to_string(),
            made,
            patience: config.timeout,
            unsettled: 0,
            logged: None,
            passed: None,
        }
    }

    /// Keeps the link connected, and never ends by itself. After it is dropped, a broken connection
    /// is not replaced.
    pub async fn run(mut self) {
        let mut ready = None;
        loop {
            let ProvenConnection {
                connection,
                shortfall,
            } = match ready.take() {
                Some(made) => made,
                None => self.connect().await,
            };
            // Counted before anybody can use the connection: nothing from it is used until the log
            // has been polled on it.
            let number = self.made.fetch_add(1, Ordering::AcqRel) + 1;
            let live = Arc::new(LiveConnection::new(connection, number));
            let sound = is_sound(shortfall.as_ref());
            self.begin(&live, shortfall);
            match self.watch(&live, sound).await {
                WatchEnd::Replaced(made) => {
                    let is_sound = sound && is_sound(made.shortfall.as_ref());
                    if let (true, Some(code)) = (is_sound, live.refusing()) {
                        self.log_passed(code);
                    }
                    ready = Some(made);
                }
                WatchEnd::Lost => {
                    self.health.set_sound(false);
                    let lost = "the connection to Redis is lost; answers come from memory and CRMs";
                    self.log_once(lost.to_owned(), |url| tracing::warn!(redis = url, "{lost}"));
                }
            }
            self.unsettled = self.unsettled.saturating_add(1);
        }
    }

    /// Makes a connection the one that callers use.
    fn begin(&mut self, live: &Arc<LiveConnection>, shortfall: Option<Shortfall>) {
        let sound = is_sound(shortfall.as_ref());
        self.health.set_sound(sound);
        if !sound {
            live.refused_at_connect();
        }
        if let Some(shortfall) = shortfall {
            let (refused, without) = (shortfall.to_string(), shortfall.without());
            self.log_once(refused.clone(), |url| {
                tracing::warn!(
                    redis = url,
                    refused,
                    "Redis refuses what contactd needs; this does not work: {without}"
                );
            });
        } else {
            self.log_once("connected".to_owned(), |url| {
                tracing::info!(redis = url, "connected to Redis");
            });
        }
        self.status
            .send_replace(ConnectionStatus::Up(Arc::clone(live)));
    }

    /// A connection is gone, or refuses something. If it lived long, the count of short-lived
    /// connections is reset, and the next fault is logged again.
    fn settle(&mut self, lived: Stopwatch) {
        if lived.elapsed() >= SETTLED {
            (self.unsettled, self.logged, self.passed) = (0, None, None);
            self.health.forget_logged();
        }
    }

    /// Logs a refusal that does not occur on a new connection, such as that of a master that has
    /// become a replica.
    fn log_passed(&mut self, code: &'static str) {
        if self.passed.replace(code) != Some(code) {
            tracing::warn!(
                redis = self.shown_url,
                code,
                "Redis refused a command; a new connection works"
            );
        }
    }

    /// Logs `what` unless it was logged last, so that an hour without Redis does not fill the log.
    fn log_once(&mut self, what: String, log: impl FnOnce(&str)) {
        if self.logged.as_ref() != Some(&what) {
            log(&self.shown_url);
            self.logged = Some(what);
        }
    }

    /// Tries until there is a connection.
    async fn connect(&mut self) -> ProvenConnection {
        let mut pause = FIRST_PAUSE;
        let distance = distance(self.unsettled, AT_ONCE);
        if !distance.is_zero() {
            self.status.send_replace(ConnectionStatus::Down);
            clock::sleep(jittered(distance)).await;
        }
        loop {
            match self.attempt().await {
                Some(Ok(made)) => return made,
                tried => {
                    self.status.send_replace(ConnectionStatus::Down);
                    let reason = reason(tried.and_then(Result::err).as_ref());
                    self.log_once(reason.clone(), |url| {
                        tracing::warn!(
                            redis = url,
                            reason,
                            "Redis cannot be reached; continuing without it"
                        );
                    });
                }
            }
            clock::sleep(jittered(pause)).await;
            pause = longer(pause);
        }
    }

    /// One attempt; `None` if there was no answer. Callers wait for it as long as for an answer.
    /// After that, calls fail at once.
    async fn attempt(&mut self) -> Option<RedisResult<ProvenConnection>> {
        let mut attempt = pin!(prove(&mut self.connector, &self.names, self.patience));
        if let Some(made) = clock::timeout(self.patience, &mut attempt).await {
            return made;
        }
        self.status.send_replace(ConnectionStatus::Down);
        attempt.await
    }

    /// Waits for a silent connection to answer again, fast enough for callers. Returns whether it
    /// did before it was silent for too long. It is asked for a key, because a cluster node that is
    /// down, or a replica that has lost its master, still answers a PING.
    async fn answers_again(&self, live: &LiveConnection) -> bool {
        let (silence, longest) = (Stopwatch::start(), SILENCE.max(self.patience * 2));
        let get = Cmd::get(probe::key(&self.names));
        while live.doubt.is_there() {
            let (left, watch) = (
                longest.saturating_sub(silence.elapsed()),
                Stopwatch::start(),
            );
            let mut connection = live.connection.clone();
            let Some(asked) = clock::timeout(left, get.exec_async(&mut connection)).await else {
                return false;
            };
            let answered = asked.as_ref().err().is_none_or(is_refusal);
            if answered && watch.elapsed() <= self.patience {
                live.doubt.answered();
                continue;
            }
            // A cluster's connection repairs itself.
            let is_single = matches!(connection, RedisConnection::Single(_));
            if is_single && asked.is_err_and(|error| error.is_io_error()) {
                return false;
            }
            clock::sleep(ASK_PAUSE).await;
        }
        true
    }

    /// If the connection is silent, waits until it answers, or gives it up.
    async fn wait_for_answer(&self, live: &Arc<LiveConnection>) {
        if !live.doubt.is_there() {
            return;
        }
        let mut status = self.status.subscribe();
        let answers = tokio::select! {
            biased;
            _ = status.wait_for(|status| !status.is_up_on(live)) => false,
            answers = self.answers_again(live) => answers,
        };
        if !answers {
            // Calls do not wait for the next attempt: a server that does not answer will not accept
            // a connection either.
            give_up(&self.status, live, ConnectionStatus::Down);
        }
    }

    /// Waits until the connection is lost. If it refuses something, also until there is a better
    /// one.
    async fn watch(&mut self, live: &Arc<LiveConnection>, mut sound: bool) -> WatchEnd {
        let (mut status, lived) = (self.status.subscribe(), Stopwatch::start());
        loop {
            if sound && live.refusing().is_some() {
                sound = false;
                self.health.set_sound(false);
                self.settle(lived);
            }
            let again = jittered(distance(self.unsettled, 0));
            let event = tokio::select! {
                biased;
                _ = status.wait_for(|status| !status.is_up_on(live)) => WatchEvent::Lost,
                () = live.changed.notified() => WatchEvent::Changed,
                () = clock::sleep(again), if !sound => WatchEvent::Again,
            };
            match event {
                WatchEvent::Changed => self.wait_for_answer(live).await,
                WatchEvent::Again => {
                    match prove(&mut self.connector, &self.names, self.patience).await {
                        Some(Ok(made)) => return WatchEnd::Replaced(made),
                        _ => self.unsettled = self.unsettled.saturating_add(1),
                    }
                }
                WatchEvent::Lost => {
                    if sound {
                        self.settle(lived);
                    }
                    return WatchEnd::Lost;
                }
            }
        }
    }
}

fn is_refusal(error: &RedisError) -> bool {
    matches!(refusal::classify(error), Some(ErrorClass::Refused(_)))
}

/// Tests that a connection answers fast enough for callers: with a slower one, each call would time
/// out. Connecting may take longer (names, TLS).
async fn prove(
    connector: &mut RedisConnector,
    names: &KeyNames,
    patience: Duration,
) -> Option<RedisResult<ProvenConnection>> {
    let mut connection = match clock::timeout(CONNECT_LIMIT, connector.connect()).await? {
        Ok(connection) => connection,
        Err(error) => return Some(Err(error)),
    };
    if let Err(error) =
        clock::timeout(patience, redis::cmd("PING").exec_async(&mut connection)).await?
    {
        return Some(Err(error));
    }
    let shortfall = probe::shortfall(&mut connection, names, patience).await?;
    Some(shortfall.map(|shortfall| ProvenConnection {
        connection,
        shortfall,
    }))
}

/// How long to wait after that many attempts in a row without a lasting connection; zero for the
/// first few.
fn distance(attempts: u32, at_once: u32) -> Duration {
    match attempts.checked_sub(at_once + 1) {
        None => Duration::ZERO,
        Some(more) => FIRST_PAUSE
            .saturating_mul(1 << more.min(10))
            .min(LONGEST_PAUSE),
    }
}

/// Randomized, so that replicas do not connect all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + 0.5 * fastrand::f64())
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

/// Why an attempt failed, without the URL's user and password.
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

/// Whether a connection serves everything that callers rely on.
fn is_sound(shortfall: Option<&Shortfall>) -> bool {
    shortfall.is_none_or(Shortfall::is_bearable)
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
    fn the_first_few_connections_that_break_are_replaced_at_once() {
        let distances: Vec<_> = (0..12)
            .map(|attempts| distance(attempts, AT_ONCE).as_millis())
            .collect();
        assert_eq!(
            distances,
            [0, 0, 0, 0, 0, 0, 100, 200, 400, 800, 1000, 1000]
        );
        assert_eq!(distance(u32::MAX, 0), LONGEST_PAUSE);
    }

    #[test]
    fn a_refused_password_is_reported_without_it() {
        let refused = RedisError::from((ErrorKind::AuthenticationFailed, "AUTH", "pw".to_owned()));
        assert_eq!(reason(Some(&refused)), "the user or password was refused");
    }
}
