//! The mean day of a log as SVG: the hit rate, and the look-ups and calls to CRMs of an hour.

use std::fmt::Write as _;

use super::report::Report;
use crate::plan::{BUCKET, Figures, share};

/// Half-hours of a day.
const STEPS: usize = 48;
const DAY: u64 = 24 * 3600 * 1000;
/// Left and right edge of the plots, and the size of the picture.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 770.0;
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 560.0;
/// Top and bottom of each plot.
const RATE: (f64, f64) = (70.0, 240.0);
const CALLS: (f64, f64) = (330.0, 500.0);

/// The colours of lines: distinct for people who see few colours, on white.
const COLOURS: [&str; 4] = ["#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce"];

/// Their dashes: a line may lie on another.
const DASHES: [&str; 4] = ["", "9 5", "3 4", "12 4 3 4"];

/// Sums of a half-hour over all days.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    lookups: u64,
    hits: u64,
    crm_calls: u64,
}

/// The plot.
pub(super) fn day(report: &Report<'_>) -> String {
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"
 font-family="system-ui, sans-serif" font-size="13" fill="#1f2937">
<title>The mean day of a call log</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
"##
    );
    let replicas: Vec<(f64, &Figures)> = report
        .of("replicas")
        .map(|(of, figures)| (of.value, figures))
        .take(COLOURS.len())
        .collect();
    rates(&mut svg, &replicas);
    calls(&mut svg, &replicas);
    svg + "</svg>\n"
}

fn rates(svg: &mut String, replicas: &[(f64, &Figures)]) {
    title(
        svg,
        RATE.0,
        "Hit rate by the time of day (UTC), mean of all days",
    );
    axes(svg, RATE, 100.0, "%");
    for (n, (count, figures)) in replicas.iter().enumerate() {
        let rate = |step: &Step| {
            let has_any = step.lookups > 0;
            has_any.then(|| 100.0 * share(step.hits, step.lookups))
        };
        let rates: Vec<Option<f64>> = steps(figures).iter().map(rate).collect();
        line(svg, &rates, (RATE, 100.0), (COLOURS[n], DASHES[n]));
        let label = format!("{count} {}", replica(*count));
        legend(svg, RATE.0, n, (COLOURS[n], DASHES[n]), &label);
    }
}

/// One line of a plot.
struct Line<'a> {
    values: Vec<Option<f64>>,
    colour: &'a str,
    label: String,
    dashes: &'a str,
}

fn calls(svg: &mut String, replicas: &[(f64, &Figures)]) {
    title(
        svg,
        CALLS.0,
        "Look-ups and calls to CRMs an hour, mean of all days",
    );
    let mut lines = Vec::new();
    if let Some((_, figures)) = replicas.first() {
        lines.push(Line {
            values: an_hour(figures, |step| step.lookups),
            colour: "#6b7280",
            label: "look-ups".to_owned(),
            dashes: "",
        });
    }
    for (n, (count, figures)) in replicas.iter().enumerate() {
        lines.push(Line {
            values: an_hour(figures, |step| step.crm_calls),
            colour: COLOURS[n],
            label: format!("CRM calls, {count} {}", replica(*count)),
            dashes: DASHES[n],
        });
    }
    let values = lines.iter().flat_map(|line| line.values.iter().flatten());
    let top = round_up(values.copied().fold(1.0, f64::max));
    axes(svg, CALLS, top, "");
    for (n, drawn) in lines.iter().enumerate() {
        line(
            svg,
            &drawn.values,
            (CALLS, top),
            (drawn.colour, drawn.dashes),
        );
        legend(svg, CALLS.0, n, (drawn.colour, drawn.dashes), &drawn.label);
    }
}

/// The mean of all days for each step, as a number in an hour.
fn an_hour(figures: &Figures, what: fn(&Step) -> u64) -> Vec<Option<f64>> {
    let days = days(figures);
    let steps = steps(figures);
    // A step is half an hour.
    steps
        .iter()
        .map(|step| Some(2.0 * share(what(step), days)))
        .collect()
}

fn replica(count: f64) -> &'static str {
    if count > 1.0 { "replicas" } else { "replica" }
}

fn steps(figures: &Figures) -> Vec<Step> {
    let mut steps = vec![Step::default(); STEPS];
    for (n, bucket) in figures.buckets.iter().enumerate() {
        let of_day = (figures.begins + n as u64 * BUCKET) % DAY;
        let index = usize::try_from(of_day * STEPS as u64 / DAY).unwrap_or(0);
        let step = &mut steps[index];
        step.lookups += u64::from(bucket.lookups);
        step.hits += u64::from(bucket.hits);
        step.crm_calls += u64::from(bucket.crm_calls);
    }
    steps
}

/// Days of the log, at least one.
fn days(figures: &Figures) -> u64 {
    (figures.buckets.len() as u64 * BUCKET).div_ceil(DAY).max(1)
}

fn title(svg: &mut String, top: f64, text: &str) {
    let y = top - 40.0;
    let _ = writeln!(
        svg,
        r#"<text x="{LEFT}" y="{y}" font-size="15" font-weight="600">{text}</text>"#
    );
}

fn legend(svg: &mut String, top: f64, n: usize, (colour, dashes): (&str, &str), label: &str) {
    #[expect(clippy::cast_precision_loss, reason = "there are few lines")]
    let x = LEFT + 175.0 * n as f64;
    let (y, end, text) = (top - 16.0, x + 24.0, x + 30.0);
    let _ = writeln!(
        svg,
        r#"<path d="M{x} {y}H{end}" stroke="{colour}" stroke-width="3" stroke-dasharray="{dashes}"/><text x="{text}" y="{}">{label}</text>"#,
        y + 4.0
    );
}

fn axes(svg: &mut String, (top, bottom): (f64, f64), most: f64, unit: &str) {
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (y, value) = (bottom - part * (bottom - top), part * most);
        let _ = writeln!(
            svg,
            r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#d1d5db"/><text x="{}" y="{:.1}" text-anchor="end">{value:.0}{unit}</text>"##,
            LEFT - 8.0,
            y + 4.0
        );
    }
    for hour in [0, 4, 8, 12, 16, 20, 24] {
        let x = LEFT + f64::from(hour) / 24.0 * (RIGHT - LEFT);
        let y = bottom + 20.0;
        let _ = writeln!(
            svg,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{hour}:00</text>"#
        );
    }
}

/// A line through the middle of each step, with gaps for steps without a value.
fn line(
    svg: &mut String,
    values: &[Option<f64>],
    (area, most): ((f64, f64), f64),
    (colour, dashes): (&str, &str),
) {
    let ((top, bottom), mut path, mut is_open) = (area, String::new(), false);
    for (n, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_open = false;
            continue;
        };
        #[expect(clippy::cast_precision_loss, reason = "there are 48 steps")]
        let x = LEFT + (n as f64 + 0.5) / STEPS as f64 * (RIGHT - LEFT);
        let y = bottom - value / most * (bottom - top);
        let _ = write!(path, "{}{x:.1} {y:.1}", if is_open { "L" } else { "M" });
        is_open = true;
    }
    let _ = writeln!(
        svg,
        r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>"#
    );
}

/// The next of 1, 2, 4, 8 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|top| *top >= value).unwrap_or(value)
}
