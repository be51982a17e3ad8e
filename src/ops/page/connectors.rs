//! Calls to CRMs, and their quotas.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::figures::{Escaped, percent, plural, rate, seconds, whole};
use super::super::plot;
use super::super::view::{ConnectorView, QuotaView, StatusView};
use super::parts::{TableColumn, table};

const COLUMNS: [TableColumn; 12] = [
    TableColumn::text("Connector"),
    TableColumn::number("In use by"),
    TableColumn::number("Calls a second"),
    TableColumn::number("Of their quota"),
    TableColumn::plot("Calls a second, 5 minutes"),
    TableColumn::number("Call pops waiting"),
    TableColumn::number("Refreshes waiting"),
    TableColumn::number("Prefetch waiting"),
    TableColumn::text("Paused"),
    TableColumn::number("Failed"),
    TableColumn::number("Median"),
    TableColumn::number("p99"),
];

/// The section.
pub(super) fn section(status: &StatusView) -> String {
    let rows = status.connectors.iter().map(row);
    let table = table("Calls to CRMs and what may be spent", &COLUMNS, rows);
    format!("<section><h2>CRM quotas</h2>{table}</section>\n")
}

fn row(connector: &ConnectorView) -> [String; 12] {
    let quota = &connector.quota;
    let (failed, calls) = (connector.failed_in_window, connector.calls_in_window);
    [
        format!("{}<small>{}</small>", Escaped(&quota.name), limits(quota)),
        plural(quota.scopes, quota.scope),
        rate(connector.calls_per_second),
        spent(connector.spent),
        history(connector),
        quota.waiting.call_pop.to_string(),
        quota.waiting.revalidate.to_string(),
        quota.waiting.prefetch.to_string(),
        paused(quota),
        format!("{} of {}", whole(failed), whole(calls)),
        seconds(connector.p50_seconds),
        seconds(connector.p99_seconds),
    ]
}

pub(super) fn limits(quota: &QuotaView) -> String {
    let number = |count: u32| whole(count.into());
    let (rate, per) = (number(quota.rate), period(quota.per_seconds));
    let (scope, burst) = (quota.scope, number(quota.burst));
    let mut limits = format!("{rate} per {per} for each {scope}, {burst} at once");
    for own in &quota.apart {
        let (kind, rate, per) = (own.kind, number(own.rate), period(own.per_seconds));
        let _ = write!(limits, "; {kind}: {rate} per {per}");
    }
    if let Some(concurrent) = quota.concurrent {
        let _ = write!(limits, "; {} concurrent", number(concurrent));
    }
    if let Some(per_day) = quota.per_day {
        let _ = write!(limits, "; {} a day", number(per_day));
    }
    limits
}

fn spent(spent: Option<f64>) -> String {
    let Some(spent) = spent else {
        return "–".to_owned();
    };
    let (value, text) = (spent.min(1.0), percent(spent));
    format!("<meter max=\"1\" value=\"{value:.3}\"></meter>{text}")
}

pub(super) fn paused(quota: &QuotaView) -> String {
    match (quota.paused, quota.background_paused) {
        (0, 0) => "none".to_owned(),
        (0, background) => format!("{background}, background only"),
        (all, background) if all == background => all.to_string(),
        (all, background) => format!("{all}, and {} background only", background - all),
    }
}

fn history(connector: &ConnectorView) -> String {
    let highest = connector.history.iter().copied().fold(0.0, f64::max);
    let label = format!(
        "{}: calls a second; now {}, at most {}",
        connector.quota.name,
        rate(connector.calls_per_second),
        rate(highest)
    );
    plot::line(&connector.history, &label)
}

fn period(seconds: f64) -> String {
    humantime::format_duration(Duration::from_secs_f64(seconds)).to_string()
}
