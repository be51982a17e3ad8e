//! Look-ups: where answers came from, and how fast.

use super::super::figures::{rate, seconds, whole};
use super::super::plot;
use super::super::view::{LookupsView, SourceView, StatusView};
use super::parts::{TableColumn, counts, failures, share, source_name, sources, table};

const COLUMNS: [TableColumn; 7] = [
    TableColumn::text("Source"),
    TableColumn::number("A second"),
    TableColumn::number("Share"),
    TableColumn::number("Look-ups"),
    TableColumn::number("Median"),
    TableColumn::number("p99"),
    TableColumn::plot("p99, 100 µs to 10 s"),
];

/// The section.
pub(super) fn section(status: &StatusView) -> String {
    let lookups = &status.lookups;
    let rows = sources(status).map(|source| source_row(source, lookups));
    format!(
        "<section><h2>Look-ups</h2>{}{}<ul class=\"inline\">\
         <li class=\"soft\">Joined a running CRM look-up: {}</li>\
         <li class=\"soft\">Failed look-ups:</li>{}</ul></section>\n",
        figure(status),
        table("Where answers came from", &COLUMNS, rows),
        whole(lookups.shared_in_window),
        counts(failures(lookups)),
    )
}

/// Look-ups by source, stacked.
fn figure(status: &StatusView) -> String {
    let sources = sources(status);
    let layers: Vec<(&str, &[f64])> = sources
        .clone()
        .map(|source| (source.name, &source.history[..]))
        .collect();
    let now = rate(status.lookups.per_second);
    let label = format!("Look-ups a second by source; now {now}");
    let (svg, top) = plot::stack(&layers, &label);
    let legend: String = sources.map(legend).collect();
    format!(
        "<figure><figcaption>{legend}<span>top of the scale: {} a second</span></figcaption>{svg}\
         <div class=\"axis\"><span>5 minutes ago</span><span>now</span></div></figure>",
        rate(top)
    )
}

fn legend(source: &SourceView) -> String {
    let (swatch, name) = (plot::swatch(source.name), source_name(source.name));
    format!("<span>{swatch} {name}</span>")
}

fn source_row(source: &SourceView, lookups: &LookupsView) -> [String; 7] {
    let name = source_name(source.name);
    let label = format!("{name}: p99; over all {}", seconds(source.p99_seconds));
    let more = match source.name {
        "none" => format!("<small>{}</small>", without_source(lookups)),
        _ => String::new(),
    };
    [
        format!("{name}{more}"),
        rate(source.per_second),
        share(source.in_window, lookups.in_window),
        whole(source.in_window),
        seconds(source.p50_seconds),
        seconds(source.p99_seconds),
        plot::times(&source.p99_history, &label),
    ]
}

/// What became of the look-ups that neither a tier nor the CRM answered.
fn without_source(lookups: &LookupsView) -> String {
    let outcomes = &lookups.without_source_in_window;
    let of = |outcome| outcomes.get(outcome).copied().unwrap_or(0);
    let (not_cached, no_number) = (of("not_cached"), of("not_found"));
    let failed = outcomes.values().sum::<u64>() - not_cached - no_number;
    let parts = [
        (not_cached, "not stored"),
        (no_number, "without a number"),
        (failed, "failed"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let parts = parts.map(|(count, what)| format!("{} {what}", whole(count)));
    parts.collect::<Vec<_>>().join(", ")
}
