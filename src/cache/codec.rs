//! The bytes of a stored answer.
//!
//! Owns their format: one byte of version, eight bytes of a checksum, then `contactd.store.v1.Entry`. Promises that
//! what this version writes is read by every later one (tests/data/store-v1.bin), and that unknown or damaged bytes
//! are no answer, never an error. Other versions may follow, an encrypted one among them.

use prost::Message as _;

use crate::domain::entry::{Entry, Parts, Timestamp};
use crate::pb::store;

const VERSION: u8 = 1;
const CHECKSUM: usize = 8;

/// The bytes of an entry.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    let Parts { encoded, count, complete, asked_at, jitter, absences } = entry.parts();
    let message = store::Entry {
        encoded,
        count,
        complete,
        asked_at_ms: asked_at.0,
        jitter: u32::from(jitter),
        absences: u32::from(absences),
    };
    let mut bytes = Vec::with_capacity(1 + CHECKSUM + message.encoded_len());
    bytes.push(VERSION);
    bytes.extend([0; CHECKSUM]);
    // Cannot fail: a Vec grows.
    let _ = message.encode(&mut bytes);
    let checksum = checksum(&bytes[1 + CHECKSUM..]);
    bytes[1..=CHECKSUM].copy_from_slice(&checksum);
    bytes
}

/// The entry in the bytes, if this version can read them and they are undamaged.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Entry> {
    let (&version, rest) = bytes.split_first()?;
    let (sum, body) = rest.split_first_chunk::<CHECKSUM>()?;
    if version != VERSION || *sum != checksum(body) {
        return None;
    }
    let store::Entry { encoded, count, complete, asked_at_ms, jitter, absences } = store::Entry::decode(body).ok()?;
    let entry = Entry::from_parts(Parts {
        encoded,
        count,
        complete,
        asked_at: Timestamp(asked_at_ms),
        jitter: u8::try_from(jitter).ok()?,
        absences: u8::try_from(absences).ok()?,
    });
    // Absence that was not proven is never stored, so these are not our bytes.
    entry.is_storable().then_some(entry)
}

/// Tells damage, not forgery: whoever can write to Redis can write this.
fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..CHECKSUM]);
    sum
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../tests/data/store-v1.bin");

    fn parts() -> Parts {
        Parts {
            encoded: Bytes::from_static(b"\x0a\x05\x0a\x017\x12\x00"),
            count: 1,
            complete: true,
            asked_at: Timestamp(1_790_000_000_123),
            jitter: 200,
            absences: 3,
        }
    }

    #[test]
    fn version_1_is_read_and_written_as_it_was_on_its_first_day() {
        assert_eq!(decode(GOLDEN).unwrap().parts(), parts());
        assert_eq!(encode(&Entry::from_parts(parts())), GOLDEN);
    }

    #[test]
    fn unknown_versions_and_damage_are_no_answer() {
        let good = encode(&Entry::from_parts(parts()));
        for bit in 0..good.len() * 8 {
            let mut damaged = good.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_none(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_none(), "cut to {len}");
        }
    }

    #[test]
    fn absence_that_was_not_proven_is_no_answer() {
        let unproven = Entry::from_parts(Parts { count: 0, complete: false, ..parts() });
        assert!(decode(&encode(&unproven)).is_none());
    }

    proptest! {
        #[test]
        fn junk_is_no_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&bytes).is_none());
        }

        #[test]
        fn junk_with_a_right_checksum_does_no_harm(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![VERSION];
            bytes.extend(checksum(&body));
            bytes.extend(body);
            let _ = decode(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            encoded in prop::collection::vec(any::<u8>(), 0..100),
            (count, asked_at, jitter, absences) in (1u32.., any::<u64>(), any::<u8>(), any::<u8>()),
            complete in any::<bool>(),
        ) {
            let asked_at = Timestamp(asked_at);
            let parts = Parts { encoded: encoded.into(), count, complete, asked_at, jitter, absences };
            let entry = Entry::from_parts(parts);
            prop_assert_eq!(decode(&encode(&entry)), Some(entry));
        }
    }
}
