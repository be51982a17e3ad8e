//! Stored answers: memory and Redis.

use bytesize::ByteSize;

use super::super::figures::{plural, rate, whole};
use super::super::plot;
use super::super::view::{RedisView, StatusView, TierView};
use super::parts::{TableColumn, share, source_name, table};

const COLUMNS: [TableColumn; 9] = [
    TableColumn::text("Tier"),
    TableColumn::text("State"),
    TableColumn::number("Asked a second"),
    TableColumn::number("Answered"),
    TableColumn::number("Fresh"),
    TableColumn::number("Stale"),
    TableColumn::number("Misses"),
    TableColumn::number("Errors"),
    TableColumn::plot("Answered a second, 5 minutes"),
];

const MEMORY_ONLY: &str =
    "<p class=\"soft\">Redis is not configured: answers are kept in this process only.</p>";

/// The section.
pub(super) fn section(status: &StatusView) -> String {
    let tiers = status.tiers.iter();
    let rows = tiers.map(|tier| row(tier, status.redis));
    let table = table("Stored answers", &COLUMNS, rows);
    let note = if status.redis.is_none() {
        MEMORY_ONLY
    } else {
        ""
    };
    format!("<section><h2>Memory and Redis</h2>{table}{note}</section>\n")
}

fn row(tier: &TierView, redis: Option<RedisView>) -> [String; 9] {
    let of = |result| tier.results_in_window.get(result).copied().unwrap_or(0);
    let (fresh, stale, misses, errors) = (of("hit"), of("stale"), of("miss"), of("error"));
    let now = tier.history.last().copied().unwrap_or(0.0);
    let label = format!(
        "{}: look-ups answered a second; now {}",
        source_name(tier.name),
        rate(now)
    );
    [
        source_name(tier.name).to_owned(),
        state(tier, redis),
        rate(tier.per_second),
        share(fresh + stale, fresh + stale + misses + errors),
        whole(fresh),
        whole(stale),
        whole(misses),
        whole(errors),
        plot::line(&tier.history, &label),
    ]
}

fn state(tier: &TierView, redis: Option<RedisView>) -> String {
    if let (Some(entries), Some(bytes), Some(limit)) = (tier.entries, tier.bytes, tier.limit_bytes)
    {
        let (entries, bytes, limit) = (whole(entries), ByteSize(bytes), ByteSize(limit));
        return format!("{entries} entries, {bytes} of {limit}");
    }
    let (state, failed) = redis.map_or(("down", 0), |redis| {
        (redis.state, redis.failures_in_a_row as usize)
    });
    let (class, text) = match (state, failed) {
        ("up", 0) => ("good", "up".to_owned()),
        ("up", failed) => ("bad", format!("up, {} unanswered", plural(failed, "call"))),
        ("limited", _) => (
            "bad",
            "limited: it refuses some commands, see the log".to_owned(),
        ),
        ("connecting", _) => ("bad", "connecting".to_owned()),
        _ => ("bad", "down: look-ups continue without it".to_owned()),
    };
    format!("<span class=\"{class}\">{text}</span>")
}
