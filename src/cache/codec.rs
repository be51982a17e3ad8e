//! The bytes of a stored answer.
//!
//! Defines two formats:
//!
//! * version 5, plain: the byte 5, the CRC-32 of where it is stored and of what follows,
//!   big-endian, then `contactd.store.v1.Entry`;
//! * version 4, sealed: the byte 4, the length of the key's id and the id, 24 bytes of a nonce,
//!   then the sealed `contactd.store.v1.Entry`, bound to everything before it and to its
//!   place in Redis.
//!
//! With keys only version 4 is written and read, without keys only version 5. So nobody without the
//! keys can store an answer that is accepted. Later releases read whatever this release writes
//! (tests/data/store-v4.bin, store-v5.bin). Unknown, damaged, foreign or moved bytes count as no
//! answer, never as an error.

use prost::Message as _;
use secrecy::zeroize::Zeroizing;

use super::keys::{KeyRing, NONCE, SealContext};
use crate::domain::entry::{Entry, EntryParts};
use crate::domain::{MatchQuality, SharedTime};
use crate::pb::store;

const SEALED: u8 = 4;
const PLAIN: u8 = 5;
const CHECKSUM: usize = 4;

/// Encodes and decodes stored answers, sealed if it has keys.
#[derive(Debug, Clone, Default)]
pub struct EntryCodec {
    keys: Option<KeyRing>,
}

impl EntryCodec {
    /// A codec that seals under `keys`, if there are any.
    #[must_use]
    pub(crate) fn new(keys: Option<KeyRing>) -> Self {
        Self { keys }
    }

    /// Encodes an entry for this context. `None` if the system has no random bytes for a nonce.
    #[must_use]
    pub fn encode(&self, context: &SealContext, entry: &Entry) -> Option<Vec<u8>> {
        match &self.keys {
            None => Some(encode_plain(context, entry)),
            Some(keys) => {
                let mut nonce = [0; NONCE];
                getrandom::fill(&mut nonce).ok()?;
                encode_sealed(keys, context, nonce, entry)
            }
        }
    }

    /// Decodes the entry found in this context, if the bytes are valid and of the accepted version.
    #[must_use]
    pub(crate) fn decode(&self, context: &SealContext, bytes: &[u8]) -> Option<Entry> {
        match &self.keys {
            None => decode_plain(context, bytes),
            Some(keys) => decode_sealed(keys, context, bytes),
        }
    }
}

#[cfg(any(test, fuzzing))]
impl EntryCodec {
    /// The bytes of a plain value with any body, whose checksum is right.
    pub(crate) fn of_body(context: &SealContext, body: &[u8]) -> Vec<u8> {
        [&[PLAIN][..], &checksum(context, body), body].concat()
    }
}

fn encode_plain(context: &SealContext, entry: &Entry) -> Vec<u8> {
    let body = message(entry).encode_to_vec();
    [&[PLAIN][..], &checksum(context, &body), &body].concat()
}

fn decode_plain(context: &SealContext, bytes: &[u8]) -> Option<Entry> {
    let (&version, rest) = bytes.split_first()?;
    let (sum, body) = rest.split_first_chunk::<CHECKSUM>()?;
    if version != PLAIN || *sum != checksum(context, body) {
        return None;
    }
    entry(body)
}

fn encode_sealed(
    keys: &KeyRing,
    context: &SealContext,
    nonce: [u8; NONCE],
    entry: &Entry,
) -> Option<Vec<u8>> {
    let plain = Zeroizing::new(message(entry).encode_to_vec());
    let id = keys.first_id().as_bytes();
    let head = [&[SEALED, u8::try_from(id.len()).ok()?], id, &nonce].concat();
    let sealed = keys.seal(&head, context, nonce, &plain)?;
    Some([head, sealed].concat())
}

fn decode_sealed(keys: &KeyRing, context: &SealContext, bytes: &[u8]) -> Option<Entry> {
    let (&[version, length], rest) = bytes.split_first_chunk::<2>()?;
    if version != SEALED {
        return None;
    }
    let (id, rest) = rest.split_at_checked(usize::from(length))?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
    let head = &bytes[..2 + id.len() + NONCE];
    entry(&keys.open(id, head, context, *nonce, sealed)?)
}

fn message(entry: &Entry) -> store::Entry {
    let EntryParts {
        encoded,
        count,
        complete,
        asked_at,
        jitter,
        absences,
        extensions,
        quality,
    } = entry.parts();
    store::Entry {
        encoded,
        count,
        complete,
        asked_at_ms: asked_at.0,
        jitter: u32::from(jitter),
        absences: u32::from(absences),
        extensions,
        quality: quality.map_or(0, MatchQuality::rank),
    }
}

fn entry(body: &[u8]) -> Option<Entry> {
    let store::Entry {
        encoded,
        count,
        complete,
        asked_at_ms,
        jitter,
        absences,
        extensions,
        quality,
    } = store::Entry::decode(body).ok()?;
    let entry = Entry::from_parts(&EntryParts {
        encoded,
        count,
        complete,
        asked_at: SharedTime(asked_at_ms),
        jitter: u8::try_from(jitter).ok()?,
        absences: u8::try_from(absences).ok()?,
        extensions,
        quality: MatchQuality::ALL
            .into_iter()
            .find(|known| known.rank() == quality),
    });
    // Absence that was not proven is never stored, so contactd did not write these bytes.
    entry.is_storable().then_some(entry)
}

/// Detects damage and moved values, not forgery: anybody who can write to Redis can compute it.
/// Sealed values do not need it.
fn checksum(context: &SealContext, body: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(context.as_bytes());
    hasher.update(body);
    hasher.finalize().to_be_bytes()
}

#[cfg(test)]
mod tests;
