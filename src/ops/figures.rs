//! Formats figures for people.

use std::fmt;
use std::time::Duration;

/// Text within HTML, attributes included.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

/// A whole number with separated thousands: `12 345`, with narrow non-breaking spaces.
pub(super) fn whole(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A rate: one decimal if it is small.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is a small positive number"
)]
pub(super) fn rate(per_second: f64) -> String {
    if per_second <= 0.0 {
        "0".to_owned()
    } else if per_second < 0.1 {
        "under 0.1".to_owned()
    } else if per_second < 99.5 {
        format!("{per_second:.1}")
    } else {
        whole(per_second.round() as u64)
    }
}

/// A time with two significant digits. The highest bound of the histograms means "or more".
pub(super) fn seconds(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "–".to_owned();
    };
    let (value, unit) = match seconds {
        s if s >= 10.0 => return "over 10 s".to_owned(),
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A fraction as percent.
pub(super) fn percent(part: f64) -> String {
    match part * 100.0 {
        p if p > 0.0 && p < 1.0 => "under 1 %".to_owned(),
        p if p < 100.0 && p > 99.0 => "over 99 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

/// A duration in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// `1 user`, `2 users`.
pub(super) fn plural(count: usize, word: &str) -> String {
    format!(
        "{} {word}{}",
        whole(count as u64),
        match count {
            1 => "",
            _ if word.ends_with("ch") => "es",
            _ => "s",
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(whole),
            ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
        assert_eq!(
            [0.0, 0.04, 3.25, 99.4, 99.6, 1234.0].map(rate),
            ["0", "under 0.1", "3.2", "99.4", "100", "1\u{202f}234"]
        );
        let times = [0.000_075, 0.001_25, 0.025, 0.999, 2.5, 10.0].map(|s| seconds(Some(s)));
        assert_eq!(
            times,
            ["75 µs", "1.2 ms", "25 ms", "999 ms", "2.5 s", "over 10 s"]
        );
        assert_eq!(seconds(None), "–");
        assert_eq!(
            [0.0, 0.001, 0.345, 0.999, 1.0, 1.2].map(percent),
            ["0 %", "under 1 %", "34 %", "over 99 %", "100 %", "120 %"]
        );
        assert_eq!([5, 65, 90_061].map(duration), ["5s", "1m 5s", "1day 1h"]);
        assert_eq!(
            Escaped("<a b='\"&\">").to_string(),
            "&lt;a b=&#39;&quot;&amp;&quot;&gt;"
        );
    }
}
