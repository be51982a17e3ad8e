//! The process: when to stop, when to read the settings again, and how many files it may open.
//! SIGTERM or ctrl-c asks for an orderly stop, a second one ends at once; SIGHUP asks to read the
//! settings again.

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Takes as many open files as the system grants. The lower limit at which processes start is for
/// programs that use `select(2)`.
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it is refused, the start says whether the limit is too low.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The signals that a daemon is sent, watched from when this is made: what comes before somebody
/// waits for it is not lost, and does not end the process.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) hangups: Hangups,
    /// The first of them is for an orderly stop.
    pub(crate) stops: Stops,
    /// The same again, for whoever waits for the second one.
    pub(crate) again: Stops,
}

impl Signals {
    /// Watches from now on. Needs a runtime around it.
    ///
    /// # Errors
    /// Where the signals cannot be watched.
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

    /// Waits for the next one; several at once are one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends when the process is asked to stop.
///
/// # Errors
/// Where the signals cannot be watched.
pub(crate) fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut stops = Stops::watch()?;
    Ok(async move { stops.next().await })
}

/// Requests to read the settings again. As long as it lives a SIGHUP does not end the process; a
/// terminal that is closed sends one as well.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    fn watch() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one; several at once are one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // There will be no more.
            std::future::pending::<()>().await;
        }
    }
}
