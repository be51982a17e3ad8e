//! Messages on the wire: replies encoded from stored bytes, requests decoded.

use std::marker::PhantomData;

use bytes::Buf as _;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstEncoder;

use crate::api::{ApiError, Reply, message};
use crate::pb::v1 as pb;

/// Encodes replies with stored answers, decodes `FindContactRequest`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyCodec<E>(PhantomData<E>);

impl<E> Default for ReplyCodec<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Reply + Send + 'static> Codec for ReplyCodec<E> {
    type Encode = E;
    type Decode = pb::FindContactRequest;
    type Encoder = ReplyEncoder<E>;
    type Decoder = RequestDecoder<pb::FindContactRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        ReplyEncoder(PhantomData)
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

/// Decodes a request. Bytes that are not a valid message are reported as the client's fault.
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
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let read = message::decode(bytes).map_err(ApiError::from);
        Ok(Some(read?))
    }
}

/// Encodes a [`Reply`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyEncoder<E>(PhantomData<E>);

impl<E: Reply> Encoder for ReplyEncoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, reply: E, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(reply.encoded_len());
        reply
            .encode(buffer)
            .map_err(|_| Status::internal("the reply could not be written"))
    }
}
