//! Decides whether a phone field of a record is the calling number: certainly, likely, or not.
//!
//! A stored spelling without a calling code is interpreted as the people who typed it would: in the
//! regions of the CRM. If it is a number there, that counts. Otherwise it may be a number of the
//! caller's own country, but is at best likely: nearly every national spelling is also a number
//! somewhere else.

use super::fold::{beginning, fold};
use super::reading::{HomeReading, read_at_home};
use super::scan::{Gap, Piece, pieces};
use super::{E164, Extension, Region, other_form};

mod split;

/// How certain it is that a spelling is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// It is this number and no other.
    Certain,
    /// It is this number as the caller's country writes it, or in one of two readings.
    Likely,
}

/// A phone field that matches the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// How certain it is.
    pub certainty: Certainty,
    /// The extensions of the number in this field.
    pub(crate) extensions: Vec<Extension>,
}

impl Match {
    /// The better of the earlier match and another number of the field. If both are equally good,
    /// their extensions are combined.
    fn better(found: Option<Self>, certainty: Certainty, extension: Option<Extension>) -> Self {
        match found {
            Some(found) if found.certainty < certainty => found,
            Some(mut found) if found.certainty == certainty => {
                found.extensions.extend(extension);
                found
            }
            _ => Self {
                certainty,
                extensions: extension.into_iter().collect(),
            },
        }
    }
}

/// The number of last digits that all spellings of a number share, whatever precedes them.
const TAIL: usize = 6;

/// Most pieces of one field that are read. A field with more is not prose.
const PIECES: usize = 16;

/// Most numbers of one field that are judged. A field with more numbers that have the same last
/// digits is not prose either.
const JUDGED: usize = 4;

/// With fewer digits it is the beginning of a number (an area code), not a number.
const SHORT: usize = 7;

/// A number that is looked for in phone fields.
#[derive(Debug)]
pub struct Sought<'a> {
    /// The number, and the subscriber's other form if there is one.
    forms: Vec<(E164, Certainty)>,
    regions: &'a [Region],
    /// The main region of the number's plan; `None` for a plan of no country.
    own: Option<Region>,
    tail: String,
}

impl<'a> Sought<'a> {
    /// A search for `number` in fields that were typed in `regions`. Without regions, nothing that
    /// lacks a calling code is certain.
    #[must_use]
    pub fn new(number: E164, regions: &'a [Region]) -> Self {
        let national = number.national();
        let tail = national[national.len().saturating_sub(TAIL)..].to_owned();
        let forms = [(number, Certainty::Certain)]
            .into_iter()
            .chain(other_form(&number))
            .collect();
        Self {
            forms,
            regions,
            own: Region::of_plan(number.calling_code),
            tail,
        }
    }

    /// Finds the number in `field`; `None` if it is not there. Only the first 256 bytes of a field
    /// count.
    #[must_use]
    pub fn find_in(&self, field: &str) -> Option<Match> {
        let text = fold(beginning(field));
        let pieces = pieces(&text);
        let last_digit = &self.tail[self.tail.len().saturating_sub(1)..];
        let may_hold =
            |piece: &Piece| piece.digits.ends_with(last_digit) || piece.digits.contains(&self.tail);
        if !pieces.iter().any(may_hold) {
            return None;
        }
        self.best_of(pieces.clone()).or_else(|| {
            let count = pieces.len().min(PIECES);
            let parts = pieces.into_iter().take(PIECES);
            let parts: Vec<Piece> = parts.flat_map(|piece| self.parts(piece)).collect();
            (parts.len() > count).then(|| self.best_of(parts))?
        })
    }

    fn best_of(&self, pieces: Vec<Piece>) -> Option<Match> {
        let ends_right = |number: &FieldNumber| number.digits.ends_with(&self.tail);
        let mut best: Option<Match> = None;
        for number in self.spellings(pieces).into_iter().filter(ends_right) {
            if let Some(certainty) = self.judge(&number) {
                let certainty = certainty.max(number.at_best);
                best = Some(Match::better(best, certainty, number.extension));
            }
        }
        best
    }

    /// The numbers in the pieces of a field. Pieces that are not a number alone are joined.
    /// Ambiguous pieces are left out: a part of a number must not count as another number.
    fn spellings(&self, pieces: Vec<Piece>) -> Vec<FieldNumber> {
        let mut list: Vec<FieldNumber> = Vec::new();
        let mut judgements_left = JUDGED;
        for piece in pieces.into_iter().take(PIECES) {
            let listed = piece.gap == Gap::Punctuation && !piece.plus;
            let next = FieldNumber::from(piece);
            if self.matters(&next, &next) {
                let Some(left) = judgements_left.checked_sub(1) else {
                    break;
                };
                judgements_left = left;
            }
            let Some(last) = list.last_mut() else {
                list.push(next);
                continue;
            };
            if listed && last.is_short() && last.extension.is_none() && !self.is_whole(&next) {
                // "030/5551234"
                *last = last.joined(&next);
            } else if let Some(second) = last
                .ending_in(&next)
                .filter(|second| listed && self.matters(second, &next))
                && !self.is_whole(&next)
                && self.is_whole(last)
            {
                // "030 5551234/35"
                list.push(second);
            } else if !self.is_fragment(&next, last) {
                list.push(next);
            }
        }
        list
    }

    /// The regions whose spellings count: those of the CRM, or else that of the number.
    fn home(&self) -> &[Region] {
        if self.regions.is_empty() {
            self.own.as_slice()
        } else {
            self.regions
        }
    }

    /// Returns whether one of two spellings has the right last digits. Otherwise it does not matter
    /// what they are.
    fn matters(&self, one: &FieldNumber, other: &FieldNumber) -> bool {
        [one, other]
            .into_iter()
            .any(|spelling| spelling.digits.ends_with(&self.tail))
    }

    /// Returns whether `next` may be a part of the previous number. The engine is slow, so it is
    /// only called if that matters.
    fn is_fragment(&self, next: &FieldNumber, last: &FieldNumber) -> bool {
        if !self.matters(next, next) {
            return next.is_short() && !last.is_short() && !next.digits.starts_with('0');
        }
        !self.is_whole(next) && (last.is_short() || self.is_whole(last))
    }

    /// Whether the spelling is the number.
    fn judge(&self, spelling: &FieldNumber) -> Option<Certainty> {
        let digits = spelling.digits.as_str();
        if spelling.plus {
            // "+0049…" contains two international prefixes.
            return self.form(E164::abroad(digits.strip_prefix("00").unwrap_or(digits))?);
        }
        let verdicts: Vec<RegionVerdict> = self
            .regions
            .iter()
            .map(|region| self.at_home(digits, *region))
            .collect();
        let best = verdicts
            .iter()
            .filter_map(|verdict| verdict.certainty())
            .min();
        let another_for_certain = verdicts.contains(&RegionVerdict::Another { certain: true });
        match best {
            Some(certainty) if !another_for_certain => Some(certainty),
            // Certain in two regions of the CRM, but as two numbers.
            Some(Certainty::Certain) => Some(Certainty::Likely),
            None if verdicts
                .iter()
                .all(|verdict| *verdict == RegionVerdict::Nobody) =>
            {
                self.elsewhere(digits)
            }
            Some(Certainty::Likely) | None => None,
        }
    }

    /// What the digits mean in one region of the CRM.
    fn at_home(&self, digits: &str, region: Region) -> RegionVerdict {
        let Some(HomeReading {
            number,
            other,
            certain,
            possible,
            valid,
        }) = read_at_home(digits, region)
        else {
            return RegionVerdict::Nobody;
        };
        match (self.form(number), other.and_then(|other| self.form(other))) {
            (Some(form), _) => RegionVerdict::This(if certain { form } else { Certainty::Likely }),
            (None, Some(_)) => RegionVerdict::This(Certainty::Likely),
            (None, None) if possible || other.is_some() => RegionVerdict::Another {
                certain: certain && valid,
            },
            (None, None) => RegionVerdict::Nobody,
        }
    }

    /// Digits that are no number at home: in the spelling of the number's own country, or with a
    /// calling code without `+`.
    fn elsewhere(&self, digits: &str) -> Option<Certainty> {
        let nationally = self
            .own
            .and_then(|own| Some(read_at_home(digits, own)?.number));
        let bare = E164::abroad_as_written(digits);
        let prefixes = ["00", "011"].into_iter();
        let abroad = prefixes.filter_map(|prefix| E164::abroad(digits.strip_prefix(prefix)?));
        nationally
            .into_iter()
            .chain(bare)
            .chain(abroad)
            .any(|number| self.form(number).is_some())
            .then_some(Certainty::Likely)
    }

    /// How certain it is that `number` is the subscriber's.
    fn form(&self, number: E164) -> Option<Certainty> {
        let known = |number| {
            self.forms
                .iter()
                .find(|(form, _)| *form == number)
                .map(|(_, certainty)| *certainty)
        };
        if self.forms.len() == 1 {
            return known(number);
        }
        known(number).or_else(|| {
            // A third form: what was dialled within the country before the plan changed.
            let (current, certainty) = other_form(&number)?;
            Some(known(current)?.max(certainty))
        })
    }

    /// Returns whether the digits are a complete number.
    fn is_whole(&self, spelling: &FieldNumber) -> bool {
        if spelling.plus || spelling.is_short() {
            return !spelling.is_short();
        }
        let known = |region| {
            read_at_home(&spelling.digits, region)
                .is_some_and(|reading| reading.is_whole(&spelling.digits))
        };
        self.home().iter().copied().any(known)
    }
}

/// What a spelling means in one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RegionVerdict {
    This(Certainty),
    Another { certain: bool },
    Nobody,
}

impl RegionVerdict {
    fn certainty(self) -> Option<Certainty> {
        match self {
            Self::This(certainty) => Some(certainty),
            Self::Another { .. } | Self::Nobody => None,
        }
    }
}

/// One spelling of a number, digits only.
#[derive(Debug, Clone)]
struct FieldNumber {
    plus: bool,
    digits: String,
    extension: Option<Extension>,
    at_best: Certainty,
}

impl From<Piece> for FieldNumber {
    fn from(piece: Piece) -> Self {
        let Piece {
            plus,
            digits,
            extension,
            at_best,
            ..
        } = piece;
        Self {
            plus,
            digits,
            extension,
            at_best,
        }
    }
}

impl FieldNumber {
    /// Returns whether there are too few digits for a number, without calling code and trunk
    /// prefix.
    fn is_short(&self) -> bool {
        let before = match (self.plus, self.digits.as_bytes()) {
            (true, _) => 2,
            (false, [b'0', b'0', ..]) => 4,
            (false, [b'0', ..]) => 1,
            (false, _) => 0,
        };
        self.digits.len() < SHORT + before
    }

    fn joined(&self, next: &Self) -> Self {
        Self {
            digits: format!("{}{}", self.digits, next.digits),
            extension: next.extension,
            ..self.clone()
        }
    }

    /// A second number, of which only the last digits are written.
    fn ending_in(&self, end: &Self) -> Option<Self> {
        let kept = self
            .digits
            .len()
            .checked_sub(end.digits.len())
            .filter(|kept| *kept > 0)?;
        let digits = format!("{}{}", &self.digits[..kept], end.digits);
        Some(Self {
            digits,
            extension: end.extension,
            at_best: Certainty::Likely,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests;
