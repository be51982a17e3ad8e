//! Logs: for people on a terminal, JSON elsewhere, always on standard error.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people where standard error is a terminal, else JSON.
    Auto,
    /// One readable line each.
    Human,
    /// One JSON object each.
    Json,
}

/// Starts logging. `filter` is a level of contactd's own lines or `tracing` directives (`info`, `contactd=debug`).
///
/// A level alone leaves the libraries beneath at `info`: at `debug` they write host names and numbers.
///
/// # Errors
/// Where `filter` cannot be read.
pub fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let level = filter.parse::<tracing::Level>().is_ok_and(|level| level > tracing::Level::INFO);
    let directives = if level { format!("info,contactd={filter}") } else { filter.to_owned() };
    let filter = EnvFilter::try_new(directives).map_err(|error| format!("--log-level {filter:?}: {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let human = format == LogFormat::Human || (format == LogFormat::Auto && std::io::stderr().is_terminal());
    // A second start in one process (tests) keeps the first.
    let _ = if human {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(false).try_init()
    };
    Ok(())
}
