//! Logs: readable on a terminal, JSON elsewhere, always on standard error.
//!
//! Nothing waits for standard error: logging, panics and the stop continue even if a line cannot be
//! written.

use std::io::IsTerminal as _;

use clap::ValueEnum;

mod level;
mod lines;
mod panics;

pub use level::{Level, Volume};
pub use lines::LogLines;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// human if standard error is a terminal, otherwise json.
    Auto,
    /// One readable line each.
    Human,
    /// One JSON object each.
    Json,
}

impl LogFormat {
    /// Each with its name in the settings, the default first.
    pub(crate) const ALL: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("human", Self::Human),
        ("json", Self::Json),
    ];

    fn is_human(self) -> bool {
        self == Self::Human || (self == Self::Auto && std::io::stderr().is_terminal())
    }
}

/// Starts logging to `lines`, without look-ups, and reports panics there at every level. Returns a
/// handle that changes what is logged.
pub fn start(format: LogFormat, level: &Level, lines: &LogLines) -> Volume {
    panics::report_to(lines.clone(), format);
    let sink = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_env_filter(level.filter(false))
        .with_writer(move || sink.clone())
        // Formatting errors would be reported by `eprintln!`, which waits for standard error.
        .log_internal_errors(false);
    // A second start in one process (tests) keeps the first.
    if format.is_human() {
        let log = log.with_target(false).with_filter_reloading();
        let volume = Volume::over(log.reload_handle());
        let _ = log.try_init();
        volume
    } else {
        let log = log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_filter_reloading();
        let volume = Volume::over(log.reload_handle());
        let _ = log.try_init();
        volume
    }
}
