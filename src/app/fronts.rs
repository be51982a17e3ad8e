//! Which front answers a request of HTTP/2: gRPC by its content type, otherwise HTTP.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use crate::grpc::is_grpc;
use crate::http::HttpFront;

/// A gRPC service, and HTTP at the same paths.
#[derive(Debug, Clone)]
pub(super) struct Fronts<S> {
    grpc: S,
    http: HttpFront,
}

impl<S> Fronts<S> {
    pub(super) fn new(grpc: S, http: HttpFront) -> Self {
        Self { grpc, http }
    }
}

impl<S: NamedService> NamedService for Fronts<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Fronts<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.grpc.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_grpc(&request) {
            return Either::Left(self.grpc.call(request));
        }
        let http = self.http.clone();
        Either::Right(Box::pin(async move {
            let answer = http.respond(request).await;
            Ok(answer.map(Body::new))
        }))
    }
}

/// The answer at a path without a service.
pub(super) async fn elsewhere<B>(http: HttpFront, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    if is_grpc(&request) {
        return Status::unimplemented("").into_http();
    }
    http.respond(request).await.map(Body::new)
}
