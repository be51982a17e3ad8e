//! Elements that several sections of the page share.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::figures::{Escaped, duration, percent, whole};
use super::super::view::{LookupsView, SourceView, StatusView};

/// Outcomes that are not failures.
const NO_FAILURES: [&str; 3] = ["found", "not_found", "not_cached"];

/// The period of the figures.
pub(super) fn period(status: &StatusView) -> String {
    duration(Duration::from_secs_f64(status.window_seconds.max(0.0)).as_secs())
}

/// A column of a table: its heading, and how its cells are set.
pub(super) struct TableColumn {
    name: &'static str,
    class: &'static str,
}

impl TableColumn {
    pub(super) const fn number(name: &'static str) -> Self {
        Self { name, class: "" }
    }

    pub(super) const fn text(name: &'static str) -> Self {
        Self {
            name,
            class: "text",
        }
    }

    pub(super) const fn plot(name: &'static str) -> Self {
        Self {
            name,
            class: "plot",
        }
    }
}

/// A table whose first column names the rows. The style sheet shows each row as a card in a narrow
/// window, and the labels of the cells take the place of the headings.
pub(super) fn table<const N: usize>(
    caption: &str,
    columns: &[TableColumn; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut html = format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\
         <table><caption>{caption}</caption><thead><tr>"
    );
    for TableColumn { name, class } in columns {
        let _ = write!(html, "<th scope=\"col\" class=\"{class}\">{name}</th>");
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (n, (TableColumn { name, class }, cell)) in columns.iter().zip(row).enumerate() {
            let _ = if n == 0 {
                write!(html, "<th scope=\"row\">{cell}</th>")
            } else {
                write!(
                    html,
                    "<td class=\"{class}\" data-label=\"{name}\">{cell}</td>"
                )
            };
        }
        html.push_str("</tr>");
    }
    html + "</tbody></table></div>"
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

/// The sources that this process has.
pub(super) fn sources(status: &StatusView) -> impl Iterator<Item = &SourceView> + Clone {
    let has_redis = status.redis.is_some();
    let sources = status.lookups.sources.iter();
    sources.filter(move |source| has_redis || source.name != "redis")
}

/// The display name of a source or a tier.
pub(super) fn source_name(source: &str) -> &'static str {
    match source {
        "memory" => "Memory",
        "redis" => "Redis",
        "crm" => "CRM",
        _ => "Other",
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
