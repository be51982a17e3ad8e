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

/// Ends when the process is asked to stop.
///
/// # Errors
/// Where the signals cannot be watched.
pub(crate) fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    asked(1)
}

/// Ends the process when it is asked a second time.
///
/// # Errors
/// Where the signals cannot be watched.
pub(crate) fn asked_again() -> std::io::Result<impl Future<Output = ()>> {
    asked(2)
}

/// Requests to read the settings again. As long as it lives a SIGHUP does not end the process; a
/// terminal that is closed sends one as well.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    /// Watches for SIGHUP from now on.
    ///
    /// # Errors
    /// If the signal cannot be watched.
    pub(crate) fn watch() -> std::io::Result<Self> {
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

fn asked(times: u32) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for _ in 0..times {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    })
}
