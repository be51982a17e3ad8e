//! Numbers as Google's engine has them.

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber};

use super::E164;
use super::reading::{NORTH_AMERICA, WITH_ZEROS};

/// The most digits of a national number that the engine reads.
const ENGINE_DIGITS: usize = 17;

impl E164 {
    /// The number that the engine has read, read again until it no longer changes. The engine
    /// strips one trunk prefix at a time: a spelling with two of them would be one number now, and
    /// another when it is printed and read again.
    pub(super) fn settled(number: &PhoneNumber) -> Self {
        let mut read = Self::from_engine(number);
        for _ in 0..ENGINE_DIGITS {
            if !read.may_begin_with_trunk_prefix() {
                break;
            }
            let again = PHONE_NUMBER_UTIL.parse(read.to_string(), None);
            match again.map(|again| Self::from_engine(&again)) {
                Ok(again) if again != read => read = again,
                _ => break,
            }
        }
        read
    }

    /// Removes a zero that the plan does not have: "+45 (0)22 12 34 56", or the trunk prefix that
    /// Poland has abolished. Keeps it if the number is valid with it or not valid without it, or if
    /// the plan has numbers of this length that begin with a zero.
    pub(super) fn without_foreign_zero(self) -> Self {
        let bare = Self {
            leading_zeros: 0,
            ..self
        };
        let may_have_zero = WITH_ZEROS.contains(&self.calling_code) && self.is_possible();
        let has_one_too_many = self.leading_zeros == 1 && !may_have_zero && !self.is_valid();
        if has_one_too_many && bare.is_valid() {
            bare
        } else {
            self
        }
    }

    /// The same for a spelling without `+`. A zero before a number of North America stays: it is
    /// the trunk prefix of another country.
    pub(super) fn without_zero_at_home(self) -> Self {
        if self.calling_code == NORTH_AMERICA {
            self
        } else {
            self.without_foreign_zero()
        }
    }

    /// Returns whether the national number may begin with a trunk prefix, which is dialled before
    /// numbers within the country and begins with 0, 1 or 8. Numbers in use may begin with these
    /// digits too, such as `+39 06…`, and do not count.
    fn may_begin_with_trunk_prefix(self) -> bool {
        let begins = self.leading_zeros > 0 || self.national.to_string().starts_with(['1', '8']);
        begins && !self.is_valid()
    }

    pub(super) fn from_engine(number: &PhoneNumber) -> Self {
        let zeros = match number.italian_leading_zero {
            Some(true) => number.number_of_leading_zeros.unwrap_or(1),
            _ => 0,
        };
        Self {
            // Calling codes have at most three digits, and there are fewer zeros than the 17 digits
            // that the engine reads.
            calling_code: u16::try_from(number.country_code).unwrap_or_default(),
            leading_zeros: u8::try_from(zeros).unwrap_or_default(),
            national: number.national_number,
        }
    }

    pub(super) fn to_engine(self) -> PhoneNumber {
        let zeros = i32::from(self.leading_zeros);
        PhoneNumber {
            country_code: i32::from(self.calling_code),
            national_number: self.national,
            italian_leading_zero: (zeros > 0).then_some(true),
            number_of_leading_zeros: (zeros > 1).then_some(zeros),
            ..PhoneNumber::default()
        }
    }

    /// Returns whether the number is in use according to the metadata.
    pub(super) fn is_valid(self) -> bool {
        PHONE_NUMBER_UTIL.is_valid_number(&self.to_engine())
    }

    /// Returns whether the number has a possible length in its plan, including local numbers.
    pub(super) fn is_possible(self) -> bool {
        PHONE_NUMBER_UTIL
            .is_possible_number_with_reason(&self.to_engine())
            .is_ok()
    }

    /// Returns whether the number has a possible length, and can be called from elsewhere.
    pub(super) fn is_complete(self) -> bool {
        self.is_possible() && !self.is_local()
    }

    /// Returns whether the number has too few digits to be called from elsewhere.
    pub(super) fn is_local(self) -> bool {
        let length = PHONE_NUMBER_UTIL.is_possible_number_with_reason(&self.to_engine());
        length == Ok(NumberLengthType::IsPossibleLocalOnly)
    }
}
