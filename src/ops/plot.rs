//! Small plots as SVG: the last five minutes, the newest on the right.
//!
//! Drawn without text and without colours: the style sheet sets the colours, each area has a
//! pattern, and the text beside a plot explains it.

use std::fmt::Write as _;

use super::figures::Escaped;

/// Steps from the left to the right edge.
const STEPS: usize = 150;
/// Width of all plots, in their own units.
const WIDTH: f64 = 600.0;
/// Height of a plot with several layers.
const STACK_HEIGHT: f64 = 150.0;

/// One value for each step, drawn as a line over an area. `label` describes it.
pub(super) fn line(values: &[f64], label: &str) -> String {
    const HEIGHT: f64 = 40.0;
    let top = highest(values.iter().copied());
    let points: Vec<(f64, f64)> = values
        .iter()
        .enumerate()
        .map(|(n, value)| (x(n, values.len()), y(value / top, HEIGHT)))
        .collect();
    let mut svg = open("spark", HEIGHT, label);
    if let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) {
        let path = path(&points);
        let _ = write!(
            svg,
            r#"<path class="area" d="{path}L{last:.1} {HEIGHT} {first:.1} {HEIGHT}Z"/>"#
        );
        let _ = write!(svg, r#"<path class="line" d="{path}"/>"#);
    }
    svg + "</svg>"
}

/// Times on a logarithmic scale from 100 µs at the bottom to 10 s at the top, with gaps for steps
/// without a value.
pub(super) fn times(values: &[Option<f64>], label: &str) -> String {
    const HEIGHT: f64 = 40.0;
    let mut svg = open("spark", HEIGHT, label);
    let mut run: Vec<(f64, f64)> = Vec::new();
    for (n, value) in values.iter().enumerate() {
        if let Some(seconds) = value {
            run.push((
                x(n, values.len()),
                y((seconds.clamp(1e-4, 10.0) / 1e-4).log10() / 5.0, HEIGHT),
            ));
        }
        if value.is_none() || n + 1 == values.len() {
            if let [(only, height)] = run[..] {
                run.push((only + WIDTH / 150.0, height));
            }
            if !run.is_empty() {
                let _ = write!(svg, r#"<path class="line" d="{}"/>"#, path(&run));
            }
            run.clear();
        }
    }
    svg + "</svg>"
}

/// Several values for each step, stacked, each with its class. Also returns the top of the scale.
pub(super) fn stack(layers: &[(&str, &[f64])], label: &str) -> (String, f64) {
    let lengths = layers.iter().map(|(_, values)| values.len());
    let ground = vec![0.0; lengths.max().unwrap_or(0)];
    let all = layers
        .iter()
        .fold(ground.clone(), |sums, (_, values)| raised(&sums, values));
    let top = round_up(highest(all.iter().copied()));
    let mut svg = open("stack", STACK_HEIGHT, label);
    svg.push_str(PATTERNS);
    grid(&mut svg);
    let mut below = ground;
    for (class, values) in layers {
        let above = raised(&below, values);
        layer(&mut svg, class, edge(&below, top), edge(&above, top));
        below = above;
    }
    (svg + "</svg>", top)
}

/// The sums with one more layer on top.
fn raised(sums: &[f64], values: &[f64]) -> Vec<f64> {
    let values = values.iter().chain(std::iter::repeat(&0.0));
    sums.iter()
        .zip(values)
        .map(|(sum, value)| sum + value)
        .collect()
}

fn grid(svg: &mut String) {
    for part in [0.25, 0.5, 0.75] {
        let height = y(part, STACK_HEIGHT);
        let _ = write!(svg, r#"<path class="grid" d="M0 {height:.1}H{WIDTH}"/>"#);
    }
}

/// The points of the line at these heights.
fn edge(sums: &[f64], top: f64) -> Vec<(f64, f64)> {
    let point = |(n, sum): (usize, &f64)| (x(n, sums.len()), y(sum / top, STACK_HEIGHT));
    sums.iter().enumerate().map(point).collect()
}

/// The area between two edges, and its upper edge as a line.
fn layer(svg: &mut String, class: &str, lower: Vec<(f64, f64)>, mut upper: Vec<(f64, f64)>) {
    if upper.len() < 2 {
        return;
    }
    let line = path(&upper);
    upper.extend(lower.into_iter().rev());
    let around = path(&upper);
    let _ = write!(
        svg,
        r#"<path class="{class}" fill="url(#{class})" d="{around}Z"/>"#
    );
    let _ = write!(svg, r#"<path class="{class} line" d="{line}"/>"#);
}

/// One pattern for each source, so that areas differ without colours.
const PATTERNS: &str = concat!(
    "<defs>",
    r#"<pattern id="memory" width="6" height="6" patternUnits="userSpaceOnUse">"#,
    r#"<path class="ground" d="M0 0h6v6H0z"/></pattern>"#,
    r#"<pattern id="redis" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">"#,
    r#"<path class="ground" d="M0 0h6v6H0z"/><path class="ink" d="M0 0h2v6H0z"/></pattern>"#,
    r#"<pattern id="crm" width="6" height="6" patternUnits="userSpaceOnUse">"#,
    r#"<path class="ground" d="M0 0h6v6H0z"/><circle class="ink" cx="3" cy="3" r="1.3"/></pattern>"#,
    r#"<pattern id="none" width="6" height="6" patternUnits="userSpaceOnUse">"#,
    r#"<path class="ground" d="M0 0h6v6H0z"/><path class="ink" d="M0 2h6v1.5H0z"/></pattern>"#,
    "</defs>",
);

/// A sample of a pattern, for the legend.
pub(super) fn swatch(class: &str) -> String {
    format!(
        "{}{}",
        r#"<svg class="swatch" viewBox="0 0 18 12" aria-hidden="true">"#,
        format_args!(
            r#"<rect class="{class}" width="18" height="12" fill="url(#{class})"/></svg>"#
        )
    )
}

fn open(class: &str, height: f64, label: &str) -> String {
    let (label, shown) = (Escaped(label), r#"preserveAspectRatio="none" role="img""#);
    format!(r#"<svg class="{class}" viewBox="0 0 {WIDTH} {height}" {shown} aria-label="{label}">"#)
}

#[expect(clippy::cast_precision_loss, reason = "there are 150 steps")]
fn x(n: usize, length: usize) -> f64 {
    WIDTH * ((STEPS - 1).saturating_sub(length - 1 - n)) as f64 / (STEPS - 1) as f64
}

/// Slightly inside the edge, so that no line is cut off.
fn y(part: f64, height: f64) -> f64 {
    height - 1.0 - part.clamp(0.0, 1.0) * (height - 3.0)
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::with_capacity(points.len() * 12);
    for (n, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if n == 0 { "M" } else { "L" });
    }
    path
}

/// The highest value, or something above zero if all are zero.
fn highest(values: impl Iterator<Item = f64>) -> f64 {
    let highest = values.fold(0.0, f64::max);
    if highest > 0.0 { highest } else { 1.0 }
}

/// The next number of the form 1, 2, 4 times a power of ten: a quarter of it is easy to read.
fn round_up(value: f64) -> f64 {
    let power = 10.0_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|top| *top >= value)
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_is_at_the_right_edge_and_the_scale_is_round() {
        assert!((x(149, 150) - WIDTH).abs() < 1e-9 && x(0, 150).abs() < 1e-9);
        assert!(
            (x(0, 1) - WIDTH).abs() < 1e-9,
            "a young history is at the right"
        );
        let tops = [0.3, 1.0, 1.1, 3.9, 4.1, 70.0].map(|value| format!("{:.1}", round_up(value)));
        assert_eq!(tops, ["0.4", "1.0", "2.0", "4.0", "10.0", "100.0"]);
        let (svg, top) = stack(&[("memory", &[1.0, 2.0]), ("crm", &[0.5, 1.5])], "x");
        assert!(
            (top - 4.0).abs() < 1e-9 && svg.matches("<path class=\"crm").count() == 2,
            "{svg}"
        );
    }

    #[test]
    fn a_plot_without_values_is_empty_and_one_with_gaps_has_a_line_for_each_run() {
        assert!(!line(&[], "x").contains("<path"));
        assert!(!times(&[None, None], "x").contains("<path"));
        assert_eq!(
            times(&[Some(1.0), None, Some(0.1), Some(20.0)], "x")
                .matches("<path")
                .count(),
            2
        );
        assert!(stack(&[("memory", &[])], "x").0.contains("</svg>"));
    }
}
