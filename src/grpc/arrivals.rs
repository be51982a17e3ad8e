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
pub(super) struct Arrivals {
    most: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The oldest first.
    under_way: BTreeMap<u64, CancellationToken>,
}

/// One of them, until it is dropped.
pub(super) struct Arrival {
    number: u64,
    arrivals: Arrivals,
    sent_away: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals")
            .field("under_way", &self.state.lock().under_way.len())
            .finish_non_exhaustive()
    }
}

impl Arrivals {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            state: Arc::default(),
        }
    }

    /// One more; the oldest is sent away if there are too many.
    pub(super) fn enter(&self) -> Arrival {
        let token = CancellationToken::new();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number, token.clone());
        if state.under_way.len() > self.most
            && let Some((_, oldest)) = state.under_way.pop_first()
        {
            oldest.cancel();
        }
        Arrival {
            number,
            arrivals: self.clone(),
            sent_away: Box::pin(token.cancelled_owned()),
        }
    }
}

impl Arrival {
    /// Ready once it is sent away.
    pub(super) fn poll_sent_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sent_away.as_mut().poll(cx)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.arrivals.state.lock().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let arrivals = Arrivals::new(2);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let [mut first, mut second] = [arrivals.enter(), arrivals.enter()];
        assert!(first.poll_sent_away(&mut cx).is_pending());
        let mut third = arrivals.enter();
        let away = [&mut first, &mut second, &mut third]
            .map(|arrival| arrival.poll_sent_away(&mut cx).is_ready());
        assert_eq!(away, [true, false, false]);
        drop((first, second));
        assert!(
            arrivals.enter().poll_sent_away(&mut cx).is_pending()
                && third.poll_sent_away(&mut cx).is_pending()
        );
    }
}
