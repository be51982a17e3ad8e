//! Telephone numbers: what a caller sends becomes one [`Party`] per number, whatever its spelling, or a reason why
//! there is nobody to look up. The engine is Google's rules and metadata (`rlibphonenumber`).

use std::fmt;
use std::str::FromStr as _;
use std::sync::LazyLock;

use rlibphonenumber::{PHONE_NUMBER_UTIL, ParseError, PhoneNumber, ValidationError};

/// Longest spelling that is read, in bytes; tel: URIs with parameters fit.
const MAX_SPELLING: usize = 256;

/// A telephone number in the sense of ITU-T E.164: calling code and national significant number.
///
/// Made only by [`dial`] and the like; two spellings of one number are equal. `Display` is E.164 (`+16505551234`),
/// `Debug` masks it, because numbers are personal data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct E164 {
    calling_code: u16,
    /// Zeros that belong to the national significant number (Italy: `+39 06…`).
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

/// What a telephone system sent as the other side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialled {
    /// Somebody who can be looked up.
    Party(Party),
    /// The caller withheld the number.
    Withheld,
    /// An emergency or other short service number, which is no contact's number.
    ShortCode,
}

/// Why a text is not a telephone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// National spelling, and no region to read it by.
    #[error("has no leading '+' and no user.region says how to read it")]
    NoRegion,
    /// No digits in the form of a telephone number.
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
    /// Not 1 to 15 digits.
    #[error("is not an extension: 1 to 15 digits are expected")]
    NotAnExtension,
}

/// An ISO 3166 alpha-2 region that has a numbering plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region(rlibphonenumber::Region);

impl Region {
    /// Reads `"US"` or `"us"`; `None` where no numbering plan has that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let region = rlibphonenumber::Region::from_str(&text.trim().to_ascii_uppercase()).ok()?;
        PHONE_NUMBER_UTIL.get_country_code_for_region(region).is_some().then_some(Self(region))
    }

    /// The two letters of ISO 3166, for keys.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 2] {
        (self.0 as u16).to_be_bytes()
    }
}

/// Reads what a telephone system sent: E.164, tel: and sip: URIs, national and internationally dialled spellings.
///
/// An extension in the text (`;ext=`, `x42`) is dropped: the contact is found by the main number.
///
/// # Errors
/// [`NumberError`] says what is wrong without repeating the text.
pub fn dial(text: &str, region: Option<Region>) -> Result<Dialled, NumberError> {
    let text = bare(text)?;
    if is_withheld(text) {
        return Ok(Dialled::Withheld);
    }
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    if plain && (2..=3).contains(&text.len()) {
        return Ok(Dialled::ShortCode);
    }
    match E164::parse(text, region) {
        Ok(number) => Ok(Dialled::Party(Party::Number(number))),
        // Four to six digits that are no subscriber number where they are dialled: directory enquiries, bank codes.
        Err(_) if plain && (4..=6).contains(&text.len()) => Ok(Dialled::ShortCode),
        Err(error) => Err(error),
    }
}

/// The text without white space around it, without a `sip:` wrapping; the engine reads `tel:` itself.
fn bare(text: &str) -> Result<&str, NumberError> {
    if text.len() > MAX_SPELLING {
        return Err(NumberError::TooLong);
    }
    // Contact cards pasted from a web page bring bidirectional marks along.
    let text = text.trim_matches(|c: char| c.is_whitespace() || is_direction_mark(c));
    let scheme = ["sips:", "sip:"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let text = scheme.map_or(text, |scheme| {
        let user = &text[scheme.len()..];
        user.split(['@', ';']).next().unwrap_or(user)
    });
    if text.is_empty() { Err(NumberError::Empty) } else { Ok(text) }
}

fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The words that telephone systems send in place of a withheld number (RFC 3323 and carriers' habits).
fn is_withheld(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "anonymous",
        "unavailable",
        "unknown",
        "restricted",
        "private",
        "withheld",
        "blocked",
        "private number",
        "no caller id",
        "+266696687", // "ANONYMOUS" on a keypad: how some carriers must fill a numeric field
    ];
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

impl E164 {
    /// Reads one telephone number; `region` says how a spelling without `+` is read.
    ///
    /// # Errors
    /// [`NumberError`]; a number that is not possible in its country is an error, one that is merely not assigned
    /// yet is not, because numbering plans change more often than metadata.
    pub fn parse(text: &str, region: Option<Region>) -> Result<Self, NumberError> {
        Self::north_american(text).map_or_else(|| Self::by_engine(text, region), Ok)
    }

    /// `+1` and ten digits, the first neither 0 nor 1: what the engine says of this spelling is known in every region,
    /// and asking it would take a twentieth of the time of a hit (tests/bench/hit_path.rs).
    fn north_american(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("+1")?.as_bytes();
        let plain = digits.len() == 10 && matches!(digits[0], b'2'..=b'9') && digits.iter().all(u8::is_ascii_digit);
        let number = || digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        plain.then(|| Self { calling_code: 1, leading_zeros: 0, national: number() })
    }

    fn by_engine(text: &str, region: Option<Region>) -> Result<Self, NumberError> {
        let number = PHONE_NUMBER_UTIL.parse(text, region.map(|r| r.0)).map_err(|error| match error {
            ParseError::InvalidCountryCode if region.is_none() && !has_plus(text) => NumberError::NoRegion,
            ParseError::InvalidCountryCode => NumberError::UnknownCallingCode,
            ParseError::NotANumber(_) => NumberError::NotANumber,
            ParseError::TooShortAfterIdd | ParseError::TooShortNsn => NumberError::TooShort,
            ParseError::TooLongNsn => NumberError::TooLong,
        })?;
        match PHONE_NUMBER_UTIL.is_possible_number_with_reason(&number) {
            Ok(rlibphonenumber::NumberLengthType::IsPossible) => Ok(Self::from_engine(&number)),
            Err(ValidationError::TooLong) => Err(NumberError::TooLong),
            Err(ValidationError::InvalidCountryCode) => Err(NumberError::UnknownCallingCode),
            _ => Err(NumberError::TooShort),
        }
    }

    fn from_engine(number: &PhoneNumber) -> Self {
        let zeros = match number.italian_leading_zero {
            Some(true) => number.number_of_leading_zeros.unwrap_or(1),
            _ => 0,
        };
        Self {
            // Calling codes have three digits at most, zeros are fewer than the 17 digits the engine reads.
            calling_code: u16::try_from(number.country_code).unwrap_or_default(),
            leading_zeros: u8::try_from(zeros).unwrap_or_default(),
            national: number.national_number,
        }
    }

    /// The national significant number, digits only, zeros that belong to it included.
    #[must_use]
    pub fn national(&self) -> String {
        let zeros = usize::from(self.leading_zeros);
        format!("{:0<zeros$}{}", "", self.national)
    }

    /// Whether `stored`, a phone field of a CRM record, is this very number: the same E.164, or the same national
    /// significant number where the spelling has no country code. A field that holds several numbers is this
    /// number if one of them is.
    #[must_use]
    pub fn is_spelled(&self, stored: &str) -> bool {
        const SEPARATORS: [char; 5] = ['/', ';', ',', '|', '\n'];
        let Some(stored) = stored.get(..stored.len().min(MAX_SPELLING)) else { return false };
        // "030/5551234" is one number: where the first part is too short for a number the separator belongs to it.
        let first = stored.split(SEPARATORS).next().unwrap_or(stored);
        let several = first.len() < stored.len() && first.bytes().filter(u8::is_ascii_digit).count() >= 6;
        self.is_spelled_once(stored) || (several && stored.split(SEPARATORS).any(|part| self.is_spelled_once(part)))
    }

    fn is_spelled_once(&self, stored: &str) -> bool {
        let home = PHONE_NUMBER_UTIL.get_region_for_country_code(i32::from(self.calling_code));
        if PHONE_NUMBER_UTIL.parse(stored, home).is_ok_and(|number| Self::from_engine(&number) == *self) {
            return true;
        }
        // Digits alone, where the engine would take a first digit for a trunk prefix or the region has no plan.
        let digits: String = stored.chars().filter(char::is_ascii_digit).collect();
        let national = self.national();
        !has_plus(stored)
            && (digits == national || digits.strip_prefix(&self.calling_code.to_string()) == Some(&national))
            && stored.chars().all(|c| !c.is_alphabetic())
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
    /// Reads 1 to 15 digits.
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
            Ok(digits) if short_enough => Ok(Self { digits, len: u8::try_from(text.len()).unwrap_or_default() }),
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
    /// For hashes: no two parties have the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 12] {
        // The number +123 and the extension 123 are two parties.
        let (kind, high, low, value) = match *self {
            Self::Number(E164 { calling_code, leading_zeros, national }) => (0, calling_code, leading_zeros, national),
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

/// Loads the engine's metadata, which takes some ten milliseconds: better at start than while a phone rings.
pub fn warm_up() {
    static WARM: LazyLock<bool> = LazyLock::new(|| E164::by_engine("+16505550100", None).is_ok());
    LazyLock::force(&WARM);
}

#[cfg(test)]
mod tests;
