//! The figures of a growing daemon as one SVG: a row for each axis, a column for each kind of
//! figure. All panels of a column have the same scale. Readable in light and dark, and without
//! colours: one line is solid, the other one dashed.

use std::fmt::Write as _;

use super::{Axis, CALLS_A_SECOND, Figures};

const WIDTH: f64 = 960.0;
const TOP: f64 = 62.0;
const LEFT: f64 = 52.0;
/// A panel, and the room between two of them.
const PANEL: (f64, f64) = (226.0, 130.0);
const GAP: (f64, f64) = (84.0, 56.0);

const STYLE: &str = "
svg { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --quiet: #59636e; --grid: #d8dee4;
      --one: #0b62c4; --two: #b4470b; font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #0d1117; --ink: #e6edf3; --quiet: #9198a1; --grid: #30363d; --one: #58a6ff; --two: #ffa657; } }
.paper { fill: var(--paper); }
text { fill: var(--quiet); }
.title { fill: var(--ink); font-size: 15px; font-weight: 600; }
.name { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--grid); fill: none; }
.one { stroke: var(--one); } .two { stroke: var(--two); stroke-dasharray: 5 3; }
.line { fill: none; stroke-width: 2; }
.dot { stroke: none; } .dot.one { fill: var(--one); } .dot.two { fill: var(--two); }
.label { font-weight: 600; } .label.one { fill: var(--one); } .label.two { fill: var(--two); }
.label.one, .label.two { stroke: none; }
";

/// A line of a panel: its class, its label if there are several, and the figure it shows.
struct Line {
    class: &'static str,
    label: &'static str,
    figure: fn(&Figures) -> f64,
}

/// A column of panels.
struct Column {
    name: String,
    lines: Vec<Line>,
    is_log: bool,
}

fn columns() -> [Column; 3] {
    let line = |class, label, figure| Line {
        class,
        label,
        figure,
    };
    let rate = CALLS_A_SECOND / 1_000;
    [
        Column {
            name: format!("latency at {rate},000 calls/s, ms"),
            lines: vec![
                line("one", "p50", |figures| figures.p50),
                line("two", "p99", |figures| figures.p99),
            ],
            is_log: true,
        },
        Column {
            name: "CPU of the daemon, µs a call".to_owned(),
            lines: vec![line("one", "", |figures| figures.cpu)],
            is_log: false,
        },
        Column {
            name: "resident memory, MiB".to_owned(),
            lines: vec![line("one", "", |figures| figures.resident)],
            is_log: true,
        },
    ]
}

/// A vertical scale, with its marks from the lowest to the highest.
struct Scale {
    marks: Vec<f64>,
    is_log: bool,
}

impl Scale {
    fn over(values: &[f64], is_log: bool) -> Self {
        let (low, high) = values
            .iter()
            .fold((f64::MAX, 0.0_f64), |(low, high), value| {
                (low.min(*value), high.max(*value))
            });
        let marks = if is_log {
            decades(low, high)
        } else {
            let step = round_up(high / 4.0);
            let count = (high / step).ceil();
            (0..=5)
                .map(|n| f64::from(n) * step)
                .take_while(|mark| *mark <= count * step)
                .collect()
        };
        Self { marks, is_log }
    }

    /// From 0 at the lowest mark to 1 at the highest.
    fn part(&self, value: f64) -> f64 {
        let [low, .., high] = self.marks[..] else {
            return 0.0;
        };
        if self.is_log {
            (value / low).log10() / (high / low).log10()
        } else {
            (value - low) / (high - low)
        }
    }
}

/// Marks at 1, 2 and 5 times powers of ten, from below the lowest value to above the highest; only
/// the powers of ten if those are many.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = if high / low > 30.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let marks: Vec<f64> = (-6..9)
        .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
        .collect();
    let first = marks.iter().rposition(|mark| *mark <= low).unwrap_or(0);
    let last = marks.iter().position(|mark| *mark >= high);
    marks[first..=last.unwrap_or(marks.len() - 1)].to_vec()
}

/// The next number of the form 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10.0_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let next = steps.into_iter().find(|step| *step >= value);
    next.unwrap_or(value)
}

/// The whole plot.
pub(super) fn draw(rows: &[(Axis, Vec<Figures>)]) -> String {
    let columns = columns();
    #[expect(clippy::cast_precision_loss, reason = "there are three rows")]
    let height = TOP + rows.len() as f64 * (PANEL.1 + GAP.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Latency, CPU and memory of hits as stored answers, users and connections grow; \
         the table in tests/README.md has the figures\">\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">A hit as contactd grows</text>\n"
    );
    let mut left = LEFT;
    for column in &columns {
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{left}\" y=\"48\">{}</text>",
            column.name
        );
        let values: Vec<f64> = rows
            .iter()
            .flat_map(|(_, row)| row)
            .flat_map(|figures| column.lines.iter().map(|line| (line.figure)(figures)))
            .collect();
        let scale = Scale::over(&values, column.is_log);
        let mut top = TOP;
        for (axis, row) in rows {
            let panel = Panel {
                left,
                top,
                last: row.len().saturating_sub(1).max(1),
                scale: &scale,
            };
            panel.draw(&mut svg, *axis, row, &column.lines);
            top += PANEL.1 + GAP.1;
        }
        left += PANEL.0 + GAP.0;
    }
    svg + "</svg>\n"
}

/// One small plot.
struct Panel<'a> {
    left: f64,
    top: f64,
    /// The index of the last size.
    last: usize,
    scale: &'a Scale,
}

impl Panel<'_> {
    #[expect(clippy::cast_precision_loss, reason = "there are seven sizes")]
    fn x(&self, index: usize) -> f64 {
        self.left + PANEL.0 * index as f64 / self.last as f64
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL.1 * (1.0 - self.scale.part(value))
    }

    fn draw(&self, svg: &mut String, axis: Axis, row: &[Figures], lines: &[Line]) {
        self.frame(svg, axis, row);
        for line in lines {
            self.line(svg, row, line);
        }
    }

    fn frame(&self, svg: &mut String, axis: Axis, row: &[Figures]) {
        for mark in &self.scale.marks {
            let (y, end) = (self.y(*mark), self.left + PANEL.0);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{:.1} {y:.1}H{end:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                self.left,
                self.left - 7.0,
                y + 4.0,
                short(*mark)
            );
        }
        let bottom = self.top + PANEL.1;
        for (index, figures) in row.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "at most a million")]
            let size = short(figures.size as f64);
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{size}</text>",
                self.x(index),
                bottom + 17.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            self.left + PANEL.0 / 2.0,
            bottom + 33.0,
            axis.name()
        );
    }

    fn line(&self, svg: &mut String, row: &[Figures], line: &Line) {
        let points: Vec<(f64, f64)> = row
            .iter()
            .enumerate()
            .map(|(index, figures)| (self.x(index), self.y((line.figure)(figures))))
            .collect();
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1} {y:.1}"))
            .collect();
        let class = line.class;
        let _ = writeln!(
            svg,
            "<path class=\"line {class}\" d=\"M{}\"/>",
            path.join("L")
        );
        for (x, y) in &points {
            let _ = writeln!(
                svg,
                "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
            );
        }
        if let Some((x, y)) = points.last() {
            let _ = writeln!(
                svg,
                "<text class=\"label {class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x + 8.0,
                y + 4.0,
                line.label
            );
        }
    }
}

/// A number as people read it: 0.05, 20, 10k, 1M.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e4 {
        format!("{}k", value / 1e3)
    } else if value >= 1e3 {
        format!("{},{:03}", (value / 1e3).floor(), value % 1e3)
    } else {
        // Without the digits that binary fractions add.
        format!("{}", (value * 1e6).round() / 1e6)
    }
}
