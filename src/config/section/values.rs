//! Settings that are one value: a text, a duration, a size, a number, a switch.
//!
//! Defines their limits. Calculations with values within them cannot overflow.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use super::{Section, meant, parse};

/// The longest duration of a setting. It keeps every sum of times within the range of clocks, Redis
/// and caches.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The largest size of a setting. It keeps every sum of bytes within its integer type.
const LARGEST: u64 = 1 << 50;

impl Section<'_> {
    /// An optional whole number within a range.
    pub(in crate::config) fn optional_count(
        &mut self,
        key: &str,
        range: RangeInclusive<usize>,
    ) -> Option<usize> {
        self.is_given(key)
            .then(|| self.count(key, *range.start(), range))
    }

    /// A text that parses as `T`.
    pub(in crate::config) fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &str,
        default: &str,
    ) -> T {
        self.read(key, default, parse)
    }

    /// The address of a port.
    pub(in crate::config) fn address(&mut self, key: &str, default: &str) -> SocketAddr {
        self.read(key, default, |text| {
            let expected = || format!("must be an IP address and a port, such as \"{default}\"");
            text.parse().map_err(|_| expected())
        })
    }

    /// A duration such as `"250ms"`.
    pub(in crate::config) fn duration(&mut self, key: &str, default: &str) -> Duration {
        self.read(key, default, duration)
    }

    /// A number of bytes such as `"256MiB"`.
    pub(in crate::config) fn size(&mut self, key: &str, default: &str) -> u64 {
        self.read(key, default, size)
    }

    /// A whole number within a range.
    pub(in crate::config) fn count(
        &mut self,
        key: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        let number = match self.take(key) {
            None => Some(default),
            Some(Value::Integer(number)) => usize::try_from(number).ok(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let number = number.filter(|number| range.contains(number));
        let number = number.unwrap_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.fault(
                key,
                format!("must be a whole number from {least} to {most}"),
            );
            default
        });
        self.show(key, i64::try_from(number).unwrap_or(i64::MAX));
        number
    }

    /// A fraction, from 0 to 1.
    pub(in crate::config) fn part(&mut self, key: &str, default: f64) -> f64 {
        self.number(key, default, "must be a number from 0 to 1", |number| {
            (0.0..=1.0).contains(&number)
        })
    }

    /// A number above 0 and up to 1.
    pub(in crate::config) fn share(&mut self, key: &str, default: f64) -> f64 {
        let fits = |number| number > 0.0 && number <= 1.0;
        self.number(key, default, "must be a number above 0 and up to 1", fits)
    }

    fn number(
        &mut self,
        key: &str,
        default: f64,
        expected: &str,
        fits: impl Fn(f64) -> bool,
    ) -> f64 {
        let number = match self.take(key) {
            None => Some(default),
            Some(Value::Float(number)) => Some(number),
            Some(Value::Integer(whole)) => i32::try_from(whole).ok().map(f64::from),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let number = number.filter(|number| fits(*number)).unwrap_or_else(|| {
            self.fault(key, expected);
            default
        });
        self.show(key, number);
        number
    }

    /// `true` or `false`.
    pub(in crate::config) fn switch(&mut self, key: &str, default: bool) -> bool {
        let on = match self.take(key) {
            None => default,
            Some(Value::Boolean(on)) => on,
            Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => {
                self.fault(key, "must be true or false");
                default
            }
        };
        self.show(key, on);
        on
    }

    /// One of several values, by name. The first one is the default.
    pub(in crate::config) fn choice<T: Copy>(&mut self, key: &str, values: &[(&str, T)]) -> T {
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        let value_of = |text: &str| {
            let value = values.iter().find(|(name, _)| *name == text);
            let value = value.map(|(_, value)| *value);
            value.ok_or_else(|| format!("is not {}", one_of(&names)))
        };
        self.read(key, names[0], value_of)
    }

    /// One of several names; required.
    pub(in crate::config) fn one_of(&mut self, key: &str, names: &[&str]) -> Option<String> {
        let expected = one_of(names);
        match self.take(key) {
            Some(Value::String(text)) if names.contains(&text.as_str()) => {
                self.show(key, text.as_str());
                Some(text)
            }
            Some(other) => {
                let unknown = other.as_str().unwrap_or_default();
                let meant = meant(unknown, names.iter().copied());
                self.fault(key, format!("must be {expected}{meant}"));
                None
            }
            None => {
                self.missing(key, &expected);
                None
            }
        }
    }

    /// A text with a default that parses.
    #[expect(
        clippy::expect_used,
        reason = "defaults are literals of this program, read by a test"
    )]
    fn read<T>(
        &mut self,
        key: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let text = match self.take(key) {
            None => default.to_owned(),
            Some(Value::String(text)) => text,
            Some(value) => {
                let message =
                    format!("must be a string in quotes such as \"{default}\", not {value}");
                self.fault(key, message);
                default.to_owned()
            }
        };
        let value = parse(&text).map_err(|why| self.fault(key, format!("{text:?} {why}")));
        self.show(key, text);
        value.unwrap_or_else(|()| parse(default).expect("a default is valid"))
    }
}

fn one_of(names: &[&str]) -> String {
    format!("one of \"{}\"", names.join("\", \""))
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Err(_) => Err("is not a duration such as \"250ms\" or \"10m\"".to_owned()),
        Ok(duration) if duration > LONGEST => Err("is longer than ten years".to_owned()),
        Ok(duration) => Ok(duration),
    }
}

fn size(text: &str) -> Result<u64, String> {
    match text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()) {
        Err(_) => Err("is not a size such as \"256MiB\"".to_owned()),
        Ok(0) => Err("must be more than zero".to_owned()),
        Ok(size) if size > LARGEST => Err("is larger than 1PiB".to_owned()),
        Ok(size) => Ok(size),
    }
}
