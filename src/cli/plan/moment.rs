//! One cell: the time of a call, as telephone systems and spreadsheets write it.

use std::time::{Duration, UNIX_EPOCH};

use time::{Date, Month};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// 1970-01-01 as a spreadsheet counts days.
const EPOCH_IN_DAYS: f64 = 25_569.0;

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MomentError {
    #[error(
        "is not a time such as 2026-03-09T14:05:00Z, 2026-03-09 14:05, 3/9/2026 2:05 PM, 9.3.2026 14:05, \
         1773065100 or 46090.58"
    )]
    Form,
    #[error("is not a day of the calendar")]
    Date,
    #[error("has no month from 1 to 12; if days come before months, use --day-first")]
    Month,
    #[error("is before 1970 or after 2199")]
    Range,
}

/// Milliseconds since the Unix epoch. A time without a zone is in UTC. `day_first` says how dates
/// with slashes are read.
pub(super) fn parse(text: &str, day_first: bool) -> Result<u64, MomentError> {
    let text = without_weekday(text.trim());
    let millis = match text.parse::<f64>() {
        Ok(number) => of_number(number)?,
        Err(_) => of_text(text, day_first)?,
    };
    u64::try_from(millis)
        .ok()
        .filter(|millis| *millis < 230 * 365 * 86_400_000)
        .ok_or(MomentError::Range)
}

/// The day of a moment in milliseconds since the Unix epoch, such as 2026-03-09.
pub(super) fn day(millis: u64) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(millis));
    time.to_string().chars().take(10).collect()
}

/// Seconds or milliseconds since the epoch, or the days of a spreadsheet.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the ranges are far below 2^52"
)]
fn of_number(number: f64) -> Result<i64, MomentError> {
    match number {
        1e8..1e11 => Ok((number * 1000.0).round() as i64),
        // 1979 on: smaller numbers such as 202603091405 are dates without separators.
        3e11..1e14 => Ok(number as i64),
        // 1970 to 2173.
        25_569.0..100_000.0 => Ok(((number - EPOCH_IN_DAYS) * 86_400.0).round() as i64 * 1000),
        _ => Err(MomentError::Form),
    }
}

fn of_text(text: &str, day_first: bool) -> Result<i64, MomentError> {
    let end = text
        .find(['T', ' ', ',', '\u{202f}', '\u{a0}'])
        .unwrap_or(text.len());
    let (date, rest) = text.split_at(end);
    let rest = rest.trim_start_matches(['T', ' ', ',', '\u{202f}', '\u{a0}']);
    let days = days(date, day_first)?;
    let (time, offset) = zone(rest).ok_or(MomentError::Form)?;
    let of_day = if time.is_empty() {
        0
    } else {
        time_of_day(time).ok_or(MomentError::Form)?
    };
    Ok(days * DAY + of_day - offset)
}

/// The text after a weekday, such as in `Thu 11/26/2026`.
fn without_weekday(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_alphabetic() || matches!(c, ',' | '.' | ' '))
}

/// Days since the epoch.
fn days(date: &str, day_first: bool) -> Result<i64, MomentError> {
    let separator = date.chars().find(|c| !c.is_ascii_digit());
    let separator = separator
        .filter(|c| matches!(c, '-' | '/' | '.'))
        .ok_or(MomentError::Form)?;
    let mut parts = date.trim_end_matches('.').splitn(3, separator);
    let mut part = || parts.next().and_then(small).ok_or(MomentError::Form);
    let (one, two, three) = (part()?, part()?, part()?);
    let is_year_first = date
        .split(separator)
        .next()
        .is_some_and(|year| year.len() == 4);
    let (year, month, day) = match separator {
        _ if is_year_first => (one, two, three),
        '/' if !day_first => (three, one, two),
        _ => (three, two, one),
    };
    let year = if year < 100 { year + 2000 } else { year };
    if separator == '/' && !is_year_first && !day_first && (13..=31).contains(&month) {
        return Err(MomentError::Month);
    }
    let month = u8::try_from(month)
        .ok()
        .and_then(|month| Month::try_from(month).ok());
    let (month, day) = (
        month.ok_or(MomentError::Date)?,
        u8::try_from(day).unwrap_or(0),
    );
    let year = i32::try_from(year).unwrap_or(0);
    let date = Date::from_calendar_date(year, month, day).map_err(|_| MomentError::Date)?;
    Ok(i64::from(date.to_julian_day()) - 2_440_588)
}

/// The time of day, and how far its zone is ahead of UTC, in milliseconds.
fn zone(text: &str) -> Option<(&str, i64)> {
    let text = text.trim();
    for name in ["Z", "UTC", "GMT"] {
        if let Some(time) = text.strip_suffix(name) {
            return Some((time.trim(), 0));
        }
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (time, offset) = text.split_at(at);
    let digits: String = offset[1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (small(&digits)?, 0),
        4 => (small(digits.get(..2)?)?, small(digits.get(2..)?)?),
        _ => return None,
    };
    let ahead = i64::from(hours * 60 + minutes) * 60_000;
    let is_valid = hours <= 18 && minutes < 60;
    let ahead = if offset.starts_with('-') {
        -ahead
    } else {
        ahead
    };
    is_valid.then_some((time.trim(), ahead))
}

/// Milliseconds since midnight of `14:05`, `14:05:09.5` or `2:05 PM`.
fn time_of_day(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower
        .trim_end_matches('.')
        .replace("a.m", "am")
        .replace("p.m", "pm");
    let (clock, half) = match (lower.strip_suffix("am"), lower.strip_suffix("pm")) {
        (Some(clock), _) => (clock.trim(), Some(0)),
        (_, Some(clock)) => (clock.trim(), Some(12)),
        _ => (lower.as_str(), None),
    };
    let mut parts = clock.split(':');
    let hour = parts.next().and_then(small)?;
    let minute = parts.next().map_or(half.map(|_| 0), small)?;
    let (second, fraction) = match parts.next() {
        None => (0, 0),
        Some(text) => {
            let (second, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
            (small(second)?, thousandths(fraction)?)
        }
    };
    let hour = match half {
        Some(half) if (1..=12).contains(&hour) => hour % 12 + half,
        Some(_) => return None,
        None => hour,
    };
    let is_valid = parts.next().is_none() && hour < 24 && minute < 60 && second <= 60;
    is_valid.then(|| i64::from((hour * 60 + minute) * 60 + second) * 1000 + fraction)
}

/// The first three digits of a fraction.
fn thousandths(digits: &str) -> Option<i64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let first: String = digits.chars().chain("000".chars()).take(3).collect();
    is_number.then(|| first.parse().ok())?
}

/// A number of at most four digits.
fn small(text: &str) -> Option<u32> {
    let text = text.trim();
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-09T14:05:00Z
    const MOMENT: u64 = 1_773_065_100_000;

    #[test]
    fn one_moment_in_every_form() {
        for text in [
            "2026-03-09T14:05:00Z",
            "2026-03-09T14:05:00.000Z",
            "2026-03-09T15:05:00+01:00",
            "2026-03-09 09:05:00-0500",
            "2026-03-09 14:05",
            "2026/03/09 14:05",
            "2026-03-09 14:05:00 UTC",
            "3/9/2026 14:05",
            "03/09/2026 2:05 PM",
            "3/9/26, 2:05\u{202f}PM",
            "Mon 03/09/2026 2:05 pm",
            "Mo., 09.03.2026 14:05:00",
            "9.3.2026 14:05",
            "1773065100",
            "1773065100.0",
            "1773065100000",
            " 46090.586805556 ",
        ] {
            assert_eq!(parse(text, false), Ok(MOMENT), "{text:?}");
        }
        assert_eq!(parse("9/3/2026 14:05", true), Ok(MOMENT));
        assert_eq!(
            parse("2026-03-09", false),
            Ok(MOMENT - 14 * 3_600_000 - 300_000)
        );
        assert_eq!(
            parse("3/9/2026 12:05 AM", false),
            Ok(MOMENT - 14 * 3_600_000)
        );
        assert_eq!(parse("2026-03-09T14:05:00.25Z", false), Ok(MOMENT + 250));
    }

    #[test]
    fn what_is_no_time_says_why() {
        for (text, error) in [
            ("", MomentError::Form),
            ("yesterday", MomentError::Form),
            ("12", MomentError::Form),
            ("202603091405", MomentError::Form),
            ("NaN", MomentError::Form),
            ("inf", MomentError::Form),
            ("14:05", MomentError::Form),
            ("2026-03-09T25:05:00Z", MomentError::Form),
            ("2026-03-09T14:05:00+99:00", MomentError::Form),
            ("2026-03-09 14:05:00:00", MomentError::Form),
            ("3/9/2026 13:05 PM", MomentError::Form),
            ("2026-02-30", MomentError::Date),
            ("2026-13-01", MomentError::Date),
            ("26/11/2026 14:05", MomentError::Month),
            ("1969-12-31", MomentError::Range),
            ("9999-12-31", MomentError::Range),
            ("2026-é3-09", MomentError::Form),
            ("9é3é2026", MomentError::Form),
            ("2026-03-09 +é", MomentError::Form),
            ("2026-03-09 14:05+1é2", MomentError::Form),
        ] {
            assert_eq!(parse(text, false), Err(error), "{text:?}");
        }
    }
}
