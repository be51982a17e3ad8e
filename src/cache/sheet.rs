//! What Redis holds of one number of one user, in one value.
//!
//! Owns its layout:
//!
//! * 16 bytes of the user's generation (see `link::user`) under which it began;
//! * 16 bytes of an epoch, a random token;
//! * records, the latest first, one for each question (host, formats, settings): 16 bytes of the question, 8 of the
//!   time when the CRM was asked (milliseconds since the Unix epoch) and 4 of a length, both big-endian, then so many
//!   bytes of [`codec`](super::codec).
//!
//! So a look-up reads one value, and an invalidation deletes it. Promises that foreign or damaged bytes are no sheet, or
//! one without the record. The scripts of [`redis`](super::redis) write sheets; they know the same layout.

use crate::link::user::Generation;

/// Records kept. Services that ask about one user may differ in their formats, but not without end.
pub(super) const RECORDS: usize = 8;

const TOKEN: usize = 16;
const TIME: usize = 8;

/// The parts of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sheet<'a> {
    pub(super) generation: Generation,
    pub(super) epoch: &'a [u8],
    records: &'a [u8],
}

impl<'a> Sheet<'a> {
    /// Takes a value apart.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (generation, rest) = bytes.split_at_checked(TOKEN)?;
        let (epoch, records) = rest.split_at_checked(TOKEN)?;
        Some(Self { generation: Generation::read(generation)?, epoch, records })
    }

    /// The bytes that were stored under a question.
    pub(super) fn find(&self, question: [u8; TOKEN]) -> Option<&'a [u8]> {
        let mut rest = self.records;
        loop {
            let (of, after) = rest.split_at_checked(TOKEN)?;
            let (_, after) = after.split_at_checked(TIME)?;
            let (length, after) = after.split_first_chunk()?;
            let (bytes, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            if of == question {
                return Some(bytes);
            }
            rest = after;
        }
    }
}

/// One record; none for bytes that are too many for their length.
pub(super) fn record(question: [u8; TOKEN], asked_at: u64, bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(bytes.len()).ok()?;
    Some([&question[..], &asked_at.to_be_bytes(), &length.to_be_bytes(), bytes].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sheet(records: &[Vec<u8>]) -> Vec<u8> {
        [vec![b'g'; TOKEN], vec![b'e'; TOKEN], records.concat()].concat()
    }

    #[test]
    fn each_question_has_its_own_record_and_the_first_one_counts() {
        let record = |question: u8, bytes| record([question; TOKEN], 7, bytes).unwrap();
        let value = sheet(&[record(1, b"new"), record(2, b""), record(1, b"old")]);
        let sheet = Sheet::read(&value).unwrap();
        assert_eq!((Some(sheet.generation), sheet.epoch), (Generation::read(&[b'g'; TOKEN]), &[b'e'; TOKEN][..]));
        assert_eq!(sheet.find([1; TOKEN]), Some(&b"new"[..]));
        assert_eq!(sheet.find([2; TOKEN]), Some(&b""[..]));
        assert_eq!(sheet.find([3; TOKEN]), None);
    }

    #[test]
    fn a_value_cut_short_has_no_record() {
        let value = sheet(&[record([1; TOKEN], 7, b"bytes").unwrap()]);
        for length in 0..value.len() {
            assert_eq!(Sheet::read(&value[..length]).and_then(|sheet| sheet.find([1; TOKEN])), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_junk_is_read_without_a_panic(junk in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(sheet) = Sheet::read(&junk) {
                prop_assert!(sheet.find([0; TOKEN]).is_none_or(|bytes| bytes.len() < junk.len()));
            }
        }
    }
}
