//! The mean day of a log as SVG: the hit rate, and the look-ups and calls to CRMs of an hour.

use std::fmt::Write as _;

use super::report::Report;
use crate::plan::{BUCKET, Figures, share};

/// Half-hours of a day.
const STEPS: usize = 48;
const HOUR: u64 = 3600 * 1000;
const DAY: u64 = 24 * HOUR;
/// Left and right edge of the plots, and the size of the picture.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 770.0;
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 560.0;
/// Top and bottom of each plot.
const RATE: (f64, f64) = (70.0, 240.0);
const CALLS: (f64, f64) = (330.0, 500.0);

/// How wide a letter of a label is.
const LETTER: f64 = 6.4;

/// The colours of lines: distinct for people who see few colours, on white.
const COLOURS: [&str; 4] = ["#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce"];

/// Their dashes: a line may lie on another.
const DASHES: [&str; 4] = ["", "9 5", "3 4", "12 4 3 4"];

/// Sums of a half-hour over all days.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    /// How many periods of five minutes of the log are in it.
    buckets: u64,
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
    let mut x = LEFT;
    for (n, (count, figures)) in replicas.iter().enumerate() {
        let rate = |step: &Step| {
            let has_any = step.lookups > 0;
            has_any.then(|| 100.0 * share(step.hits, step.lookups))
        };
        let rates: Vec<Option<f64>> = steps(figures).iter().map(rate).collect();
        line(svg, &rates, (RATE, 100.0), (COLOURS[n], DASHES[n]));
        let label = format!("{count} {}", replica(*count));
        x = legend(svg, (x, RATE.0), (COLOURS[n], DASHES[n]), &label);
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
            label: format!("calls, {count} {}", replica(*count)),
            dashes: DASHES[n],
        });
    }
    let values = lines.iter().flat_map(|line| line.values.iter().flatten());
    let top = round_up(values.copied().fold(1.0, f64::max));
    axes(svg, CALLS, top, "");
    let mut x = LEFT;
    for drawn in &lines {
        line(
            svg,
            &drawn.values,
            (CALLS, top),
            (drawn.colour, drawn.dashes),
        );
        x = legend(
            svg,
            (x, CALLS.0),
            (drawn.colour, drawn.dashes),
            &drawn.label,
        );
    }
}

/// The mean of all days for each step, as a number in an hour.
fn an_hour(figures: &Figures, what: fn(&Step) -> u64) -> Vec<Option<f64>> {
    let steps = steps(figures).into_iter();
    let mean = |step: Step| {
        let is_there = step.buckets > 0;
        is_there.then(|| share(what(&step) * HOUR, step.buckets * BUCKET))
    };
    steps.map(mean).collect()
}

fn replica(count: f64) -> &'static str {
    if count > 1.0 { "replicas" } else { "replica" }
}

fn steps(figures: &Figures) -> Vec<Step> {
    let mut steps = vec![Step::default(); STEPS];
    // Refreshes may wait for the quota long after the last look-up.
    let last = figures.buckets.iter().rposition(|of| of.lookups > 0);
    let of_log = last.map_or(0, |last| last + 1);
    for (n, bucket) in figures.buckets[..of_log].iter().enumerate() {
        let of_day = (figures.begins + n as u64 * BUCKET) % DAY;
        let index = usize::try_from(of_day * STEPS as u64 / DAY).unwrap_or(0);
        let step = &mut steps[index];
        step.buckets += 1;
        step.lookups += u64::from(bucket.lookups);
        step.hits += u64::from(bucket.hits);
        step.crm_calls += u64::from(bucket.crm_calls);
    }
    steps
}

fn title(svg: &mut String, top: f64, text: &str) {
    let y = top - 40.0;
    let _ = writeln!(
        svg,
        r#"<text x="{LEFT}" y="{y}" font-size="15" font-weight="600">{text}</text>"#
    );
}

/// Returns where the next legend begins.
fn legend(
    svg: &mut String,
    (x, top): (f64, f64),
    (colour, dashes): (&str, &str),
    label: &str,
) -> f64 {
    let (y, end, text) = (top - 16.0, x + 24.0, x + 30.0);
    let _ = write!(
        svg,
        r#"<path d="M{x} {y}H{end}" stroke="{colour}" stroke-width="3" stroke-dasharray="{dashes}"/>"#
    );
    let _ = writeln!(svg, r#"<text x="{text}" y="{}">{label}</text>"#, y + 4.0);
    #[expect(clippy::cast_precision_loss, reason = "a label has few letters")]
    let letters = label.len() as f64;
    text + letters * LETTER + 12.0
}

fn axes(svg: &mut String, (top, bottom): (f64, f64), most: f64, unit: &str) {
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (y, value) = (bottom - part * (bottom - top), part * most);
        let _ = write!(
            svg,
            r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#d1d5db"/>"##
        );
        let _ = writeln!(
            svg,
            r#"<text x="{}" y="{:.1}" text-anchor="end">{value:.0}{unit}</text>"#,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Bucket;

    /// Two days with a call each five minutes, and then a day with calls to CRMs only.
    fn figures() -> Figures {
        let bucket = |n| Bucket {
            lookups: u32::from(n < 2 * 288),
            hits: 0,
            crm_calls: 1,
        };
        let mut figures = Figures::default();
        figures.buckets.extend((0..3 * 288).map(bucket));
        figures
    }

    #[test]
    fn the_legend_of_each_line_is_within_the_picture() {
        let (figures, mut svg) = (figures(), String::new());
        let replicas = [1.0, 10.0, 100.0, 1000.0].map(|count| (count, &figures));
        rates(&mut svg, &replicas);
        calls(&mut svg, &replicas);
        let mut legends = 0;
        for line in svg
            .lines()
            .filter(|line| line.contains('H') && line.contains("replica"))
        {
            let (_, text) = line.split_once("<text x=\"").unwrap();
            let (x, text) = text.split_once('"').unwrap();
            let (label, _) = text.split_once('>').unwrap().1.split_once('<').unwrap();
            let end =
                x.parse::<f64>().unwrap() + 6.0 * f64::from(u8::try_from(label.len()).unwrap());
            assert!(end <= WIDTH, "{label} ends at {end}");
            legends += 1;
        }
        assert_eq!(legends, 8, "{svg}");
    }

    #[test]
    fn a_mean_is_that_of_the_days_of_the_log() {
        let figures = figures();
        for mean in an_hour(&figures, |step| step.lookups) {
            assert_eq!(mean, Some(12.0));
        }
    }
}
