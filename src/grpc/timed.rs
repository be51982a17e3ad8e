//! A body that ends in time, and keeps something until then.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::gate::Timer;
use crate::clock;

/// The body of an answer, which ends with UNAVAILABLE if it takes too long.
pub(super) struct TimedBody<T> {
    inner: Body,
    timer: Timer,
    has_ended: bool,
    _kept: T,
}

impl<T> TimedBody<T> {
    /// `inner` for `longest`; `kept` is dropped with it.
    pub(super) fn new(inner: Body, longest: Duration, kept: T) -> Self {
        Self {
            inner,
            timer: Box::pin(clock::sleep(longest)),
            has_ended: false,
            _kept: kept,
        }
    }
}

impl<T: Unpin> HttpBody for TimedBody<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        if this.timer.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut this.inner).poll_frame(cx);
        }
        (this.has_ended, this.inner) = (true, Body::empty());
        Poll::Ready(Some(too_long()))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.inner.is_end_stream()
    }
}

fn too_long() -> Result<Frame<Bytes>, Status> {
    let status = Status::unavailable("this stream has lived as long as it may: begin another one");
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}
