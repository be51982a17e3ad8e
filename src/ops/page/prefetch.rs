//! The running batches, and their results.

use super::super::figures::{Escaped, duration, percent, plural, rate, whole};
use super::super::view::{JobView, PrefetchView, StatusView};
use super::parts::{TableColumn, counts, table};

const COLUMNS: [TableColumn; 5] = [
    TableColumn::text("Connector"),
    TableColumn::text("Progress"),
    TableColumn::number("Numbers"),
    TableColumn::number("Running for"),
    TableColumn::number("A second"),
];

/// The section.
pub(super) fn section(status: &StatusView) -> String {
    let prefetch = &status.prefetch;
    let numbers = prefetch.numbers_in_window.iter();
    let numbers = counts(numbers.map(|(outcome, count)| (outcome, *count)));
    format!(
        "<section><h2>Prefetch</h2>{}<ul class=\"inline\">\
         <li class=\"soft\">Numbers done:</li>{numbers}</ul></section>\n",
        jobs(prefetch)
    )
}

fn jobs(prefetch: &PrefetchView) -> String {
    if prefetch.jobs.is_empty() {
        return "<p class=\"soft\">No batch is running.</p>".to_owned();
    }
    let running = plural(prefetch.running, "batch");
    let caption = format!("{running} running, the oldest first");
    table(&caption, &COLUMNS, prefetch.jobs.iter().map(row))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a batch has at most some thousand numbers"
)]
fn row(job: &JobView) -> [String; 5] {
    let done = if job.total == 0 {
        1.0
    } else {
        job.done as f64 / job.total as f64
    };
    let name = Escaped(&job.platform);
    let progress = format!(
        "<progress max=\"{}\" value=\"{}\" aria-label=\"Progress of a batch on {name}\"></progress>{}",
        job.total,
        job.done,
        percent(done),
    );
    [
        name.to_string(),
        progress,
        format!("{} of {}", whole(job.done as u64), whole(job.total as u64)),
        duration(job.running_seconds),
        rate(job.done as f64 / job.running_seconds.max(1) as f64),
    ]
}
