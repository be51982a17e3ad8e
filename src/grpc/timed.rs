//! A body that ends after a time limit, or when its place is taken back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::gate::Timer;
use super::hold::Hold;
use crate::clock;

/// The body of a health or reflection answer, with what it holds.
pub(super) struct TimedBody {
    inner: Body,
    timer: Timer,
    has_ended: bool,
    hold: Hold,
}

impl TimedBody {
    pub(super) fn new(inner: Body, hold: Hold) -> Self {
        Self {
            inner,
            timer: Box::pin(clock::sleep(hold.longest)),
            has_ended: false,
            hold,
        }
    }

    /// Ready with the reason when it must end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Poll::Ready(status) = self.hold.poll_taken_back(cx) {
            return Poll::Ready(status);
        }
        self.timer.as_mut().poll(cx).map(|()| {
            Status::unavailable("this stream has reached its time limit: open another one")
        })
    }
}

impl HttpBody for TimedBody {
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
        let Poll::Ready(status) = this.poll_end(cx) else {
            return Pin::new(&mut this.inner).poll_frame(cx);
        };
        (this.has_ended, this.inner) = (true, Body::empty());
        Poll::Ready(Some(trailers(&status)))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.inner.is_end_stream()
    }
}

fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}
