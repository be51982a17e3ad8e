//! Calls to CRMs, and their quotas.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::figures::{Escaped, percent, plural, rate, seconds, whole};
use super::super::plot;
use super::super::view::{ConnectorView, QuotaView, StatusView};
use super::parts::table;

const HEAD: &str = "<tr><th scope=\"col\" rowspan=\"2\">Connector</th><th scope=\"col\" rowspan=\"2\">In use by</th>\
     <th scope=\"col\" rowspan=\"2\">Calls a second</th><th scope=\"col\" rowspan=\"2\">Of their quota</th>\
     <th scope=\"col\" rowspan=\"2\" class=\"plot\">Calls a second, 5 minutes</th>\
     <th scope=\"colgroup\" colspan=\"3\">Waiting</th><th scope=\"col\" rowspan=\"2\">Paused</th>\
     <th scope=\"col\" rowspan=\"2\">Failed</th><th scope=\"col\" rowspan=\"2\">Half within</th>\
     <th scope=\"col\" rowspan=\"2\">99 of 100</th></tr>\
     <tr class=\"second\"><th scope=\"col\">call pops</th><th scope=\"col\">refreshes</th>\
     <th scope=\"col\">prefetch</th></tr>";

/// The section.
pub(super) fn section(status: &StatusView) -> String {
    let rows: String = status.connectors.iter().map(row).collect();
    let table = table("Calls to CRMs and what may be spent", HEAD, &rows);
    format!("<section><h2>CRM budget</h2>{table}</section>\n")
}

fn row(connector: &ConnectorView) -> String {
    let quota = &connector.quota;
    format!(
        "<tr><th scope=\"row\">{}<small>{}</small></th><td>{}</td><td>{}</td>\
         <td>{}</td><td class=\"plot\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{} of {}</td><td>{}</td><td>{}</td></tr>",
        Escaped(&quota.name),
        limits(quota),
        plural(quota.scopes, quota.scope),
        rate(connector.calls_per_second),
        spent(connector.spent),
        history(connector),
        quota.waiting.call_pop,
        quota.waiting.revalidate,
        quota.waiting.prefetch,
        paused(quota),
        whole(connector.failed_in_window),
        whole(connector.calls_in_window),
        seconds(connector.p50_seconds),
        seconds(connector.p99_seconds),
    )
}

pub(super) fn limits(quota: &QuotaView) -> String {
    let (rate, per) = (quota.rate, period(quota.per_seconds));
    let (scope, burst) = (quota.scope, quota.burst);
    let mut limits = format!("{rate} per {per} for each {scope}, {burst} at once");
    for own in &quota.apart {
        let (kind, rate, per) = (own.kind, own.rate, period(own.per_seconds));
        let _ = write!(limits, "; {kind}: {rate} per {per}");
    }
    if let Some(concurrent) = quota.concurrent {
        let _ = write!(limits, "; {concurrent} on the wire");
    }
    if let Some(per_day) = quota.per_day {
        let _ = write!(limits, "; {per_day} a day");
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
