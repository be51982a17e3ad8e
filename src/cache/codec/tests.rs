use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::{SlotKey, UserTag};
use crate::redis_link::PartyHash;

const GOLDEN_4: &[u8] = include_bytes!("../../../tests/data/store-v4.bin");
const GOLDEN_5: &[u8] = include_bytes!("../../../tests/data/store-v5.bin");

fn parts() -> EntryParts {
    EntryParts {
        encoded: Bytes::from_static(b"\x0a\x05\x0a\x017\x12\x00"),
        count: 1,
        complete: true,
        asked_at: SharedTime(1_790_000_000_123),
        jitter: 200,
        absences: 3,
        extensions: Vec::new(),
        quality: None,
    }
}

fn plain() -> EntryCodec {
    EntryCodec::new(None)
}

/// Keys of 32 equal bytes each, the first of which seals.
fn ring(bytes: &[u8]) -> KeyRing {
    use base64::Engine as _;
    let encode = |byte: &u8| base64::engine::general_purpose::STANDARD.encode([*byte; 32]);
    let lines: Vec<String> = bytes
        .iter()
        .map(|byte| format!("k{byte}:{}\n", encode(byte)))
        .collect();
    KeyRing::parse(lines.concat().as_bytes()).unwrap()
}

fn sealed(bytes: &[u8]) -> EntryCodec {
    EntryCodec::new(Some(ring(bytes)))
}

fn context(user: u8, party: u8, question: u8) -> SealContext {
    SealContext::new(
        PartyHash([party; 16]),
        SlotKey::from_bytes(UserTag::from_bytes([user; 16]), [question; 16]),
    )
}

#[test]
fn version_5_is_read_and_written_as_it_was_on_its_first_day() {
    let here = context(1, 2, 3);
    assert_eq!(plain().decode(&here, GOLDEN_5).unwrap().parts(), parts());
    assert_eq!(
        plain().encode(&here, &Entry::from_parts(&parts())).unwrap(),
        GOLDEN_5
    );
}

#[test]
fn version_4_is_read_and_written_as_it_was_on_its_first_day() {
    let here = context(1, 2, 3);
    assert_eq!(
        encode_sealed(&ring(&[7]), &here, [9; NONCE], &Entry::from_parts(&parts())).unwrap(),
        GOLDEN_4
    );
    assert_eq!(
        sealed(&[7]).decode(&here, GOLDEN_4).unwrap().parts(),
        parts()
    );
}

#[test]
fn a_value_is_an_answer_at_its_place_only() {
    for codec in [plain(), sealed(&[7])] {
        let bytes = codec
            .encode(&context(1, 2, 3), &Entry::from_parts(&parts()))
            .unwrap();
        assert!(codec.decode(&context(1, 2, 3), &bytes).is_some());
        for elsewhere in [
            context(9, 2, 3),
            context(1, 9, 3),
            context(1, 2, 9),
            context(2, 1, 3),
            context(3, 2, 1),
        ] {
            assert!(codec.decode(&elsewhere, &bytes).is_none());
        }
    }
}

#[test]
fn a_new_key_is_added_behind_the_old_one_and_then_moved_before_it() {
    let (here, entry) = (context(1, 2, 3), Entry::from_parts(&parts()));
    let [old, new] = [&[1][..], &[2]].map(|keys| sealed(keys).encode(&here, &entry).unwrap());
    for both in [&[1, 2], &[2, 1]] {
        assert!(
            sealed(both).decode(&here, &old).is_some()
                && sealed(both).decode(&here, &new).is_some()
        );
    }
    assert!(
        sealed(&[1]).decode(&here, &new).is_none() && sealed(&[2]).decode(&here, &old).is_none()
    );
    assert!(
        sealed(&[1])
            .decode(&here, &sealed(&[2, 1]).encode(&here, &entry).unwrap())
            .is_none(),
        "the first seals"
    );
}

#[test]
fn plain_and_sealed_values_are_nothing_to_each_other() {
    let (here, entry) = (context(1, 2, 3), Entry::from_parts(&parts()));
    assert!(
        sealed(&[7])
            .decode(&here, &plain().encode(&here, &entry).unwrap())
            .is_none(),
        "nothing unsealed slips in"
    );
    assert!(
        plain()
            .decode(&here, &sealed(&[7]).encode(&here, &entry).unwrap())
            .is_none()
    );
    // Another key under the same id.
    let other = KeyRing::parse(b"k7:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    assert!(
        EntryCodec::new(Some(other))
            .decode(&here, GOLDEN_4)
            .is_none()
    );
}

#[test]
fn equal_answers_are_sealed_to_unequal_bytes_that_show_nothing() {
    let (here, name) = (context(1, 2, 3), b"Ada Lovelace");
    let entry = Entry::from_parts(&EntryParts {
        encoded: Bytes::from_static(name),
        ..parts()
    });
    let [one, two] = [(); 2].map(|()| sealed(&[7]).encode(&here, &entry).unwrap());
    assert_ne!(one, two);
    assert!(!one.windows(name.len()).any(|window| window == name));
}

#[test]
fn unknown_versions_and_damage_are_no_answer() {
    let here = context(1, 2, 3);
    for codec in [plain(), sealed(&[7])] {
        let good = codec.encode(&here, &Entry::from_parts(&parts())).unwrap();
        for bit in 0..good.len() * 8 {
            let mut damaged = good.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(codec.decode(&here, &damaged).is_none(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(codec.decode(&here, &good[..len]).is_none(), "cut to {len}");
        }
    }
}

#[test]
fn absence_that_was_not_proven_is_no_answer() {
    let unproven = Entry::from_parts(&EntryParts {
        count: 0,
        complete: false,
        ..parts()
    });
    for codec in [plain(), sealed(&[7])] {
        assert!(
            codec
                .decode(
                    &context(1, 2, 3),
                    &codec.encode(&context(1, 2, 3), &unproven).unwrap()
                )
                .is_none()
        );
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        encoded in prop::collection::vec(any::<u8>(), 0..100),
        (count, asked_at, jitter, absences) in (1u32.., any::<u64>(), any::<u8>(), any::<u8>()),
        complete in any::<bool>(),
    ) {
        let asked_at = SharedTime(asked_at);
        let quality = Some(MatchQuality::ALL[usize::from(jitter % 3)]);
        let extensions = vec!["2".to_owned(), String::new()];
        let parts = EntryParts {
            encoded: encoded.into(), count, complete, asked_at, jitter, absences, extensions, quality,
        };
        let entry = Entry::from_parts(&parts);
        for codec in [plain(), sealed(&[7])] {
            let bytes = codec.encode(&context(1, 2, 3), &entry).unwrap();
            prop_assert_eq!(codec.decode(&context(1, 2, 3), &bytes), Some(entry.clone()));
        }
    }
}
