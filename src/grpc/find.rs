//! `FindContact`, served without the layers that the other methods need.
//!
//! It comes before the router and before tonic's codec: the request is one complete message, the
//! reply is one, and neither is compressed. A memory hit is answered in the first poll.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::{BoxFuture, Either};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tower_layer::Layer;

use super::admit::{AdmitCalls, CallFuture};
use super::body::{PREFIX, WholeBody};
use super::context::{context, span};
use super::gate::{CallGate, is_grpc};
use crate::api::{ApiError, ContactApi, FindReply, Reply as _, RequestContext, message};

const PATH: &str = "/contactd.v1.ContactService/FindContact";

/// Puts `FindContact` before other services.
#[derive(Debug, Clone)]
pub(crate) struct FindFirst(AdmitCalls<FindContact>);

impl FindFirst {
    /// `FindContact` of `api`, behind `gate`.
    pub(crate) fn new(gate: &CallGate, api: Arc<ContactApi>) -> Self {
        Self(gate.before_calls(FindContact { api }))
    }
}

impl<S> Layer<S> for FindFirst {
    type Service = FindOr<S>;

    fn layer(&self, rest: S) -> FindOr<S> {
        FindOr {
            find: self.0.clone(),
            rest,
        }
    }
}

/// Serves `FindContact` of gRPC; all else goes to `rest`.
#[derive(Debug, Clone)]
pub(crate) struct FindOr<S> {
    find: AdmitCalls<FindContact>,
    rest: S,
}

impl<S> Service<Request<Body>> for FindOr<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<CallFuture<FindContact>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.rest.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() == PATH && is_grpc(&request) {
            Either::Left(self.find.call(request))
        } else {
            Either::Right(self.rest.call(request))
        }
    }
}

/// The method.
#[derive(Debug, Clone)]
pub(crate) struct FindContact {
    api: Arc<ContactApi>,
}

impl FindContact {
    async fn answer(
        self,
        context: RequestContext,
        message: Bytes,
    ) -> Result<Response<Body>, Status> {
        let request = message::decode(message).map_err(ApiError::from)?;
        response(&self.api.find(context, request).await?)
    }
}

impl Service<Request<WholeBody>> for FindContact {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<WholeBody>) -> Self::Future {
        let method = self.clone();
        let (head, body) = request.into_parts();
        let span = span(&self.api, "FindContact", &head.headers);
        let context = context(&head.headers, &head.extensions, span);
        Box::pin(async move {
            let answer = method.answer(context, body.into_message()).await;
            Ok(answer.unwrap_or_else(Status::into_http))
        })
    }
}

fn response(reply: &FindReply) -> Result<Response<Body>, Status> {
    let mut response = Response::new(Body::new(ReplyBody::Message(frame(reply)?)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    Ok(response)
}

/// One message after its prefix: not compressed, and its length.
fn frame(reply: &FindReply) -> Result<Bytes, Status> {
    let mut buffer = BytesMut::with_capacity(PREFIX + reply.encoded_len());
    buffer.put_bytes(0, PREFIX);
    let written = reply.encode(&mut buffer);
    written.map_err(|_| Status::internal("the reply could not be written"))?;
    let length = u32::try_from(buffer.len() - PREFIX)
        .map_err(|_| Status::internal("the reply is larger than a message can be"))?;
    buffer[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(buffer.freeze())
}

/// What is left to send: the message, then the status OK.
enum ReplyBody {
    Message(Bytes),
    Status,
    Nothing,
}

impl HttpBody for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let (frame, left) = match std::mem::replace(&mut *self, Self::Nothing) {
            Self::Message(message) => (Some(Frame::data(message)), Self::Status),
            Self::Status => (Some(Frame::trailers(ok())), Self::Nothing),
            Self::Nothing => (None, Self::Nothing),
        };
        *self = left;
        Poll::Ready(frame.map(Ok))
    }
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}
