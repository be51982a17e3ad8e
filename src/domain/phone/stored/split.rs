//! Splits runs of digits that are too long for one number: only a space or a parenthesis separates
//! the number from another one or from a remark.

use super::super::scan::Piece;
use super::{E164, Region, SHORT, Sought, read_at_home};

/// The most spaces and parentheses at which a piece is split.
const SPLITS: usize = 6;

/// The most digits of a remark after a number.
const REMARK: usize = 4;

impl Sought<'_> {
    /// Splits a piece that is too long for one number: "415-555-0123 (415-555-0199)", "415-555-0123
    /// 24/7". Somebody may also have mistyped one number, so the parts are at best likely.
    pub(super) fn parts(&self, piece: Piece) -> Vec<Piece> {
        if !piece.digits.contains(&self.tail) || !self.is_too_long(&piece) {
            return vec![piece];
        }
        let breaks = piece.breaks.iter().filter(|it| it.at >= SHORT);
        let parts = breaks.take(SPLITS).find_map(|it| {
            let (first, rest) = piece.split_at(it.at);
            // Any space but the first is probably one within the number.
            let is_abroad = piece.plus || piece.digits.starts_with("00");
            let is_clear = is_abroad || it.is_parenthesis || piece.breaks.first() == Some(it);
            let is_remark = is_clear && rest.digits.len() <= REMARK;
            let is_split =
                self.is_number(&first) && (is_remark || self.is_whole(&rest.clone().into()));
            is_split.then(|| vec![first, rest])
        });
        parts.unwrap_or_else(|| vec![piece])
    }

    /// Returns whether a part of a piece is a number by itself.
    fn is_number(&self, part: &Piece) -> bool {
        if part.plus {
            E164::abroad(&part.digits).is_some_and(E164::is_valid)
        } else {
            self.is_whole(&part.clone().into())
        }
    }

    /// Returns whether there are more digits than a possible number has.
    fn is_too_long(&self, piece: &Piece) -> bool {
        let digits = piece.digits.as_str();
        if piece.plus {
            let digits = digits.strip_prefix("00").unwrap_or(digits);
            return E164::abroad(digits).is_none_or(|number| !number.is_possible());
        }
        let is_possible =
            |region: &Region| read_at_home(digits, *region).is_some_and(|read| read.possible);
        digits.len() > SHORT && !self.home().iter().any(is_possible)
    }
}
