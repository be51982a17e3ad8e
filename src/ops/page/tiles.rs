//! The figures at the top.

use std::fmt::Write as _;

use super::super::figures::{plural, rate, seconds, whole};
use super::super::view::{ConnectorView, StatusView};
use super::parts::{failures, period, share};

struct Tile {
    name: &'static str,
    figure: String,
    more: String,
}

/// All of them.
pub(super) fn tiles(status: &StatusView) -> String {
    let tiles = [
        busy(status),
        stored(status),
        fast(status),
        failed(status),
        crm(status),
    ];
    let mut html = "<dl class=\"tiles\">".to_owned();
    for Tile { name, figure, more } in tiles {
        let _ = write!(
            html,
            "<div><dt>{name}</dt><dd>{figure}</dd><dd>{more}</dd></div>"
        );
    }
    html + "</dl>\n"
}

fn busy(status: &StatusView) -> Tile {
    let lookups = &status.lookups;
    Tile {
        name: "Look-ups a second",
        figure: rate(lookups.per_second),
        more: format!("{} in {}", whole(lookups.in_window), period(status)),
    }
}

fn stored(status: &StatusView) -> Tile {
    let lookups = &status.lookups;
    let stored = lookups.sources[..2].iter().map(|source| source.in_window);
    let stored: u64 = stored.sum();
    Tile {
        name: if status.redis.is_some() {
            "From memory or Redis"
        } else {
            "From memory"
        },
        figure: share(stored, lookups.in_window),
        more: format!("{} of {}", whole(stored), whole(lookups.in_window)),
    }
}

fn fast(status: &StatusView) -> Tile {
    let half = seconds(status.lookups.p50_seconds);
    Tile {
        name: "Answered within",
        figure: seconds(status.lookups.p99_seconds),
        more: format!("p99; median {half}"),
    }
}

fn failed(status: &StatusView) -> Tile {
    let lookups = &status.lookups;
    let failed = failures(lookups).map(|(_, count)| count).sum();
    let share = share(failed, lookups.in_window);
    Tile {
        name: "Failed look-ups",
        figure: whole(failed),
        more: format!("{share} of the look-ups"),
    }
}

fn crm(status: &StatusView) -> Tile {
    let connectors = status.connectors.iter();
    let calls = connectors.clone().map(|one| one.calls_per_second).sum();
    let waiting = plural(connectors.map(waiting).sum(), "call");
    Tile {
        name: "CRM calls a second",
        figure: rate(calls),
        more: format!("{waiting} waiting"),
    }
}

fn waiting(connector: &ConnectorView) -> usize {
    let waiting = connector.quota.waiting;
    waiting.call_pop + waiting.revalidate + waiting.prefetch
}
