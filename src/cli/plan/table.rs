//! A plan for people.

use std::time::Duration;

use bytesize::ByteSize;

use super::moment::day;
use super::report::Report;
use crate::domain::Ages;
use crate::plan::{ConnectorFigures, Figures, PlannedConnector, Variant, share};

pub(super) fn human(report: &Report<'_>) -> String {
    let mut text = facts(report);
    text += &section(
        "By number of replicas; each call goes to a random one",
        &replicas(report),
    );
    if let Some(figures) = report.base() {
        text += &section(
            "Quotas, with the first number of replicas",
            &quotas(figures),
        );
    }
    for (what, title) in [
        ("ages", "With other ages (cache.found, cache.absent)"),
        ("quotas", "With other quotas"),
        ("memory", "With other cache.memory"),
    ] {
        text += &section(title, &what_if(report, what));
    }
    text
}

/// What the log has, what the settings say, and what is assumed.
fn facts(report: &Report<'_>) -> String {
    let left_out = report.read.left_out;
    let left_out = (left_out > 0).then(|| ("left out", format!("{} faulty rows", count(left_out))));
    let connectors = report.terms.connectors.iter();
    let lines = [("calls", calls(report)), ("users", users(report))]
        .into_iter()
        .chain(left_out)
        .chain([("settings", settings(report)), ("assumed", assumed(report))])
        .chain(connectors.map(|of| ("connector", calls_of(of))));
    let line = |(label, value): (&str, String)| format!("{label:<10} {value}\n");
    lines.map(line).collect()
}

fn calls(report: &Report<'_>) -> String {
    let log = &report.read.log;
    let span = log.span();
    let span = span.map(|(first, last)| format!("; {} to {}", day(first), day(last)));
    format!(
        "{}, and {} without a number{}",
        count(log.len() as u64),
        count(log.without_number()),
        span.unwrap_or_default()
    )
}

fn users(report: &Report<'_>) -> String {
    let log = &report.read.log;
    let (users, accounts) = log.people();
    let accounts = if report.read.has_accounts {
        format!("{} accounts", count(u64::from(accounts)))
    } else {
        "no account column: all users of a connector are one account".to_owned()
    };
    let (users, questions) = (count(users as u64), count(log.questions() as u64));
    format!("{users}, {accounts}; {questions} different pairs of user and number")
}

fn settings(report: &Report<'_>) -> String {
    let terms = report.terms;
    let ages = |ages: Ages| format!("{} and {}", time(ages.fresh), time(ages.stale));
    let redis = if terms.has_redis {
        "with Redis"
    } else {
        "without Redis"
    };
    format!(
        "{} of memory, {redis}; fresh and stale: found {}, absent {}",
        ByteSize(terms.memory),
        ages(terms.ages.found),
        ages(terms.ages.absent)
    )
}

fn assumed(report: &Report<'_>) -> String {
    let known = if report.read.says_known {
        "known numbers: as the log says".to_owned()
    } else {
        format!("{} of the numbers known", percent(report.known))
    };
    let (latency, bytes) = (time(report.terms.latency), report.terms.answer_bytes);
    format!(
        "{known}; a call to the CRM takes {latency}; an answer with a contact has {bytes} bytes"
    )
}

fn calls_of(connector: &PlannedConnector) -> String {
    let (calls, name) = (&connector.calls, &connector.name);
    let (found, nobody) = (calls.found + calls.details, calls.nobody);
    format!(
        "{name}: {found} calls for a look-up that finds somebody, {nobody} for one that finds nobody"
    )
}

fn replicas(report: &Report<'_>) -> Vec<Vec<String>> {
    let head = [
        "replicas",
        "hit rate",
        "after day 1",
        "from memory",
        "from Redis",
        "CRM calls/h at peak",
        "refused",
        "memory per replica",
        "evicted",
        "Redis",
    ];
    let row = |(variant, figures): (&Variant, &Figures)| {
        let memory = figures.total(|of| of.memory.iter().sum());
        let redis = figures.total(|of| of.redis.iter().sum());
        let lookups = figures.total(|of| of.lookups);
        vec![
            variant.value.to_string(),
            percent(figures.hit_rate()),
            figures.later_hit_rate().map_or("-".to_owned(), percent),
            percent(share(memory, lookups)),
            percent(share(redis, lookups)),
            count(figures.peak_hour()),
            count(figures.total(|of| of.refused)),
            ByteSize(figures.memory.bytes).to_string(),
            count(figures.evicted),
            figures
                .redis
                .map_or("-".to_owned(), |redis| ByteSize(redis.bytes).to_string()),
        ]
    };
    table(&head, report.of("replicas").map(row))
}

fn quotas(figures: &Figures) -> Vec<Vec<String>> {
    let head = [
        "connector",
        "quota",
        "for each",
        "peak",
        "headroom",
        "call pops that waited",
        "longest",
        "background calls that waited",
        "longest",
        "refused",
    ];
    let rows = figures.connectors.iter().filter(|of| of.lookups > 0);
    table(&head, rows.flat_map(quotas_of))
}

fn quotas_of(of: &ConnectorFigures) -> Vec<Vec<String>> {
    let quotas = of.quotas.iter().enumerate();
    let row = |(n, quota): (usize, &crate::plan::QuotaUse)| {
        let limit = format!("{} {} in {}", quota.limit, quota.what, time(quota.per));
        let mut cells = vec![
            of.name.clone(),
            limit,
            quota.scope.to_owned(),
            quota.peak.to_string(),
            percent(quota.headroom()),
        ];
        for waits in &of.waits {
            cells.push(percent(share(waits.waited, waits.calls)));
            cells.push(format!("{:.1} s", waits.longest.as_secs_f64()));
        }
        cells.push(count(of.refused));
        if n > 0 {
            // These are about all quotas of the connector together.
            cells[5..].iter_mut().for_each(String::clear);
        }
        cells
    };
    quotas.map(row).collect()
}

fn what_if(report: &Report<'_>, what: &str) -> Vec<Vec<String>> {
    let head = [
        what,
        "hit rate",
        "after day 1",
        "CRM calls/h at peak",
        "CRM calls",
        "refused",
        "longest wait of a call pop",
        "memory per replica",
        "evicted",
    ];
    let row = |(label, figures): (String, &Figures)| {
        let longest = figures
            .connectors
            .iter()
            .map(|of| of.waits[0].longest)
            .max();
        vec![
            label,
            percent(figures.hit_rate()),
            figures.later_hit_rate().map_or("-".to_owned(), percent),
            count(figures.peak_hour()),
            count(figures.total(|of| of.crm_calls)),
            count(figures.total(|of| of.refused)),
            format!("{:.1} s", longest.unwrap_or_default().as_secs_f64()),
            ByteSize(figures.memory.bytes).to_string(),
            count(figures.evicted),
        ]
    };
    let others = report
        .of(what)
        .map(|(of, figures)| (format!("x {}", of.value), figures));
    let others: Vec<_> = others.collect();
    if others.is_empty() {
        return Vec::new();
    }
    let base = report.base().map(|figures| ("as set".to_owned(), figures));
    table(&head, base.into_iter().chain(others).map(row))
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    std::iter::once(head).chain(rows).collect()
}

/// A title and rows of aligned cells. Nothing without rows.
fn section(title: &str, rows: &[Vec<String>]) -> String {
    let Some(head) = rows.first() else {
        return String::new();
    };
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    format!("\n{title}\n{}", rows.iter().map(line).collect::<String>())
}

/// With commas between thousands.
fn count(count: u64) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && n % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
