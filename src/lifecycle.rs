//! When to stop: SIGTERM or ctrl-c asks for an orderly stop, a second one ends at once.

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is asked to stop.
///
/// # Errors
/// Where the signals cannot be watched.
pub fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    asked(1)
}

/// Ends the process when it is asked a second time.
///
/// # Errors
/// Where the signals cannot be watched.
pub fn asked_again() -> std::io::Result<impl Future<Output = ()>> {
    asked(2)
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
