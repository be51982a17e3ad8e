//! Work on what a CRM sent, in turns with others.
//!
//! A reply may hold tens of thousands of records, and a record a hundred phone fields. Promises
//! that whoever asks before each of them keeps its thread for less than a millisecond in one go.

use std::time::Duration;

use serde_json::Value;

use super::{Hits, Record};
use crate::clock::Stopwatch;

/// How long work goes on before others have their turn.
const AT_A_TIME: Duration = Duration::from_micros(500);

/// Since when this work has had its turn.
pub(super) struct Turn(Stopwatch);

impl Turn {
    pub(super) fn begin() -> Self {
        Self(Stopwatch::start())
    }

    /// Lets others go first if this has gone on for long enough.
    pub(super) async fn share(&mut self) {
        if self.0.elapsed() > AT_A_TIME {
            tokio::task::yield_now().await;
            *self = Self::begin();
        }
    }
}

impl Hits {
    /// The records that a connector reads from the entries of a list.
    pub(super) async fn read(
        items: Vec<Value>,
        complete: bool,
        record: impl Fn(&Value) -> Record,
    ) -> Self {
        let (mut records, mut turn) = (Vec::with_capacity(items.len()), Turn::begin());
        // Each entry is dropped when it is read: to drop them all at once takes long as well.
        for item in items {
            turn.share().await;
            records.push(record(&item));
        }
        Self { records, complete }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn records_are_read_for_less_than_a_millisecond_in_one_go() {
        const EACH: Duration = Duration::from_micros(20);
        let read_now = Cell::new(0_u32);
        let record = |item: &Value| {
            let stopwatch = Stopwatch::start();
            while stopwatch.elapsed() < EACH {}
            read_now.set(read_now.get() + 1);
            super::super::example::record(item)
        };
        let mut reading = pin!(Hits::read(vec![Value::Null; 500], true, record));
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = 0;
        loop {
            let polled = reading.as_mut().poll(&mut cx);
            assert!(read_now.get() <= 26, "{} records in one go", read_now.get());
            read += read_now.take();
            if polled.is_ready() {
                break;
            }
        }
        assert_eq!(read, 500);
    }
}
