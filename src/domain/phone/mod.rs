//! Telephone numbers. A number from a telephone switch becomes one [`Party`], whatever its
//! spelling. A phone field that people typed is searched for the numbers in it. Google's rules and
//! metadata (`rlibphonenumber`) interpret the digits.
//!
//! `remote` parses what switches send. `stored` judges phone fields: `scan` finds the numbers in
//! prose, `reading` interprets digits in a region, `plans` knows the subscribers with two forms.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumberFormat, ValidationError,
};

mod engine;
mod fold;
mod plan_facts;
mod plans;
mod reading;
mod remote;
mod scan;
mod stored;
mod words;

pub(crate) use plan_facts::PlanFacts;
pub use plans::other_form;
use reading::Abroad;
pub(crate) use remote::extension_asked;
pub use remote::parse_remote;
use scan::pieces;
pub(crate) use stored::Match;
pub use stored::{Certainty, Sought};
pub(crate) use words::WithheldWord;
pub use words::WithheldWords;

/// Longest text that is parsed as a number, in bytes. A tel: URI with parameters fits.
const MAX_SPELLING: usize = 256;

/// Digits of a number after its `+`: with fewer it cannot be called from abroad, with more it does
/// not exist (ITU-T E.164).
const DIGITS: std::ops::RangeInclusive<usize> = 5..=15;

/// A telephone number in the sense of ITU-T E.164: calling code and national significant number.
///
/// Only made by parsing, such as [`parse_remote`]. Two spellings of one number are equal. `Display`
/// is E.164 (`+16505551234`). `Debug` masks it, because numbers are personal data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct E164 {
    calling_code: u16,
    /// Leading zeros of the national significant number (Italy: `+39 06…`).
    leading_zeros: u8,
    national: u64,
}

/// An internal extension: 1 to 15 digits, leading zeros kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extension {
    digits: u64,
    len: u8,
}

/// Whom a look-up is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// A telephone number.
    Number(E164),
    /// An internal extension of the user's telephone system.
    Extension(Extension),
}

/// What a telephone system sent as the other party of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteParty {
    /// A party that can be looked up.
    Party(Party),
    /// The caller withheld the number, or the network did not send one.
    Withheld,
    /// An emergency or other short service number, which is no contact's number.
    ShortCode,
    /// Digits that are not a complete number, with the reason.
    Unusable(NumberError),
}

/// Why a text is not a telephone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// A national spelling without a region to interpret it.
    #[error("has no leading '+' and no user.region says how to read it")]
    NoRegion,
    /// Neither digits nor a word for "no number".
    #[error("is not a telephone number")]
    NotANumber,
    /// The calling code is not assigned.
    #[error("has a calling code that no country uses")]
    UnknownCallingCode,
    /// Fewer digits than any number of its country.
    #[error("is too short for a telephone number of its country")]
    TooShort,
    /// More digits than any number of its country.
    #[error("is too long for a telephone number of its country")]
    TooLong,
    /// More bytes than anybody uses for a number.
    #[error("is longer than 256 bytes")]
    TooManyBytes,
    /// Not 1 to 15 digits.
    #[error("is not an extension: 1 to 15 digits are expected")]
    NotAnExtension,
}

/// An ISO 3166 alpha-2 region that has a numbering plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region {
    engine: rlibphonenumber::Region,
    code: [u8; 2],
}

/// A text is not a region with a numbering plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an ISO 3166 alpha-2 code of a country with a numbering plan")]
pub struct NoSuchRegion;

impl Region {
    /// Parses `"US"` or `"us"`; `None` if no numbering plan has that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.trim().to_ascii_uppercase();
        let code = name.as_bytes().try_into().ok()?;
        let engine = rlibphonenumber::Region::from_str(&name).ok()?;
        PHONE_NUMBER_UTIL
            .get_country_code_for_region(engine)
            .is_some()
            .then_some(Self { engine, code })
    }

    /// The main region of a plan; `None` if no country has it.
    fn of_plan(calling_code: u16) -> Option<Self> {
        let region = PHONE_NUMBER_UTIL.get_region_for_country_code(i32::from(calling_code))?;
        Self::parse(&region.to_string())
    }

    /// The calling code of the region's plan.
    fn calling_code(self) -> u16 {
        let code = PHONE_NUMBER_UTIL.get_country_code_for_region(self.engine);
        code.and_then(|code| u16::try_from(code).ok())
            .unwrap_or_default()
    }

    /// The two letters of ISO 3166, for keys.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 2] {
        self.code
    }
}

impl FromStr for Region {
    type Err = NoSuchRegion;

    fn from_str(text: &str) -> Result<Self, NoSuchRegion> {
        Self::parse(text).ok_or(NoSuchRegion)
    }
}

impl E164 {
    /// Parses one telephone number. `region` determines how a spelling without `+` is interpreted.
    ///
    /// A number that is merely not assigned yet is not an error, because numbering plans change
    /// more often than metadata. For the same reason a `+`, a known calling code and 5 to 15 digits
    /// are a number, whatever length the metadata expects.
    ///
    /// # Errors
    /// [`NumberError`] with the reason, without the text.
    pub fn parse(text: &str, region: Option<Region>) -> Result<Self, NumberError> {
        Self::north_american(text).map_or_else(|| Self::by_engine(text, region), Ok)
    }

    /// `+1` and ten digits, the first neither 0 nor 1. The engine's result for this spelling is
    /// known in every region, and calling it would take a twentieth of the time of a hit
    /// (tests/bench/hit_path.rs).
    fn north_american(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("+1")?.as_bytes();
        let plain = digits.len() == 10
            && matches!(digits[0], b'2'..=b'9')
            && digits.iter().all(u8::is_ascii_digit);
        let number = || {
            digits
                .iter()
                .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
        };
        plain.then(|| Self {
            calling_code: 1,
            leading_zeros: 0,
            national: number(),
        })
    }

    fn by_engine(text: &str, region: Option<Region>) -> Result<Self, NumberError> {
        let number = PHONE_NUMBER_UTIL
            .parse(text, region.map(|r| r.engine))
            .map_err(|error| match error {
                ParseError::InvalidCountryCode if region.is_none() && !has_plus(text) => {
                    NumberError::NoRegion
                }
                ParseError::InvalidCountryCode => NumberError::UnknownCallingCode,
                ParseError::NotANumber(_) => NumberError::NotANumber,
                ParseError::TooShortAfterIdd | ParseError::TooShortNsn => NumberError::TooShort,
                ParseError::TooLongNsn => NumberError::TooLong,
            })?;
        let read = by_switch(Self::settled(&number), text, region);
        match PHONE_NUMBER_UTIL.is_possible_number_with_reason(&read.to_engine()) {
            Ok(NumberLengthType::IsPossible) => Ok(read),
            Err(ValidationError::InvalidCountryCode) => Err(NumberError::UnknownCallingCode),
            _ if has_plus(text) && DIGITS.contains(&read.digits().len()) => Ok(read),
            Err(ValidationError::TooLong) => Err(NumberError::TooLong),
            _ => Err(NumberError::TooShort),
        }
    }

    /// The number with `digits` after a `+`, of any length; `None` if no country has that calling
    /// code.
    fn abroad(digits: &str) -> Option<Self> {
        Self::abroad_as_written(digits).map(Self::without_foreign_zero)
    }

    /// The same, but keeps a zero that the plan does not have.
    fn abroad_as_written(digits: &str) -> Option<Self> {
        let number = PHONE_NUMBER_UTIL.parse(format!("+{digits}"), None).ok()?;
        Some(Self::settled(&number))
    }

    /// The national significant number, digits only, including its leading zeros.
    #[must_use]
    pub(crate) fn national(&self) -> String {
        let zeros = usize::from(self.leading_zeros);
        format!("{:0<zeros$}{}", "", self.national)
    }

    /// As people of the country write it, with the trunk prefix if there is one.
    #[must_use]
    pub(crate) fn local(&self) -> String {
        let number = self.to_engine();
        PHONE_NUMBER_UTIL
            .format(&number, PhoneNumberFormat::National)
            .into_owned()
    }

    /// In the international format of ITU-T E.123.
    #[must_use]
    pub(crate) fn international(&self) -> String {
        let number = self.to_engine();
        PHONE_NUMBER_UTIL
            .format(&number, PhoneNumberFormat::International)
            .into_owned()
    }

    /// All digits, calling code first.
    fn digits(self) -> String {
        format!("{}{}", self.calling_code, self.national())
    }
}

/// The number that a switch means. `number` is the reading of the region.
fn by_switch(number: E164, text: &str, region: Option<Region>) -> E164 {
    let (Some(region), false) = (region, has_plus(text)) else {
        return number.without_foreign_zero();
    };
    let pieces = pieces(text);
    let digits = pieces.first().map_or("", |first| first.digits.as_str());
    let is_at_home = number.calling_code == region.calling_code() && number.is_valid();
    // "0 02 9876 5432": an outside line, and then a home number. But in Brazil the digits of a
    // carrier come after the zeros.
    let is_national = is_at_home && region.code != *b"BR";
    if !digits.starts_with("00") || is_national {
        number.without_zero_at_home()
    } else {
        Abroad::new(digits, number.without_zero_at_home(), region).number
    }
}

fn has_plus(text: &str) -> bool {
    text.contains(['+', '\u{ff0b}'])
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zeros = usize::from(self.leading_zeros);
        write!(f, "+{}{:0<zeros$}{}", self.calling_code, "", self.national)
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E164(+{}…)", self.calling_code)
    }
}

impl Extension {
    /// Parses 1 to 15 digits.
    ///
    /// # Errors
    /// [`NumberError::Empty`] or [`NumberError::NotAnExtension`].
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NumberError::Empty);
        }
        let short_enough = text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(digits) if short_enough => Ok(Self {
                digits,
                len: u8::try_from(text.len()).unwrap_or_default(),
            }),
            _ => Err(NumberError::NotAnExtension),
        }
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = usize::from(self.len);
        write!(f, "{:0>len$}", self.digits)
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extension({} digits)", self.len)
    }
}

impl Party {
    /// For hashes. No two parties have the same bytes.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; 12] {
        // The number +123 and the extension 123 are two parties.
        let (kind, high, low, value) = match self {
            Self::Number(E164 {
                calling_code,
                leading_zeros,
                national,
            }) => (0, calling_code, leading_zeros, national),
            Self::Extension(Extension { digits, len }) => (1, 0, len, digits),
        };
        let mut bytes = [0; 12];
        bytes[0] = kind;
        bytes[1..3].copy_from_slice(&high.to_be_bytes());
        bytes[3] = low;
        bytes[4..].copy_from_slice(&value.to_be_bytes());
        bytes
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Extension(extension) => extension.fmt(f),
        }
    }
}

/// Loads the engine's metadata, which takes about ten milliseconds: better at start than while a
/// phone rings.
pub(crate) fn warm_up() {
    static WARM: LazyLock<bool> = LazyLock::new(|| E164::by_engine("+16505550100", None).is_ok());
    LazyLock::force(&WARM);
}

#[cfg(test)]
mod tests;
