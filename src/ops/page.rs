//! The status page: the figures of [`Status`] as HTML. Every plot stands beside the figures that it
//! draws.

use std::fmt::Write as _;

use bytesize::ByteSize;

use super::figures::{Escaped, duration, percent, plural, rate, seconds, whole};
use super::plot;
use super::status::{Connector, Job, Lookups, Redis, Source, Status, Tier};

/// Outcomes that are no failure.
const NO_FAILURES: [&str; 3] = ["found", "not_found", "not_cached"];

/// The page.
pub(super) fn html(status: &Status) -> String {
    let parts = [
        head(status),
        tiles(status),
        lookups(status),
        connectors(status),
        tiers(status),
        prefetch(status),
    ];
    include_str!("page.html").replacen("{{main}}", &parts.concat(), 1)
}

fn head(status: &Status) -> String {
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
        window(status),
    )
}

fn window(status: &Status) -> String {
    duration(std::time::Duration::from_secs_f64(status.window_seconds.max(0.0)).as_secs())
}

fn tiles(status: &Status) -> String {
    let Lookups {
        per_second,
        in_window,
        sources,
        p50_seconds,
        p99_seconds,
        ..
    } = &status.lookups;
    let stored: u64 = sources[..2].iter().map(|source| source.in_window).sum();
    let failed = failures(&status.lookups).map(|(_, count)| count).sum();
    let calls: f64 = status
        .connectors
        .iter()
        .map(|connector| connector.calls_per_second)
        .sum();
    let waiting: usize = status.connectors.iter().map(waiting).sum();
    let tiles = [
        (
            "Look-ups a second",
            rate(*per_second),
            format!("{} in {}", whole(*in_window), window(status)),
        ),
        (
            "From memory or Redis",
            part(stored, *in_window),
            format!("{} look-ups", whole(stored)),
        ),
        (
            "Answered within",
            seconds(*p99_seconds),
            format!("99 of 100; half within {}", seconds(*p50_seconds)),
        ),
        (
            "Without an answer",
            whole(failed),
            format!("{} of the look-ups", part(failed, *in_window)),
        ),
        (
            "CRM calls a second",
            rate(calls),
            format!("{} for a turn", plural(waiting, "call") + " waiting"),
        ),
    ];
    let mut html = "<dl class=\"tiles\">".to_owned();
    for (name, figure, more) in tiles {
        let _ = write!(
            html,
            "<div><dt>{name}</dt><dd>{figure}</dd><dd>{more}</dd></div>"
        );
    }
    html + "</dl>\n"
}

fn lookups(status: &Status) -> String {
    let Lookups {
        sources,
        shared_in_window,
        in_window,
        ..
    } = &status.lookups;
    let layers: Vec<(&str, &[f64])> = sources
        .iter()
        .map(|source| (source.name, &source.history[..]))
        .collect();
    let label = format!(
        "Look-ups a second by source; now {}",
        rate(status.lookups.per_second)
    );
    let (svg, top) = plot::stack(&layers, &label);
    let legend: Vec<String> = sources
        .iter()
        .map(|source| {
            format!(
                "<span>{} {}</span>",
                plot::swatch(source.name),
                name(source.name)
            )
        })
        .collect();
    let legend = legend.concat();
    let rows: String = sources
        .iter()
        .map(|source| source_row(source, *in_window))
        .collect();
    let reasons = counts(failures(&status.lookups));
    format!(
        "<section><h2>Look-ups</h2>\
         <figure><figcaption>{legend}<span>top of the scale: {} a second</span></figcaption>{svg}\
         <div class=\"axis\"><span>5 minutes ago</span><span>now</span></div></figure>\
         {}<ul class=\"inline\"><li class=\"soft\">Joined a running CRM look-up: {}</li>\
         <li class=\"soft\">Without an answer:</li>{reasons}</ul></section>\n",
        rate(top),
        table(
            "Where answers came from",
            "<tr><th scope=\"col\">Source</th><th scope=\"col\">A second</th><th scope=\"col\">Share</th>\
             <th scope=\"col\">Look-ups</th><th scope=\"col\">Half within</th><th scope=\"col\">99 of 100 within</th>\
             <th scope=\"col\" class=\"plot\">99 of 100 within, 100 µs to 10 s</th></tr>",
            &rows,
        ),
        whole(*shared_in_window),
    )
}

fn source_row(source: &Source, all: u64) -> String {
    let label = format!(
        "{}: time of 99 of 100 look-ups; over all {}",
        name(source.name),
        seconds(source.p99_seconds)
    );
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td class=\"plot\">{}</td></tr>",
        name(source.name),
        rate(source.per_second),
        part(source.in_window, all),
        whole(source.in_window),
        seconds(source.p50_seconds),
        seconds(source.p99_seconds),
        plot::times(&source.p99_history, &label),
    )
}

fn connectors(status: &Status) -> String {
    let rows: String = status.connectors.iter().map(connector_row).collect();
    let head = "<tr><th scope=\"col\" rowspan=\"2\">Connector</th><th scope=\"col\" rowspan=\"2\">In use by</th>\
         <th scope=\"col\" rowspan=\"2\">Calls a second</th><th scope=\"col\" rowspan=\"2\">Of their quota</th>\
         <th scope=\"col\" rowspan=\"2\" class=\"plot\">Calls a second, 5 minutes</th>\
         <th scope=\"colgroup\" colspan=\"3\">Waiting for a turn</th><th scope=\"col\" rowspan=\"2\">Resting</th>\
         <th scope=\"col\" rowspan=\"2\">Failed</th><th scope=\"col\" rowspan=\"2\">Half within</th>\
         <th scope=\"col\" rowspan=\"2\">99 of 100</th></tr>\
         <tr class=\"second\"><th scope=\"col\">call pops</th><th scope=\"col\">refreshes</th>\
         <th scope=\"col\">prefetch</th></tr>";
    format!(
        "<section><h2>CRM budget</h2>{}</section>\n",
        table("Calls to CRMs and what may be spent", head, &rows)
    )
}

fn connector_row(connector: &Connector) -> String {
    let quota = &connector.quota;
    let highest = connector.history.iter().copied().fold(0.0, f64::max);
    let label = format!(
        "{}: calls a second; now {}, at most {}",
        quota.name,
        rate(connector.calls_per_second),
        rate(highest)
    );
    let spent = connector.spent.map_or("–".to_owned(), |spent| {
        format!(
            "<meter max=\"1\" value=\"{:.3}\"></meter>{}",
            spent.min(1.0),
            percent(spent)
        )
    });
    let mut apart = String::new();
    for own in &quota.apart {
        let _ = write!(
            apart,
            "; {}: {} per {}",
            own.kind,
            own.rate,
            short(own.per_seconds)
        );
    }
    let resting = match (quota.resting, quota.background_resting) {
        (0, 0) => "none".to_owned(),
        (0, background) => format!("{background}, background only"),
        (all, background) if all == background => all.to_string(),
        (all, background) => format!("{all}, and {} background only", background - all),
    };
    format!(
        "<tr><th scope=\"row\">{}<small>{} per {} for each {}, {} at once{apart}</small></th><td>{}</td><td>{}</td>\
         <td>{spent}</td><td class=\"plot\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{resting}</td>\
         <td>{} of {}</td><td>{}</td><td>{}</td></tr>",
        Escaped(&quota.name),
        quota.rate,
        short(quota.per_seconds),
        quota.scope,
        quota.burst,
        plural(quota.scopes, quota.scope),
        rate(connector.calls_per_second),
        plot::line(&connector.history, &label),
        quota.waiting.call_pop,
        quota.waiting.revalidate,
        quota.waiting.prefetch,
        whole(connector.failed_in_window),
        whole(connector.calls_in_window),
        seconds(connector.p50_seconds),
        seconds(connector.p99_seconds),
    )
}

fn tiers(status: &Status) -> String {
    let rows: String = status
        .tiers
        .iter()
        .map(|tier| tier_row(tier, status.redis))
        .collect();
    let head = "<tr><th scope=\"col\">Tier</th><th scope=\"col\" class=\"text\">State</th>\
         <th scope=\"col\">Asked a second</th><th scope=\"col\">Answered</th><th scope=\"col\">Fresh</th>\
         <th scope=\"col\">Stale</th><th scope=\"col\">Misses</th><th scope=\"col\">Errors</th>\
         <th scope=\"col\" class=\"plot\">Answered a second, 5 minutes</th></tr>";
    let note = if status.redis.is_none() {
        "<p class=\"soft\">Redis is not configured: answers are kept in this process only.</p>"
    } else {
        ""
    };
    format!(
        "<section><h2>Memory and Redis</h2>{}{note}</section>\n",
        table("Stored answers", head, &rows)
    )
}

fn tier_row(tier: &Tier, redis: Option<Redis>) -> String {
    let of = |result| tier.results_in_window.get(result).copied().unwrap_or(0);
    let (fresh, stale, misses, errors) = (of("hit"), of("stale"), of("miss"), of("error"));
    let now = tier.history.last().copied().unwrap_or(0.0);
    let label = format!(
        "{}: look-ups answered a second; now {}",
        name(tier.name),
        rate(now)
    );
    format!(
        "<tr><th scope=\"row\">{}</th><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{}</td><td class=\"plot\">{}</td></tr>",
        name(tier.name),
        tier_state(tier, redis),
        rate(tier.per_second),
        part(fresh + stale, fresh + stale + misses + errors),
        whole(fresh),
        whole(stale),
        whole(misses),
        whole(errors),
        plot::line(&tier.history, &label),
    )
}

fn tier_state(tier: &Tier, redis: Option<Redis>) -> String {
    if let (Some(entries), Some(bytes), Some(limit)) = (tier.entries, tier.bytes, tier.limit_bytes)
    {
        return format!(
            "{} entries, {} of {}",
            whole(entries),
            ByteSize(bytes),
            ByteSize(limit)
        );
    }
    match redis {
        Some(Redis {
            state: "up",
            failures_in_a_row: 0,
        }) => "<span class=\"good\">up</span>".to_owned(),
        Some(Redis {
            state: "up",
            failures_in_a_row: failed,
        }) => {
            format!(
                "<span class=\"bad\">up, {} unanswered</span>",
                plural(failed as usize, "call")
            )
        }
        Some(Redis {
            state: "limited", ..
        }) => "<span class=\"bad\">limited: it refuses a part, see the log</span>".to_owned(),
        Some(Redis {
            state: "connecting",
            ..
        }) => "<span class=\"bad\">connecting</span>".to_owned(),
        _ => "<span class=\"bad\">down: breaker open, going on without it</span>".to_owned(),
    }
}

fn prefetch(status: &Status) -> String {
    let prefetch = &status.prefetch;
    let body = if prefetch.jobs.is_empty() {
        "<p class=\"soft\">No job is running.</p>".to_owned()
    } else {
        let rows: String = prefetch.jobs.iter().map(job_row).collect();
        let head = "<tr><th scope=\"col\">Connector</th><th scope=\"col\" class=\"text\">Progress</th>\
             <th scope=\"col\">Numbers</th><th scope=\"col\">Running for</th><th scope=\"col\">A second</th></tr>";
        let caption = format!(
            "{} running, the oldest first",
            plural(prefetch.running, "job")
        );
        table(&caption, head, &rows)
    };
    let numbers = counts(
        prefetch
            .numbers_in_window
            .iter()
            .map(|(outcome, count)| (outcome, *count)),
    );
    format!(
        "<section><h2>Prefetch</h2>{body}<ul class=\"inline\"><li class=\"soft\">Numbers settled:</li>{numbers}</ul></section>\n"
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a job has at most some thousand numbers"
)]
fn job_row(job: &Job) -> String {
    let done = if job.total == 0 {
        1.0
    } else {
        job.done as f64 / job.total as f64
    };
    let name = Escaped(&job.platform);
    format!(
        "<tr><th scope=\"row\">{name}</th><td class=\"text\"><progress max=\"{}\" value=\"{}\" \
         aria-label=\"Progress of a job on {name}\"></progress>{}</td><td>{} of {}</td><td>{}</td><td>{}</td></tr>",
        job.total,
        job.done,
        percent(done),
        whole(job.done as u64),
        whole(job.total as u64),
        duration(job.running_seconds),
        rate(job.done as f64 / job.running_seconds.max(1) as f64),
    )
}

/// A table that scrolls by itself where the window is narrow.
fn table(caption: &str, head: &str, rows: &str) -> String {
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\
         <table><caption>{caption}</caption><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )
}

/// Counts with their names, as items of a list.
fn counts<'a>(counts: impl Iterator<Item = (&'a String, u64)>) -> String {
    let mut html = String::new();
    for (name, count) in counts {
        let _ = write!(
            html,
            "<li><strong>{}</strong> {}</li>",
            whole(count),
            Escaped(&name.replace('_', " "))
        );
    }
    if html.is_empty() {
        "<li>none</li>".to_owned()
    } else {
        html
    }
}

fn failures(lookups: &Lookups) -> impl Iterator<Item = (&String, u64)> {
    let outcomes = lookups
        .outcomes_in_window
        .iter()
        .map(|(reason, count)| (reason, *count));
    outcomes.filter(|(reason, _)| !NO_FAILURES.contains(&reason.as_str()))
}

fn waiting(connector: &Connector) -> usize {
    let waiting = connector.quota.waiting;
    waiting.call_pop + waiting.revalidate + waiting.prefetch
}

fn name(source: &str) -> &'static str {
    match source {
        "memory" => "Memory",
        "redis" => "Redis",
        "crm" => "CRM",
        _ => "No source",
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of calls are far below 2^52"
)]
fn part(part: u64, whole: u64) -> String {
    if whole == 0 {
        "–".to_owned()
    } else {
        percent(part as f64 / whole as f64)
    }
}

fn short(seconds: f64) -> String {
    humantime::format_duration(std::time::Duration::from_secs_f64(seconds)).to_string()
}
