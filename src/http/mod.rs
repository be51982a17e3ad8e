//! HTTP in, HTTP out: a thin front over [`crate::api`], beside gRPC and on its port.
//!
//! Serves the methods of `contactd.v1.ContactService` in the Connect protocol
//! (<https://connectrpc.com/docs/protocol>): unary calls as JSON or protobuf, `WatchContact` and
//! `PrefetchContacts` as server streams, and `FindContact` by GET as well. `GET /v1/name` answers
//! with the name of a caller as text, for telephone systems that can do no more than that. `api`
//! decides who may call and what is limited, counts look-ups and reports why they fail, as for
//! gRPC.
//!
//! Requests from web pages are refused. A browser marks each request that it sends on behalf of a
//! page.

use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Method as Verb, Request, Response, header};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};

use crate::api::{ApiError, ClientLimits, ContactApi};
use crate::clients::from_a_page;
use crate::trace::Span;

mod admit;
mod arrival;
mod codec;
mod connect;
mod envelope;
mod error;
mod method;
mod name;
mod query;

#[cfg(any(test, fuzzing))]
pub(crate) use query::query_is_sound;

use arrival::Rests;
use error::Refusal;
use method::Method;

/// The path of the methods, before their names.
const SERVICE: &str = "/contactd.v1.ContactService/";

/// The path of the plain form for telephone systems.
const NAME: &str = "/v1/name";

/// The body of an answer.
pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;

/// The body of a request. [`HttpFront::respond`] keeps it, and drops what is not read of it.
type RequestBody<'a> = &'a mut UnsyncBoxBody<Bytes, Broken>;

/// The rest of a request will not arrive.
#[derive(Debug)]
struct Broken;

/// Answers requests of HTTP/1.1 and HTTP/2 that are not gRPC. Clones share everything.
#[derive(Clone)]
pub(crate) struct HttpFront(Arc<FrontParts>);

struct FrontParts {
    api: Arc<ContactApi>,
    limits: ClientLimits,
    rests: Rests,
}

impl fmt::Debug for HttpFront {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpFront").finish_non_exhaustive()
    }
}

impl HttpFront {
    /// The methods of `api` for the clients of `limits`.
    #[must_use]
    pub(crate) fn new(api: Arc<ContactApi>, limits: ClientLimits) -> Self {
        Self(Arc::new(FrontParts {
            api,
            limits,
            rests: Rests::default(),
        }))
    }

    /// Answers a request. Its extensions hold the peer of its connection.
    pub(crate) async fn respond<B>(&self, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let is_head = request.method() == Verb::HEAD;
        let waits_to_send = request.headers().contains_key(header::EXPECT);
        let (parts, body) = request.into_parts();
        let mut body = body.map_err(|_| Broken).boxed_unsync();
        let request = Request::from_parts(parts, &mut body);
        let answered = AssertUnwindSafe(self.route(request)).catch_unwind().await;
        // A client that sent `Expect` has not sent its body yet, so there is no rest to drop.
        if !waits_to_send {
            self.0.rests.drop_rest(&mut body).await;
        }
        // A panic ends this call alone: the connection also carries other calls. Nothing of this
        // call is used again.
        let answer = answered.unwrap_or_else(|_| error::unary(&ApiError::internal()));
        // A body here would break the stream of HTTP/2.
        if is_head {
            answer.map(|_| Empty::new().boxed_unsync())
        } else {
            answer
        }
    }

    async fn route(&self, request: Request<RequestBody<'_>>) -> Response<ReplyBody> {
        match self.routed(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.respond(),
        }
    }

    async fn routed(
        &self,
        request: Request<RequestBody<'_>>,
    ) -> Result<Response<ReplyBody>, Refusal> {
        if from_a_page(request.headers()) {
            return Err(Refusal::WebPage);
        }
        let (path, verb) = (request.uri().path(), request.method());
        let Some(name) = path.strip_prefix(SERVICE) else {
            return match (path, verb) {
                (NAME, &Verb::GET) => Ok(self.name(request).await),
                (NAME, _) => Err(Refusal::Verb("GET")),
                _ => Err(Refusal::UnknownPath),
            };
        };
        let method = Method::named(name).ok_or(Refusal::UnknownMethod)?;
        match (verb, method.has_no_side_effects()) {
            (&Verb::POST, _) => self.post(method, request).await,
            (&Verb::GET, true) => self.get(method, request).await,
            (_, true) => Err(Refusal::Verb("GET, POST")),
            (_, false) => Err(Refusal::Verb("POST")),
        }
    }

    fn span(&self, method: Method, headers: &HeaderMap) -> Span {
        self.0.api.span(method.name(), |name| text(headers, name))
    }
}

/// The value of a header, if it is text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
