//! Requests as bytes of protobuf.
//!
//! An empty text takes two bytes on the wire and dozens in memory. So a request of one MiB can have
//! half a million of them, and reading them would take a thread of connections for too long. They
//! are counted before anything is read.

use bytes::{Buf as _, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::error::Violation;

/// More entries than any accepted request has: 10,000 numbers, and what may stand beside them.
const MOST_ENTRIES: usize = 20_000;

/// A smaller message cannot have too many.
const FEW: usize = 4 << 10;

/// Reads a request.
///
/// # Errors
/// If it has too many entries, or its bytes are no such message. So is a Struct of a hundred
/// levels.
pub(crate) fn decode<M: Message + Default>(message: Bytes) -> Result<M, Violation> {
    if message.len() > FEW && entries(&message, 1) > MOST_ENTRIES {
        let why = "has more entries than any request may have";
        return Err(Violation::new("request", why));
    }
    let unreadable = "cannot be read as a message of contactd.v1";
    M::decode(message).map_err(|_| Violation::new("request", unreadable))
}

/// The fields of a message, and those of long fields down to this depth, counted until they are too
/// many or cannot be read.
fn entries(mut message: &[u8], depth: u8) -> usize {
    let mut count = 0;
    while count <= MOST_ENTRIES && !message.is_empty() {
        let Some(field) = take_field(&mut message) else {
            break;
        };
        count += 1;
        if depth > 0 && field.len() > FEW {
            count += entries(field, depth - 1);
        }
    }
    count
}

/// The content of the first field, which is removed. Only that of texts and messages is needed.
fn take_field<'m>(message: &mut &'m [u8]) -> Option<&'m [u8]> {
    let (_, wire) = decode_key(message).ok()?;
    let length = match wire {
        WireType::Varint => {
            decode_varint(message).ok()?;
            return Some(&[]);
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(message).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let content = message.get(..length)?;
    message.advance(length);
    Some(content)
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
    fn what_is_no_message_is_refused() {
        for bytes in [&[0xff; 5_000][..], b"\x0a\x05ab", &[0x0b; 6_000]] {
            let read = decode::<pb::FindContactRequest>(Bytes::copy_from_slice(bytes));
            assert!(read.is_err());
        }
    }
}
