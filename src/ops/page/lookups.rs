//! Look-ups: where answers came from, and how fast.

use super::super::figures::{rate, seconds, whole};
use super::super::plot;
use super::super::view::{LookupsView, SourceView, StatusView};
use super::parts::{counts, failures, share, source_name, table};

const HEAD: &str = "<tr><th scope=\"col\">Source</th><th scope=\"col\">A second</th>\
     <th scope=\"col\">Share</th><th scope=\"col\">Look-ups</th><th scope=\"col\">Half within</th>\
     <th scope=\"col\">99 of 100 within</th>\
     <th scope=\"col\" class=\"plot\">99 of 100 within, 100 µs to 10 s</th></tr>";

/// The section.
pub(super) fn section(status: &StatusView) -> String {
    let lookups = &status.lookups;
    let sources = lookups.sources.iter();
    let rows: String = sources
        .map(|source| source_row(source, lookups.in_window))
        .collect();
    format!(
        "<section><h2>Look-ups</h2>{}{}<ul class=\"inline\">\
         <li class=\"soft\">Joined a running CRM look-up: {}</li>\
         <li class=\"soft\">Without an answer:</li>{}</ul></section>\n",
        figure(lookups),
        table("Where answers came from", HEAD, &rows),
        whole(lookups.shared_in_window),
        counts(failures(lookups)),
    )
}

/// Look-ups by source, stacked.
fn figure(lookups: &LookupsView) -> String {
    let sources = lookups.sources.iter();
    let layers: Vec<(&str, &[f64])> = sources
        .clone()
        .map(|source| (source.name, &source.history[..]))
        .collect();
    let now = rate(lookups.per_second);
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

fn source_row(source: &SourceView, all: u64) -> String {
    let label = format!(
        "{}: time of 99 of 100 look-ups; over all {}",
        source_name(source.name),
        seconds(source.p99_seconds)
    );
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td class=\"plot\">{}</td></tr>",
        source_name(source.name),
        rate(source.per_second),
        share(source.in_window, all),
        whole(source.in_window),
        seconds(source.p50_seconds),
        seconds(source.p99_seconds),
        plot::times(&source.p99_history, &label),
    )
}
