//! The status page: the figures of [`StatusView`] as HTML. Every plot is next to its figures.

use bytesize::ByteSize;

use super::figures::{Escaped, duration, plural};
use super::view::StatusView;
use parts::period;
pub(super) use terminal::text;

mod connectors;
mod lookups;
mod parts;
mod prefetch;
mod terminal;
mod tiers;
mod tiles;

/// The page.
pub(super) fn html(status: &StatusView) -> String {
    let parts = [
        head(status),
        tiles::tiles(status),
        lookups::section(status),
        connectors::section(status),
        tiers::section(status),
        prefetch::section(status),
    ];
    include_str!("page.html").replacen("{{main}}", &parts.concat(), 1)
}

fn head(status: &StatusView) -> String {
    let (class, state) = match status.state {
        "ready" => ("good", "Ready"),
        _ => ("bad", "Stopping"),
    };
    let replicas = status
        .replicas
        .map_or("alone, without Redis".to_owned(), |n| {
            plural(n as usize, "replica")
        });
    format!(
        "<header><h1>contactd</h1><span class=\"state {class}\">{state}</span>\
         <span>up {}</span><span>{replicas}</span><span>at most {} of memory</span>\
         <span class=\"soft\">{} · revision {} · figures of the last {}</span></header>\n",
        duration(status.uptime_seconds),
        ByteSize(status.memory_ceiling_bytes),
        status.version,
        Escaped(status.revision),
        period(status),
    )
}
