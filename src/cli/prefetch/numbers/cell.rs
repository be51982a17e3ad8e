//! One cell: the number that a spreadsheet shows as a decimal number.

/// A spreadsheet has rounded the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has lost its last digits in a spreadsheet; format the column as text and export it again")]
pub(in crate::cli) struct DigitsLost;

/// The digits of a number that is written as `14155550123.0`, `1.4155550123E+10`, `14,155,550,123`,
/// `'14155550123` or `="14155550123"`. Every other text is returned as it is.
///
/// # Errors
/// If digits are missing, as in `1.41556E+10`.
pub(in crate::cli) fn number(cell: &str) -> Result<String, DigitsLost> {
    let text = cell.trim();
    let formula = text
        .strip_prefix("=\"")
        .and_then(|rest| rest.strip_suffix('"'));
    let text = formula.unwrap_or(text).trim_start_matches('\'');
    if let Some(number) = Scientific::parse(text) {
        return number.digits();
    }
    let digits = whole(text).or_else(|| grouped(text));
    Ok(digits.unwrap_or_else(|| text.to_owned()))
}

/// A number such as `1.4155550123E+10`.
struct Scientific<'a> {
    sign: &'a str,
    whole: &'a str,
    fraction: &'a str,
    exponent: usize,
}

impl<'a> Scientific<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['E', 'e'])?;
        let (sign, mantissa) = signed(mantissa);
        let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, ""));
        let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
        let are_digits = is_number(whole) && is_number(exponent);
        (are_digits && (fraction.is_empty() || is_number(fraction))).then_some(Self {
            sign,
            whole,
            fraction,
            exponent: exponent.parse().ok()?,
        })
    }

    fn digits(&self) -> Result<String, DigitsLost> {
        let (shown, rest) = self
            .fraction
            .split_at_checked(self.exponent)
            .ok_or(DigitsLost)?;
        if rest.bytes().any(|digit| digit != b'0') {
            return Err(DigitsLost);
        }
        Ok(format!("{}{}{shown}", self.sign, self.whole))
    }
}

/// The digits of `14155550123.0` or `14155550123,00`. Three digits would be a group.
fn whole(text: &str) -> Option<String> {
    let (sign, number) = signed(text);
    let (whole, fraction) = number.split_once(['.', ','])?;
    (is_number(whole) && matches!(fraction, "0" | "00")).then(|| format!("{sign}{whole}"))
}

/// The digits of `14,155,550,123`. Points and spaces separate the groups of telephone numbers too,
/// and the daemon reads those.
fn grouped(text: &str) -> Option<String> {
    let (sign, number) = signed(text);
    let mut groups = number.split([',', '\'', '\u{2019}']);
    let first = groups
        .next()
        .filter(|first| first.len() <= 3 && is_number(first))?;
    let rest: Vec<&str> = groups.collect();
    let are_groups = !rest.is_empty()
        && rest
            .iter()
            .all(|group| group.len() == 3 && is_number(group));
    are_groups.then(|| format!("{sign}{first}{}", rest.concat()))
}

fn signed(text: &str) -> (&str, &str) {
    text.split_at(usize::from(text.starts_with('+')))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_makes_of_a_number_is_that_number() {
        for cell in [
            "14155550123",
            " 14155550123\u{a0}",
            "14155550123.0",
            "14155550123,00",
            "1.4155550123E+10",
            "1,4155550123e10",
            "1.41555501230E+10",
            "14.155550123E+9",
            "14,155,550,123",
            "14'155'550'123",
            "'14155550123",
            "=\"14155550123\"",
        ] {
            assert_eq!(number(cell).unwrap(), "14155550123", "{cell:?}");
        }
        assert_eq!(number("+14155550123.0").unwrap(), "+14155550123");
        assert_eq!(number("=\"+14155550123\"").unwrap(), "+14155550123");
    }

    #[test]
    fn rounded_numbers_are_refused() {
        for cell in [
            "1.41556E+10",
            "1,42E+10",
            "1E+10",
            "4.9301234567E+11",
            "1.41555501234E+10",
            "1E+99",
        ] {
            assert_eq!(number(cell), Err(DigitsLost), "{cell:?}");
        }
    }

    #[test]
    fn what_people_write_is_left_as_it_is() {
        for cell in [
            "+1 (415) 555-0123",
            "415.555.0123",
            "030.123456",
            "tel:+49301;ext=5",
            "anonymous",
            "E+10",
            "1-800-FLOWERS",
            "415-555E",
            "0xE5",
            "123,000.5",
            "",
            "+",
            "*31#0301234",
        ] {
            assert_eq!(number(cell).unwrap(), cell, "{cell:?}");
        }
    }
}
