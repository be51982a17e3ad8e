//! The process: when to stop, when to reload the settings, and how many files it may open. SIGTERM
//! or ctrl-c requests an orderly stop, a second one ends the process at once. SIGHUP reloads the
//! settings.

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Raises the limit of open files as far as the system permits. The lower limit at which processes
/// start is meant for programs that use `select(2)`.
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If the system refuses, a warning at start reports a limit that is too low.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The signals for a daemon, watched from when this is made. A signal that arrives before anybody
/// waits for it is not lost, and does not end the process.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) hangups: Hangups,
    /// The first one requests an orderly stop.
    pub(crate) stops: Stops,
    /// The same for code that waits for the second one.
    pub(crate) again: Stops,
}

impl Signals {
    /// Watches from now on. Needs a runtime.
    ///
    /// # Errors
    /// If the signals cannot be watched.
    pub(crate) fn watch() -> std::io::Result<Self> {
        Ok(Self {
            hangups: Hangups::watch()?,
            stops: Stops::watch()?,
            again: Stops::watch()?,
        })
    }
}

/// Requests to stop: SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn watch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one. Several at once count as one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Returns when the process is asked to stop.
///
/// # Errors
/// If the signals cannot be watched.
pub(crate) fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut stops = Stops::watch()?;
    Ok(async move { stops.next().await })
}

/// Requests to reload the settings. As long as this lives, a SIGHUP does not end the process. A
/// closed terminal also sends one.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    fn watch() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one. Several at once count as one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // There will be no more.
            std::future::pending::<()>().await;
        }
    }
}
