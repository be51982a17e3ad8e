//! Interprets digits without a `+` as somebody in one region writes them.

use rlibphonenumber::{CountryCodeSource, PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};

use super::{E164, Region};

/// How digits are interpreted in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HomeReading {
    /// The first reading.
    pub(super) number: E164,
    /// The second reading, if there is one. Digits like the region's calling code may be that code,
    /// or the beginning of a home number. `00` may be the whole international prefix, or the
    /// beginning of a longer one ([`Abroad`]).
    pub(super) other: Option<E164>,
    /// The digits have the form in which the region writes `number`, and there is no second
    /// reading.
    pub(super) certain: bool,
    /// `number` may exist: it has a possible length in its plan, local numbers included.
    pub(super) possible: bool,
    /// `number` exists according to the metadata.
    pub(super) valid: bool,
}

impl HomeReading {
    /// Returns whether the digits are complete: a number that exists, or a new one with its trunk
    /// prefix or, in North America, its area code.
    pub(super) fn is_whole(&self, digits: &str) -> bool {
        let all_of_it = digits.len() > self.number.national().len()
            || self.number.calling_code == NORTH_AMERICA;
        let is_read = self.certain || digits.starts_with("00");
        is_read && (self.valid || (self.possible && all_of_it && !self.number.is_local()))
    }
}

/// In North America the trunk prefix is the calling code, and no number begins with it.
pub(super) const NORTH_AMERICA: u16 = 1;

/// Interprets digits; `None` if they cannot be a number.
pub(super) fn read_at_home(digits: &str, region: Region) -> Option<HomeReading> {
    let parsed = PHONE_NUMBER_UTIL
        .parse_and_keep_raw_input(digits, Some(region.engine))
        .ok()?;
    let read = E164::from_engine(&parsed);
    let number = if digits.starts_with("00") {
        read
    } else {
        read.without_zero_at_home()
    };
    let valid = number.is_valid();
    if parsed.country_code_source() == CountryCodeSource::FromNumberWithIdd {
        let by_region = read.without_zero_at_home();
        let Abroad { number, other } = Abroad::new(digits, by_region, region);
        return Some(HomeReading {
            number,
            other,
            certain: other.is_none(),
            possible: number.is_complete(),
            valid: number.is_valid(),
        });
    }
    let home = region.calling_code();
    // With a zero too many, another country's number may be meant.
    let possible = number == read
        && (valid
            || (number.is_possible() && (number.leading_zeros == 0 || WITH_ZEROS.contains(&home))));
    let stripped = home != NORTH_AMERICA
        && parsed.country_code_source() == CountryCodeSource::FromNumberWithoutPlusSign;
    let other = if stripped {
        unstripped(digits, home)
    } else {
        behind_calling_code(digits, home)
    };
    let is_as_read = number == read && !stripped && other.is_none();
    let certain = is_as_read && is_written_so(digits, number, region);
    Some(HomeReading {
        number,
        other,
        certain,
        possible,
        valid,
    })
}

/// A number after an international prefix.
///
/// In some regions the prefix is `00` and digits that choose a carrier: `008` in South Korea,
/// `0055` in Brazil. People and switches there also write `00`, as the ITU recommends (E.123). So
/// `0081 90…` may be a number of Japan or, after `008`, of North America.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abroad {
    /// The more probable reading.
    pub(super) number: E164,
    /// The other one, if both may exist.
    pub(super) other: Option<E164>,
}

impl Abroad {
    /// `by_region` is the reading with the region's own prefix.
    pub(super) fn new(digits: &str, by_region: E164, region: Region) -> Self {
        let by_zeros = after_double_zero(digits).filter(|number| *number != by_region);
        let Some(by_zeros) = by_zeros else {
            return Self {
                number: by_region,
                other: None,
            };
        };
        let is_zeros_first = match (by_zeros.is_valid(), by_region.is_valid()) {
            (true, true) => {
                by_zeros.calling_code == region.calling_code() || !is_usual_prefix(digits, region)
            }
            (zeros, _) => zeros,
        };
        let (number, other) = if is_zeros_first {
            (by_zeros, by_region)
        } else {
            (by_region, by_zeros)
        };
        let may_exist = other.is_valid() || (!number.is_valid() && other.is_complete());
        Self {
            number,
            other: may_exist.then_some(other),
        }
    }
}

/// Returns whether the digits begin with a prefix that is in everyday use in the region, such as
/// `001` in Hong Kong and Thailand. Nobody stores or sends the digits of other carriers.
fn is_usual_prefix(digits: &str, region: Region) -> bool {
    digits.starts_with("001") || (digits.starts_with("009") && region.code == *b"NG")
}

/// The number after `00`, in any region. Only a zero may be between calling code and number: the
/// engine would also take the 1 after the calling code 1 for a trunk prefix.
fn after_double_zero(digits: &str) -> Option<E164> {
    let rest = digits.strip_prefix("00")?;
    let is_written_so = |number: &E164| {
        let with_zero = format!("{}0{}", number.calling_code, number.national());
        number.digits() == rest || with_zero == rest
    };
    E164::abroad(rest).filter(|number| number.is_complete() && is_written_so(number))
}

/// All the digits as a national number.
fn unstripped(digits: &str, home: u16) -> Option<E164> {
    let zeros = digits.bytes().take_while(|byte| *byte == b'0').count();
    let leading_zeros = u8::try_from(zeros).ok()?;
    let number = E164 {
        calling_code: home,
        leading_zeros,
        national: digits.parse().ok()?,
    };
    number.is_possible().then_some(number)
}

/// The digits after the region's own calling code, if they are a home number.
fn behind_calling_code(digits: &str, home: u16) -> Option<E164> {
    if home == NORTH_AMERICA || !digits.starts_with(&home.to_string()) {
        return None;
    }
    E164::abroad(digits).filter(|number| number.calling_code == home && number.is_valid())
}

/// Calling codes whose numbers may begin with a zero, as in Italy: those with such an example in
/// the metadata. They are listed here because asking the metadata compiles the patterns of all
/// numbering plans: that takes a quarter of a second, and 41 MiB permanently.
pub(super) const WITH_ZEROS: [u16; 15] = [
    39, 47, 225, 227, 229, 241, 242, 267, 268, 378, 501, 676, 679, 687, 853,
];

/// Returns whether people in the region write `number` with these digits: with a trunk prefix if
/// its plan has one, otherwise without.
fn is_written_so(digits: &str, number: E164, region: Region) -> bool {
    let national = number.national();
    if digits == national {
        is_written_bare(number, region)
    } else {
        digits.len() > national.len()
    }
}

/// Returns whether a number is written without a trunk prefix, as the metadata prints it. A number
/// that the metadata does not know is treated like others of its plan.
fn is_written_bare(number: E164, region: Region) -> bool {
    const INDIA: u16 = 91;
    let known = number.is_valid().then(|| number.to_engine());
    let Some(sample) = known.or_else(|| PHONE_NUMBER_UTIL.get_example_number(region.engine).ok())
    else {
        return false;
    };
    // The metadata prints them with a 0, which nobody in India writes.
    if number.calling_code == INDIA
        && PHONE_NUMBER_UTIL.get_number_type(&sample) == PhoneNumberType::Mobile
    {
        return true;
    }
    let printed = PHONE_NUMBER_UTIL.format(&sample, PhoneNumberFormat::National);
    let digits = printed.bytes().filter(u8::is_ascii_digit);
    digits.eq(E164::from_engine(&sample).national().bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_calling_codes_with_zeros_are_those_of_the_metadatas_examples() {
        let engine = &PHONE_NUMBER_UTIL;
        let mut codes = BTreeSet::new();
        for region in engine.get_supported_regions() {
            for kind in engine
                .get_supported_types_for_region(region)
                .into_iter()
                .flatten()
            {
                let example = engine.get_example_number_for_type_and_region(region, kind);
                let number = example.map(|example| E164::from_engine(&example));
                codes.extend(
                    number
                        .ok()
                        .filter(|number| number.leading_zeros > 0)
                        .map(|number| number.calling_code),
                );
            }
        }
        assert_eq!(codes, BTreeSet::from(WITH_ZEROS));
    }
}
