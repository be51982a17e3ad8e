//! Elements that several sections of the page share.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::figures::{Escaped, duration, percent, whole};
use super::super::view::{LookupsView, StatusView};

/// Outcomes that are not failures.
const NO_FAILURES: [&str; 3] = ["found", "not_found", "not_cached"];

/// The period of the figures.
pub(super) fn period(status: &StatusView) -> String {
    duration(Duration::from_secs_f64(status.window_seconds.max(0.0)).as_secs())
}

/// A table that scrolls horizontally in a narrow window.
pub(super) fn table(caption: &str, head: &str, rows: &str) -> String {
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\
         <table><caption>{caption}</caption><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )
}

/// Counts with their names, as items of a list.
pub(super) fn counts<'a>(counts: impl Iterator<Item = (&'a String, u64)>) -> String {
    let mut html = String::new();
    for (name, count) in counts {
        let _ = write!(
            html,
            "<li><strong>{}</strong> {}</li>",
            whole(count),
            Escaped(&name.replace('_', " "))
        );
    }
    if html.is_empty() {
        "<li>none</li>".to_owned()
    } else {
        html
    }
}

/// Look-ups without an answer, by reason.
pub(super) fn failures(lookups: &LookupsView) -> impl Iterator<Item = (&String, u64)> {
    let outcomes = lookups
        .outcomes_in_window
        .iter()
        .map(|(reason, count)| (reason, *count));
    outcomes.filter(|(reason, _)| !NO_FAILURES.contains(&reason.as_str()))
}

/// The display name of a source or a tier.
pub(super) fn source_name(source: &str) -> &'static str {
    match source {
        "memory" => "Memory",
        "redis" => "Redis",
        "crm" => "CRM",
        _ => "No source",
    }
}

/// A fraction in percent.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of calls are far below 2^52"
)]
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        "–".to_owned()
    } else {
        percent(part as f64 / whole as f64)
    }
}
