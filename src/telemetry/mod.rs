//! Logs: for people on a terminal, JSON elsewhere, always on standard error.
//!
//! Promises that nobody waits for standard error: whoever logs, panics or stops goes on, whatever becomes of the line.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

mod lines;
mod panics;

pub use lines::Lines;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people if standard error is a terminal, else JSON.
    Auto,
    /// One readable line each.
    Human,
    /// One JSON object each.
    Json,
}

impl LogFormat {
    fn is_human(self) -> bool {
        self == Self::Human || (self == Self::Auto && std::io::stderr().is_terminal())
    }
}

/// Starts logging to `lines`; panics are reported there as well, at every level. `level` is a level of contactd's own
/// lines or `tracing` directives (`info`, `contactd=debug`).
///
/// # Errors
/// If `level` cannot be read.
pub fn start(format: LogFormat, level: &str, lines: &Lines) -> Result<(), String> {
    panics::report_to(lines.clone(), format);
    let sink = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(move || sink.clone())
        // What cannot be formatted would be told by `eprintln!`, which waits for standard error.
        .log_internal_errors(false);
    // A second start in one process (tests) keeps the first.
    let _ = if format.is_human() {
        log.with_target(false).try_init()
    } else {
        log.json().flatten_event(true).with_current_span(false).try_init()
    };
    Ok(())
}

/// A level alone leaves the libraries beneath at `info`: at `debug` they write host names and numbers.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let is_more = level.parse::<tracing::Level>().is_ok_and(|level| level > tracing::Level::INFO);
    let directives = if is_more { format!("info,contactd={level}") } else { level.to_owned() };
    EnvFilter::try_new(directives).map_err(|error| format!("--log-level {level:?}: {error}"))
}
