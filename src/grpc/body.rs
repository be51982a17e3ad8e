//! The body of a request, passed on once it is complete.
//!
//! Every method of the service takes one message. The body is held back until the request has
//! ended. So an incomplete request costs only its bytes and one of the places for incomplete
//! requests: it has no place among the calls, no memory is reserved for its announced length, and
//! nothing is decoded. Size and time are limited. A request that arrives all at once costs nothing
//! more.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::gate::Timer;
use crate::api::{ARRIVAL, ApiError, Violation};
use crate::clock;

/// The bytes before a message: a flag and its length.
pub(super) const PREFIX: usize = 5;

/// See the header of this file.
pub(crate) struct WholeBody {
    inner: Body,
    most: usize,
    first: Bytes,
    more: BytesMut,
    whole: bool,
    /// Set when the request is first awaited.
    timer: Option<Timer>,
}

impl fmt::Debug for WholeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WholeBody(…)")
    }
}

impl WholeBody {
    pub(super) fn new(inner: Body, most: usize) -> Self {
        Self {
            inner,
            most,
            first: Bytes::new(),
            more: BytesMut::new(),
            whole: false,
            timer: None,
        }
    }

    fn take_in(&mut self, data: Bytes) -> Result<(), Status> {
        if self.first.len() + self.more.len() + data.len() > self.most {
            return Err(invalid(format!("is larger than {} bytes", self.most)));
        }
        if self.first.is_empty() {
            self.first = data;
        } else {
            self.more.extend_from_slice(&data);
        }
        Ok(())
    }

    /// The announced length must match. Otherwise the request was cut off, or is not a gRPC
    /// message.
    fn check(&self) -> Result<(), Status> {
        let mut prefix = self.first.iter().chain(self.more.iter());
        let flag = prefix.next();
        let length = prefix
            .by_ref()
            .take(PREFIX - 1)
            .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
        match flag {
            Some(0) if length + PREFIX == self.first.len() + self.more.len() => Ok(()),
            Some(1) => Err(Status::unimplemented("compressed requests are not read")),
            _ => Err(invalid("is not one whole gRPC message")),
        }
    }

    /// Ready when the body is complete, or never will be. If it never will be, the result is an
    /// error, and the body must not be passed on.
    pub(super) fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.poll_whole(cx)
            .map(|whole| whole.and_then(|()| self.check()))
    }

    /// The message of a complete body.
    pub(super) fn into_message(self) -> Bytes {
        let mut whole = self.first;
        if !self.more.is_empty() {
            whole = Bytes::from([&whole[..], &self.more].concat());
        }
        whole.split_off(PREFIX.min(whole.len()))
    }

    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        while !self.whole {
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.take_in(data)?;
                    }
                    self.whole = self.inner.is_end_stream();
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => self.whole = true,
                Poll::Pending => {
                    let timer = self
                        .timer
                        .get_or_insert_with(|| Box::pin(clock::sleep(ARRIVAL)));
                    return timer
                        .as_mut()
                        .poll(cx)
                        .map(|()| Err(ApiError::RequestTooSlow.into()));
                }
            }
        }
        self.timer = None;
        Poll::Ready(Ok(()))
    }
}

/// The message of a body that arrived at once, if it is one.
#[cfg(any(test, fuzzing))]
pub(crate) fn one_message(bytes: Bytes, most: usize) -> Option<Bytes> {
    let body = Body::new(http_body_util::Full::new(bytes));
    let mut whole = WholeBody::new(body, most);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match whole.poll_arrived(&mut cx) {
        Poll::Ready(arrived) => arrived.ok().map(|()| whole.into_message()),
        Poll::Pending => None,
    }
}

fn invalid(description: impl fmt::Display) -> Status {
    ApiError::from(Violation::new("request", description)).into()
}

impl HttpBody for WholeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        // Health checks come here before they are complete, so they wait here.
        if !this.whole
            && let Err(status) = std::task::ready!(this.poll_arrived(cx))
        {
            (this.whole, this.first, this.more) = (true, Bytes::new(), BytesMut::new());
            return Poll::Ready(Some(Err(status)));
        }
        let first = std::mem::take(&mut this.first);
        let next = if first.is_empty() {
            std::mem::take(&mut this.more).freeze()
        } else {
            first
        };
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.whole && self.first.is_empty() && self.more.is_empty()
    }
}
