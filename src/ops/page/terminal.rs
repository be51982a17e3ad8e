//! The same figures as text, for terminals: `/status.txt`, which `contactd status` prints.

use bytesize::ByteSize;

use super::super::figures::{duration, percent, plural, rate, seconds, whole};
use super::super::view::{ConnectorView, JobView, StatusView, TierView};
use super::connectors::{limits, paused};
use super::parts::{failures, period, share, source_name};

/// The page as text.
pub(in crate::ops) fn text(status: &StatusView) -> String {
    [
        head(status),
        lookups(status),
        connectors(status),
        tiers(status),
        prefetch(status),
    ]
    .join("\n")
}

fn head(status: &StatusView) -> String {
    let replicas = status
        .replicas
        .map_or("alone, without Redis".to_owned(), |n| {
            plural(n as usize, "replica")
        });
    format!(
        "contactd {}, revision {}\n  {}, up {}, {replicas}; figures of the last {}\n",
        status.version,
        status.revision,
        status.state,
        duration(status.uptime_seconds),
        period(status),
    )
}

fn lookups(status: &StatusView) -> String {
    let lookups = &status.lookups;
    let has_redis = status.redis.is_some();
    let sources = lookups.sources.iter();
    let mut rows = vec![["", "a second", "share", "look-ups", "median", "p99"].map(str::to_owned)];
    rows.extend(
        sources
            .filter(|source| has_redis || source.name != "redis")
            .map(|source| {
                [
                    source_name(source.name).to_owned(),
                    rate(source.per_second),
                    share(source.in_window, lookups.in_window),
                    whole(source.in_window),
                    seconds(source.p50_seconds),
                    seconds(source.p99_seconds),
                ]
            }),
    );
    format!(
        "Look-ups: {} in all, {} a second, {} joined a running CRM look-up\n{}  without an answer: {}\n",
        whole(lookups.in_window),
        rate(lookups.per_second),
        whole(lookups.shared_in_window),
        table(&rows),
        counts(failures(lookups)),
    )
}

fn connectors(status: &StatusView) -> String {
    let mut text = "CRM quotas\n".to_owned();
    for connector in &status.connectors {
        let quota = &connector.quota;
        text += &format!(
            "  {}: {}\n    {}\n",
            quota.name,
            limits(quota),
            calls(connector)
        );
        let waiting = quota.waiting;
        text += &format!(
            "    waiting: {} call pops, {} refreshes, {} prefetch; paused: {}\n",
            waiting.call_pop,
            waiting.revalidate,
            waiting.prefetch,
            paused(quota),
        );
    }
    text
}

fn calls(connector: &ConnectorView) -> String {
    let spent = connector.spent.map(percent);
    let spent = spent.map(|spent| format!(", {spent} of the quota"));
    format!(
        "{} calls a second by {}{}\n    {} of {} failed; median {}, p99 {}",
        rate(connector.calls_per_second),
        plural(connector.quota.scopes, connector.quota.scope),
        spent.unwrap_or_default(),
        whole(connector.failed_in_window),
        whole(connector.calls_in_window),
        seconds(connector.p50_seconds),
        seconds(connector.p99_seconds),
    )
}

fn tiers(status: &StatusView) -> String {
    let head = [
        "",
        "asked a second",
        "answered",
        "fresh",
        "stale",
        "misses",
        "errors",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(status.tiers.iter().map(tier_row));
    let states = status.tiers.iter().map(|tier| state(status, tier));
    format!(
        "Stored answers\n{}{}",
        table(&rows),
        states.collect::<String>()
    )
}

fn tier_row(tier: &TierView) -> [String; 7] {
    let of = |result| tier.results_in_window.get(result).copied().unwrap_or(0);
    let (fresh, stale, misses, errors) = (of("hit"), of("stale"), of("miss"), of("error"));
    [
        source_name(tier.name).to_owned(),
        rate(tier.per_second),
        share(fresh + stale, fresh + stale + misses + errors),
        whole(fresh),
        whole(stale),
        whole(misses),
        whole(errors),
    ]
}

fn state(status: &StatusView, tier: &TierView) -> String {
    let state = match (tier.entries, tier.bytes, tier.limit_bytes) {
        (Some(entries), Some(bytes), Some(limit)) => {
            let (bytes, limit) = (ByteSize(bytes), ByteSize(limit));
            let entries = plural(usize::try_from(entries).unwrap_or(usize::MAX), "answer");
            format!("{entries}, {bytes} of {limit}")
        }
        _ => status.redis.map_or("down", |redis| redis.state).to_owned(),
    };
    format!("  {}: {state}\n", source_name(tier.name))
}

fn prefetch(status: &StatusView) -> String {
    let prefetch = &status.prefetch;
    let numbers = prefetch.numbers_in_window.iter();
    let jobs: String = prefetch.jobs.iter().map(job).collect();
    format!(
        "Prefetch: {} running; numbers done: {}\n{jobs}",
        plural(prefetch.running, "batch"),
        counts(numbers.map(|(outcome, count)| (outcome, *count))),
    )
}

fn job(job: &JobView) -> String {
    format!(
        "  {}: {} of {} numbers, for {}\n",
        job.platform,
        whole(job.done as u64),
        whole(job.total as u64),
        duration(job.running_seconds),
    )
}

fn counts<'a>(counts: impl Iterator<Item = (&'a String, u64)>) -> String {
    let counts: Vec<String> = counts
        .map(|(name, count)| format!("{} {}", whole(count), name.replace('_', " ")))
        .collect();
    if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    }
}

/// Columns to the right, except the names in the first.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(n, cell)| {
            let width = width(n).unwrap_or(0);
            if n == 0 {
                format!("  {cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            }
        });
        let line: String = cells.collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}
