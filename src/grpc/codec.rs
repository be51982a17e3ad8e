//! The reply of `FindContact` on the wire.
//!
//! A stored answer is kept encoded. Protobuf lets parts of one message follow each other: repeated
//! fields add up and embedded messages merge. So a reply is the stored bytes, the create option,
//! the return message and the facts about this answer, one behind the other, and nothing is
//! decoded, formatted or copied twice.

use std::marker::PhantomData;

use bytes::{BufMut as _, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstEncoder;

use super::status;
use crate::pb::v1 as pb;

/// Field number of `FindContactResponse.lookup`.
const LOOKUP: u32 = 3;

/// The parts of a `FindContactResponse`.
#[derive(Debug, Default)]
pub struct Reply {
    /// Contacts and number, as stored.
    pub(crate) stored: Bytes,
    /// The "create new contact" entry, or nothing.
    pub(crate) create_option: Bytes,
    /// The return message.
    pub(crate) message: Bytes,
    /// Facts that the stored part does not hold.
    pub(crate) lookup: pb::Lookup,
}

/// Writes [`Reply`], reads `FindContactRequest`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReplyCodec;

impl Codec for ReplyCodec {
    type Encode = Reply;
    type Decode = pb::FindContactRequest;
    type Encoder = ReplyEncoder;
    type Decoder = Reader<pb::FindContactRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        ReplyEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader::default()
    }
}

/// Writes `E` as prost does, reads `D`: for the methods whose replies are not stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainCodec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for PlainCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for PlainCodec<E, D>
where
    E: prost::Message + Send + 'static,
    D: prost::Message + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = ProstEncoder<E>;
    type Decoder = Reader<D>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader::default()
    }
}

/// Reads a message. Bytes that are none are the caller's fault and said to be so, also a Struct of
/// a hundred levels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<T>(PhantomData<T>);

impl<T> Default for Reader<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: prost::Message + Default> Decoder for Reader<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let message = T::decode(buffer);
        message
            .map(Some)
            .map_err(|_| status::invalid("request", "cannot be read as a message of contactd.v1"))
    }
}

/// Writes [`Reply`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyEncoder;

impl Encoder for ReplyEncoder {
    type Item = Reply;
    type Error = Status;

    fn encode(&mut self, reply: Reply, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let lookup = reply.lookup.encoded_len();
        let parts = reply.stored.len() + reply.create_option.len() + reply.message.len();
        buffer.reserve(parts + 1 + encoded_len_varint(lookup as u64) + lookup);
        buffer.put_slice(&reply.stored);
        buffer.put_slice(&reply.create_option);
        buffer.put_slice(&reply.message);
        encode_key(LOOKUP, WireType::LengthDelimited, buffer);
        encode_varint(lookup as u64, buffer);
        // `encode_raw` would do, but is hidden; room for the message was made above, so this cannot
        // fail.
        reply
            .lookup
            .encode(buffer)
            .map_err(|_| Status::internal("the reply could not be written"))
    }
}
