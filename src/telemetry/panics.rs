//! Logs panics. Rust's own report would write directly to standard error, and wait for it.
//!
//! Logs one line for each panic, past every filter and without `tracing`, because the panic may
//! have happened inside it. A formatted message is left out, because it may contain what somebody
//! sent. The location is enough to find it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

use serde_json::json;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::{LogFormat, LogLines};

const TARGET: &str = "contactd::panic";

/// Reports the process's panics to `lines` from now on.
pub(super) fn report_to(lines: LogLines, format: LogFormat) {
    let is_human = format.is_human();
    panic::set_hook(Box::new(move |panic| {
        lines.put(report(panic, is_human).as_bytes());
    }));
}

fn report(panic: &PanicHookInfo<'_>, is_human: bool) -> String {
    let mut timestamp = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let message = message(panic);
    let location = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let backtrace = backtrace();
    if is_human {
        return format!(
            "{timestamp} ERROR {message} location={location}\n{}",
            backtrace.unwrap_or_default()
        );
    }
    let mut line = json!({
        "timestamp": timestamp, "level": "ERROR", "message": message, "location": location, "target": TARGET,
    });
    if let Some(backtrace) = backtrace {
        line["backtrace"] = backtrace.into();
    }
    format!("{line}\n")
}

fn message(panic: &PanicHookInfo<'_>) -> String {
    match panic.payload().downcast_ref::<&'static str>() {
        Some(literal) => format!("a panic: {literal}"),
        None => {
            "a panic; its text is left out because it may contain what somebody sent".to_owned()
        }
    }
}

/// A backtrace if `RUST_BACKTRACE` asks for one.
fn backtrace() -> Option<String> {
    let taken = Backtrace::capture();
    (taken.status() == BacktraceStatus::Captured).then(|| taken.to_string())
}
