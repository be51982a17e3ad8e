//! The body of a request, collected within its limits.
//!
//! As for gRPC, an incomplete request costs only its bytes and one of the places for incomplete
//! requests, which all fronts share. A request that arrives all at once takes no such place.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::poll_immediate;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use super::RequestBody;
use crate::api::{ARRIVAL, ApiError, Violation};
use crate::clients::FairPlace;
use crate::clock;

/// Bytes of too large a request that are still read, and dropped. A client that writes its whole
/// request before it reads would otherwise see a broken connection instead of the refusal.
const DROPPED: usize = 1 << 20;

/// How long the answer to a refused request waits for the rest of it.
const REST: Duration = Duration::from_millis(500);

/// The rests of at most this many refused requests are awaited at a time.
const RESTS: usize = 1_024;

/// Why a request is not complete.
#[derive(Debug)]
pub(super) enum Late {
    /// It is too large, too slow, or broken.
    Refused(ApiError),
    /// Newer incomplete requests needed its room.
    GaveWay,
}

/// The whole body, at most `most` bytes. `pend` takes a place for an incomplete request.
pub(super) async fn whole(
    body: RequestBody<'_>,
    most: usize,
    pend: impl FnOnce() -> FairPlace,
) -> Result<Bytes, Late> {
    let mut collected = pin!(collect(body, most));
    if let Some(collected) = poll_immediate(&mut collected).await {
        return collected.map_err(Late::Refused);
    }
    let mut place = pend();
    tokio::select! {
        biased;
        collected = &mut collected => collected.map_err(Late::Refused),
        () = poll_fn(|cx| place.poll_taken_back(cx)) => Err(Late::GaveWay),
        () = clock::sleep(ARRIVAL) => Err(Late::Refused(ApiError::RequestTooSlow)),
    }
}

async fn collect(body: RequestBody<'_>, most: usize) -> Result<Bytes, ApiError> {
    let (mut whole, mut dropped) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| invalid("did not arrive completely"))?;
        let data = frame.into_data().unwrap_or_default();
        if dropped > 0 || whole.len() + data.len() > most {
            whole = BytesMut::new();
            dropped += data.len();
        } else {
            whole.extend_from_slice(&data);
        }
        if dropped > DROPPED || body.is_end_stream() {
            break;
        }
    }
    if dropped > 0 {
        return Err(invalid(&format!("is larger than {most} bytes")));
    }
    Ok(whole.freeze())
}

/// Takes the rest of requests that are refused before they have arrived.
///
/// Over HTTP/2, the end of an answer to an incomplete request resets its stream. RFC 9113 (8.1)
/// allows that. But curl 7.88 reports a broken stream if it has not sent the request's body yet,
/// and does not show the answer.
pub(super) struct Rests(Semaphore);

impl Default for Rests {
    fn default() -> Self {
        Self(Semaphore::new(RESTS))
    }
}

impl Rests {
    /// Reads and drops the rest of a request, for a short time and up to a size. Does nothing if
    /// the request is complete, or if the rests of too many others are awaited.
    pub(super) async fn drop_rest(&self, body: RequestBody<'_>) {
        if body.is_end_stream() {
            return;
        }
        if let Ok(_place) = self.0.try_acquire() {
            let _ = clock::timeout(REST, collect(body, 0)).await;
        }
    }
}

fn invalid(description: &str) -> ApiError {
    Violation::new("request", description).into()
}
