//! The replies of `FindContact` and `WatchContact`, assembled from stored bytes.
//!
//! A stored answer is kept encoded. Protobuf allows the parts of a message to be concatenated:
//! repeated fields add up and embedded messages merge. So a reply is the stored bytes, the create
//! option, the return message and the facts about this answer, one after the other. Nothing is
//! decoded, formatted or copied twice.

use bytes::{BufMut, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use prost::{EncodeError, Message as _};

use crate::domain::Entry;
use crate::pb::v1 as pb;

/// Field number of `FindContactResponse.lookup`.
const LOOKUP: u32 = 3;

/// Field numbers of `WatchContactResponse`.
const ASKING: u32 = 1;
const ANSWER: u32 = 2;

/// The parts of a `FindContactResponse`.
#[derive(Debug, Default)]
pub struct FindReply {
    /// Contacts and number, as stored, if there was a look-up.
    pub(super) stored: Option<Entry>,
    /// The "create new contact" entry, or nothing.
    pub(super) create_option: Bytes,
    /// The return message.
    pub(super) message: Bytes,
    /// Facts that the stored part does not hold.
    pub(super) lookup: pb::Lookup,
}

/// An event of `WatchContact`.
#[derive(Debug)]
pub enum WatchReply {
    /// Nothing is stored, and the CRM is asked.
    Asking,
    /// What is known now.
    Answer(FindReply),
}

/// A message that is written from parts.
pub(crate) trait Reply {
    /// Its name in the proto, without the package.
    const NAME: &'static str;

    fn encoded_len(&self) -> usize;

    /// Appends the encoded message to `buffer`, which has room for it.
    ///
    /// # Errors
    /// If it has not.
    fn encode(&self, buffer: &mut impl BufMut) -> Result<(), EncodeError>;

    /// The encoded message.
    ///
    /// # Errors
    /// Never, as a vector grows.
    fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut encoded = Vec::with_capacity(self.encoded_len());
        self.encode(&mut encoded)?;
        Ok(encoded.into())
    }
}

impl FindReply {
    fn stored(&self) -> &[u8] {
        self.stored.as_ref().map_or(&[], Entry::encoded)
    }
}

impl Reply for FindReply {
    const NAME: &'static str = "FindContactResponse";

    fn encoded_len(&self) -> usize {
        let parts = self.stored().len() + self.create_option.len() + self.message.len();
        parts + embedded_len(self.lookup.encoded_len())
    }

    fn encode(&self, buffer: &mut impl BufMut) -> Result<(), EncodeError> {
        buffer.put_slice(self.stored());
        buffer.put_slice(&self.create_option);
        buffer.put_slice(&self.message);
        begin_embedded(LOOKUP, self.lookup.encoded_len(), buffer);
        // `encode_raw` would do, but is hidden.
        self.lookup.encode(buffer)
    }
}

impl Reply for WatchReply {
    const NAME: &'static str = "WatchContactResponse";

    fn encoded_len(&self) -> usize {
        match self {
            Self::Asking => embedded_len(0),
            Self::Answer(reply) => embedded_len(reply.encoded_len()),
        }
    }

    fn encode(&self, buffer: &mut impl BufMut) -> Result<(), EncodeError> {
        match self {
            Self::Asking => begin_embedded(ASKING, 0, buffer),
            Self::Answer(reply) => {
                begin_embedded(ANSWER, reply.encoded_len(), buffer);
                reply.encode(buffer)?;
            }
        }
        Ok(())
    }
}

/// The length of an embedded message of `len` bytes, in a field with a number below 16.
fn embedded_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn begin_embedded(field: u32, len: usize, buffer: &mut impl BufMut) {
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(len as u64, buffer);
}
