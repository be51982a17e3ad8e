//! Requests that are not whole yet.
//!
//! Owns their number. Promises that half requests hold nothing that whole ones need: there are so
//! many of them at most, and if there are more, the oldest is sent away. A request of a client that
//! means well is whole within milliseconds, so it is never the oldest for long.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The requests that arrive. Clones share them.
#[derive(Clone)]
pub(super) struct PendingRequests {
    most: usize,
    by_age: Arc<Mutex<ByAge>>,
}

#[derive(Default)]
struct ByAge {
    next: u64,
    /// The oldest first.
    requests: BTreeMap<u64, CancellationToken>,
}

/// One of them, until it is dropped.
pub(super) struct PendingRequest {
    number: u64,
    all: PendingRequests,
    sent_away: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl fmt::Debug for PendingRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRequests")
            .field("requests", &self.by_age.lock().requests.len())
            .finish_non_exhaustive()
    }
}

impl PendingRequests {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            by_age: Arc::default(),
        }
    }

    /// One more; the oldest is sent away if there are too many.
    pub(super) fn enter(&self) -> PendingRequest {
        let token = CancellationToken::new();
        let mut by_age = self.by_age.lock();
        let number = by_age.next;
        by_age.next += 1;
        by_age.requests.insert(number, token.clone());
        if by_age.requests.len() > self.most
            && let Some((_, oldest)) = by_age.requests.pop_first()
        {
            oldest.cancel();
        }
        PendingRequest {
            number,
            all: self.clone(),
            sent_away: Box::pin(token.cancelled_owned()),
        }
    }
}

impl PendingRequest {
    /// Ready once it is sent away.
    pub(super) fn poll_sent_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sent_away.as_mut().poll(cx)
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.all.by_age.lock().requests.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let pending = PendingRequests::new(2);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let [mut first, mut second] = [pending.enter(), pending.enter()];
        assert!(first.poll_sent_away(&mut cx).is_pending());
        let mut third = pending.enter();
        let away = [&mut first, &mut second, &mut third]
            .map(|request| request.poll_sent_away(&mut cx).is_ready());
        assert_eq!(away, [true, false, false]);
        drop((first, second));
        assert!(
            pending.enter().poll_sent_away(&mut cx).is_pending()
                && third.poll_sent_away(&mut cx).is_pending()
        );
    }
}
