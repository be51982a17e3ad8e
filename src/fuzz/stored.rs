//! Bytes in Redis: answers, the layout around them, events of the log, what replicas share about
//! credentials, and the file of the keys that seal answers.

use crate::admission::record_is_sound;
use crate::cache::codec::EntryCodec;
use crate::cache::{KeyRing, SealContext, event_is_sound, layout_is_sound};
use crate::domain::{Extension, SlotKey, UserTag};
use crate::proto_json;
use crate::redis_link::PartyHash;

const HERE: [u8; 16] = [1; 16];

const KEYS: &[u8] = b"k7:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

fn place(byte: u8) -> SealContext {
    let slot = SlotKey::from_bytes(UserTag::from_bytes([byte; 16]), HERE);
    SealContext::new(PartyHash(HERE), slot)
}

/// The kind of the value, and its bytes.
pub fn redis_value(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 6 {
        0 => is_answer_or_absent(&EntryCodec::of_body(&place(1), bytes)),
        1 => is_answer_or_absent(bytes),
        2 => is_sealed_or_absent(bytes),
        3 => layout_is_sound(bytes),
        4 => event_is_sound(bytes),
        _ => {
            record_is_sound(bytes);
            if let Ok(keys) = KeyRing::parse(bytes) {
                let codec = EntryCodec::new(Some(keys));
                assert_eq!(codec.decode(&place(1), bytes), None);
            }
        }
    }
}

/// Bytes without a seal: anyone who can write to Redis can make them. They are an answer only for
/// the key at which they are stored, and sending that answer does no harm.
fn is_answer_or_absent(bytes: &[u8]) {
    let codec = EntryCodec::default();
    let Some(entry) = codec.decode(&place(1), bytes) else {
        return;
    };
    assert!(entry.is_storable());
    assert_eq!(codec.decode(&place(2), bytes), None);
    let again = codec.encode(&place(1), &entry).unwrap_or_default();
    assert_eq!(codec.decode(&place(1), &again).as_ref(), Some(&entry));
    for asked in [None, Extension::parse("42").ok()] {
        let sent = entry.asked_for(asked);
        assert!(sent.encoded().len() <= 2 * entry.encoded().len() + 64);
        let _ = proto_json::bytes_to_json("contactd.v1.FindContactResponse", sent.encoded());
    }
}

/// Without the key nobody can make sealed bytes, so anything else is no answer.
fn is_sealed_or_absent(bytes: &[u8]) {
    let Ok(keys) = KeyRing::parse(KEYS) else {
        unreachable!("these are keys");
    };
    let sealed = EntryCodec::new(Some(keys));
    let answer = sealed.decode(&place(1), bytes);
    // The corpus has one value that was sealed.
    let genuine =
        blake3::hash(bytes) == blake3::hash(include_bytes!("../../tests/data/store-v4.bin"));
    assert!(answer.is_none() || genuine);
    assert_eq!(sealed.decode(&place(2), bytes), None);
}
