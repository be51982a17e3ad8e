//! The reply of `FindContact`, assembled from stored bytes.
//!
//! A stored answer is kept encoded. Protobuf allows the parts of a message to be concatenated:
//! repeated fields add up and embedded messages merge. So a reply is the stored bytes, the create
//! option, the return message and the facts about this answer, one after the other. Nothing is
//! decoded, formatted or copied twice.

use bytes::{BufMut, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use prost::{EncodeError, Message as _};

use crate::pb::v1 as pb;

/// Field number of `FindContactResponse.lookup`.
const LOOKUP: u32 = 3;

/// The parts of a `FindContactResponse`.
#[derive(Debug, Default)]
pub struct FindReply {
    /// Contacts and number, as stored.
    pub(super) stored: Bytes,
    /// The "create new contact" entry, or nothing.
    pub(super) create_option: Bytes,
    /// The return message.
    pub(super) message: Bytes,
    /// Facts that the stored part does not hold.
    pub(super) lookup: pb::Lookup,
}

impl FindReply {
    /// Appends the encoded message to `buffer`. `reserve` makes room for the given number of bytes.
    ///
    /// # Errors
    /// If `reserve` made too little room.
    pub(crate) fn encode<B: BufMut>(
        &self,
        buffer: &mut B,
        reserve: impl FnOnce(&mut B, usize),
    ) -> Result<(), EncodeError> {
        let lookup = self.lookup.encoded_len();
        let parts = self.stored.len() + self.create_option.len() + self.message.len();
        reserve(
            buffer,
            parts + 1 + encoded_len_varint(lookup as u64) + lookup,
        );
        buffer.put_slice(&self.stored);
        buffer.put_slice(&self.create_option);
        buffer.put_slice(&self.message);
        encode_key(LOOKUP, WireType::LengthDelimited, buffer);
        encode_varint(lookup as u64, buffer);
        // `encode_raw` would do, but is hidden.
        self.lookup.encode(buffer)
    }
}
