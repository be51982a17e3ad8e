//! Requests as bytes of protobuf.
//!
//! An empty text takes two bytes on the wire and dozens in memory. So a request of one MiB can have
//! half a million of them, and reading them would keep a thread that serves connections busy for
//! too long. They are counted before anything is read.

use bytes::{Buf as _, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::error::Violation;

/// More entries than any accepted request has: 10,000 numbers, and what may stand beside them.
const MOST_ENTRIES: usize = 20_000;

/// Most bytes of the user in a request: as many as a whole look-up request may have.
const MOST_OF_USER: usize = 64 << 10;

/// A smaller message cannot have too many entries.
const FEW: usize = 4 << 10;

/// The field number of `user` in every request with a list.
const USER: u32 = 1;

/// The field number of the list in an invalidation. In other requests the field with this number is
/// a string.
const LIST: u32 = 2;

/// Reads a request.
///
/// # Errors
/// If it has too many entries, or its bytes are not a valid message. A Struct with a hundred levels
/// is not valid either.
pub(crate) fn decode<M: Message + Default>(message: Bytes) -> Result<M, Violation> {
    if message.len() > FEW && has_too_much(&message) {
        let why = "has more entries than any request may have";
        return Err(Violation::new("request", why));
    }
    let unreadable = "cannot be read as a message of contactd.v1";
    M::decode(message).map_err(|_| Violation::new("request", unreadable))
}

/// Counts until it is too much, or until what follows cannot be read. A field may come in several
/// parts, which are added up as prost does.
fn has_too_much(mut message: &[u8]) -> bool {
    let (mut entries, mut user) = (0, 0);
    while let Some((number, content)) = take_field(&mut message) {
        entries += 1;
        match number {
            USER => user += content.len(),
            LIST => entries += fields(content),
            _ => {}
        }
        if entries > MOST_ENTRIES || user > MOST_OF_USER {
            return true;
        }
    }
    false
}

fn fields(mut message: &[u8]) -> usize {
    let each = std::iter::from_fn(|| take_field(&mut message));
    each.take(MOST_ENTRIES + 1).count()
}

/// The first field, which is removed: its number, and its content if that is a text or a message.
/// The beginning and the end of a group count as fields.
fn take_field<'m>(message: &mut &'m [u8]) -> Option<(u32, &'m [u8])> {
    let (number, wire) = decode_key(message).ok()?;
    let length = match wire {
        WireType::Varint => {
            decode_varint(message).ok()?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(message).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => 0,
    };
    let content = message.get(..length)?;
    message.advance(length);
    Some((number, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::v1 as pb;
    use crate::pb::v1::invalidate_contacts_request::Scope;

    fn prefetch(numbers: usize, number: &str) -> pb::PrefetchContactsRequest {
        pb::PrefetchContactsRequest {
            auth_header: "Bearer x".to_owned() + &"y".repeat(8_000),
            phone_numbers: vec![number.to_owned(); numbers],
            ..Default::default()
        }
    }

    fn read<M: Message + Default>(message: &M) -> Result<M, Violation> {
        decode(message.encode_to_vec().into())
    }

    #[test]
    fn the_largest_request_is_read() {
        let largest = prefetch(10_000, "+1 (415) 555-0100 ext. 12345");
        assert_eq!(read(&largest).unwrap(), largest);
    }

    #[test]
    fn empty_entries_without_end_are_refused_before_they_are_read() {
        let refused = |what: Violation| what.to_string().contains("more entries");
        assert!(refused(read(&prefetch(500_000, "")).unwrap_err()));
        let numbers = pb::PhoneNumbers {
            phone_numbers: vec![String::new(); 500_000],
        };
        let forget = pb::InvalidateContactsRequest {
            scope: Some(Scope::Numbers(numbers)),
            ..Default::default()
        };
        assert!(refused(read(&forget).unwrap_err()));
    }

    #[test]
    fn entries_are_counted_however_they_are_cut_or_hidden() {
        let empties = |field: u8, count: usize| [field << 3 | 2, 0].repeat(count);
        let part = |number: u8, content: Vec<u8>| {
            let mut part = vec![number << 3 | 2];
            prost::encoding::encode_varint(content.len() as u64, &mut part);
            part.extend(content);
            part
        };
        let group = vec![9 << 3 | 3, 9 << 3 | 4];
        for hidden in [
            // Behind a group of an unknown field.
            [group, empties(3, 500_000)].concat(),
            // A list in small parts, which prost joins.
            part(2, empties(1, 1_000)).repeat(400),
            // The settings of a user.
            part(1, part(6, empties(1, 200)).repeat(1_000)),
        ] {
            assert!(has_too_much(&hidden));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&[0xff; 5_000][..], b"\x0a\x05ab", &[0x0b; 6_000]] {
            let read = decode::<pb::FindContactRequest>(Bytes::copy_from_slice(bytes));
            assert!(read.is_err());
        }
    }
}
