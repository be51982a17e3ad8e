//! The value in Redis for one number of one user.
//!
//! Defines its layout:
//!
//! * 16 bytes of the user token (see `redis_link::user`) under which it began;
//! * 8 bytes of the data token (see `redis_link::time`) under which it began;
//! * 16 bytes of the number token;
//! * records, the latest first, one for each question and identity: 8 bytes of the identity, 16 of
//!   question and identity together, 8 of the time when the CRM was asked (milliseconds of the
//!   shared time) and 4 of a length, both big-endian, then this many bytes of
//!   [`codec`](super::codec).
//!
//! So a look-up reads one value before it knows whose credential it has, and an invalidation
//! deletes one. Each identity has its own part of a value. So a client that asks in many formats
//! only replaces answers of its own identity. Foreign or damaged bytes have no layout, or a layout
//! without the record. The scripts of [`redis`](super::redis) write values and use the same layout.

use std::fmt;

use crate::domain::ContactKey;
use crate::redis_link::user::UserToken;
use crate::redis_link::{DATA_TOKEN, DataToken, PartyHash};

/// Records kept per identity. Services that ask about one user may use different formats, but only
/// a limited number of them.
pub(super) const RECORDS: usize = 4;

/// Identities kept. Two agents who share a user id count as two identities. If the CRM names no
/// user, each new token is a new identity.
pub(super) const OWNERS: usize = 8;

const TOKEN: usize = 16;
const OWNER: usize = 8;
const TIME: usize = 8;

/// The parts of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout<'a> {
    pub(super) user_token: UserToken,
    pub(super) data: DataToken,
    pub(super) number_token: &'a [u8],
    records: &'a [u8],
}

impl<'a> Layout<'a> {
    /// Splits a value into its parts.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (user_token, rest) = bytes.split_at_checked(TOKEN)?;
        let (data, rest) = rest.split_at_checked(DATA_TOKEN)?;
        let (number_token, records) = rest.split_at_checked(TOKEN)?;
        Some(Self {
            user_token: UserToken::read(user_token)?,
            data: DataToken::read(data)?,
            number_token,
            records,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The bytes stored for a question and an identity.
    pub(super) fn find(&self, key: &ContactKey) -> Option<&'a [u8]> {
        let wanted = key.slot().to_bytes();
        let mut rest = self.records;
        loop {
            let (_, after) = rest.split_at_checked(OWNER)?;
            let (of, after) = after.split_at_checked(TOKEN)?;
            let (_, after) = after.split_at_checked(TIME)?;
            let (length, after) = after.split_first_chunk()?;
            let (bytes, after) =
                after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            if of == wanted {
                return Some(bytes);
            }
            rest = after;
        }
    }
}

/// What was read for one number, for all identities.
#[derive(Clone, PartialEq, Eq)]
pub struct NumberAnswers {
    pub(super) party: PartyHash,
    pub(super) value: Option<Vec<u8>>,
    /// The user token, for the next read.
    pub user_token: Option<UserToken>,
    /// The data token before the read.
    pub data: DataToken,
}

impl fmt::Debug for NumberAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NumberAnswers(…)")
    }
}

impl NumberAnswers {
    /// The value's parts, if they have the tokens of the user and of the data.
    pub(super) fn layout(&self) -> Option<Layout<'_>> {
        let layout = Layout::read(self.value.as_deref()?)?;
        let [is_of_user, is_of_data] = [
            Some(layout.user_token) == self.user_token,
            layout.data == self.data,
        ];
        (is_of_user && is_of_data).then_some(layout)
    }

    /// Returns whether nothing is stored for any identity.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layout().is_none_or(|layout| layout.is_empty())
    }
}

/// One record; `None` if the bytes are too many for the length field.
pub(super) fn record(key: &ContactKey, asked_at: u64, bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(bytes.len()).ok()?;
    let owner = &key.owner().to_bytes()[..OWNER];
    Some(
        [
            owner,
            &key.slot().to_bytes(),
            &asked_at.to_be_bytes(),
            &length.to_be_bytes(),
            bytes,
        ]
        .concat(),
    )
}

/// Whatever the bytes are, a read returns a part of them, or nothing. A record at their front is
/// found as it was stored.
#[cfg(any(test, fuzzing))]
pub(crate) fn layout_is_sound(bytes: &[u8]) {
    let key = sample_key(0);
    if let Some(layout) = Layout::read(bytes) {
        let found = layout.find(&key);
        assert!(found.is_none_or(|found| found.len() < bytes.len()));
        assert!(found.is_none() || !layout.is_empty());
    }
    if let (Some((head, rest)), Some(record)) = (
        bytes.split_at_checked(2 * TOKEN + DATA_TOKEN),
        record(&key, 7, bytes),
    ) {
        let value = [head, &record, rest].concat();
        let found = Layout::read(&value).and_then(|layout| layout.find(&key));
        assert_eq!(found, Some(bytes));
    }
}

/// The key of one question for an identity.
#[cfg(any(test, fuzzing))]
fn sample_key(identity: u8) -> ContactKey {
    use crate::domain::user::{AdditionalInfo, Settings};
    use crate::domain::{AuthTag, Crm, Extension, Identity, KeyMaker, Party, User};

    let crm = Crm {
        connector: "example",
        base_url: "",
        regions: &[],
        settings: &[],
        info: &[],
    };
    let user = User {
        id: "u".into(),
        account: String::new(),
        host: None,
        region: None,
        settings: Settings::default(),
        info: AdditionalInfo::default(),
    };
    let Ok(party) = Extension::parse("42").map(Party::Extension) else {
        unreachable!("it is an extension");
    };
    let question = KeyMaker::new([1; 16])
        .prefix(&crm, &user, &[])
        .question(party);
    question.of(&Identity::Credential(AuthTag::from_bytes([identity; 16])))
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::sample_key as key;

    fn layout(records: &[Vec<u8>]) -> Vec<u8> {
        let head = [vec![b'g'; TOKEN], vec![b'd'; DATA_TOKEN], vec![b'e'; TOKEN]];
        [head.concat(), records.concat()].concat()
    }

    #[test]
    fn each_identity_has_its_own_record_and_the_first_one_counts() {
        let record = |identity: u8, bytes| record(&key(identity), 7, bytes).unwrap();
        let value = layout(&[record(1, b"new"), record(2, b""), record(1, b"old")]);
        let read = Layout::read(&value).unwrap();
        assert_eq!(
            (Some(read.user_token), read.number_token),
            (UserToken::read(&[b'g'; TOKEN]), &[b'e'; TOKEN][..])
        );
        assert_eq!(read.find(&key(1)), Some(&b"new"[..]));
        assert_eq!(read.find(&key(2)), Some(&b""[..]));
        assert_eq!(read.find(&key(3)), None);
        assert!(!read.is_empty() && Layout::read(&layout(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_value_cut_short_has_no_record() {
        let value = layout(&[record(&key(1), 7, b"bytes").unwrap()]);
        for length in 0..value.len() {
            assert_eq!(
                Layout::read(&value[..length]).and_then(|layout| layout.find(&key(1))),
                None,
                "{length}"
            );
        }
    }
}
