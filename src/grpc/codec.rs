//! Messages on the wire: replies encoded from stored bytes, requests decoded.

use std::marker::PhantomData;

use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstEncoder;

use crate::api::{ApiError, FindReply, Violation};
use crate::pb::v1 as pb;

/// Encodes [`FindReply`], decodes `FindContactRequest`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReplyCodec;

impl Codec for ReplyCodec {
    type Encode = FindReply;
    type Decode = pb::FindContactRequest;
    type Encoder = ReplyEncoder;
    type Decoder = RequestDecoder<pb::FindContactRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        ReplyEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder::default()
    }
}

/// Encodes `E` and decodes `D` as prost does, for methods whose replies are not stored.
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
    type Decoder = RequestDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder::default()
    }
}

/// Decodes a request. Bytes that are not a valid message are reported as the client's fault. So is
/// a Struct of a hundred levels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestDecoder<T>(PhantomData<T>);

impl<T> Default for RequestDecoder<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: prost::Message + Default> Decoder for RequestDecoder<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        T::decode(buffer).map(Some).map_err(|_| unreadable())
    }
}

/// The request's bytes are no message.
pub(super) fn unreadable() -> Status {
    let why = "cannot be read as a message of contactd.v1";
    ApiError::from(Violation::new("request", why)).into()
}

/// Encodes [`FindReply`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyEncoder;

impl Encoder for ReplyEncoder {
    type Item = FindReply;
    type Error = Status;

    fn encode(&mut self, reply: FindReply, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        reply
            .encode(buffer, tonic::codec::EncodeBuf::reserve)
            .map_err(|_| Status::internal("the reply could not be written"))
    }
}
