//! How long processing a CRM's reply may keep a thread.
//!
//! A reply may contain tens of thousands of records, and a record a hundred phone fields. Code that
//! calls [`CpuShare::yield_if_used`] before each of them keeps its thread for less than a
//! millisecond at a time.

use std::time::Duration;

use crate::clock::Stopwatch;

/// How long processing continues before other tasks run.
const SHARE: Duration = Duration::from_micros(500);

/// The time since this task last let others run.
pub(super) struct CpuShare(Stopwatch);

impl CpuShare {
    pub(super) fn begin() -> Self {
        Self(Stopwatch::start())
    }

    /// Lets other tasks run if this one has used its share.
    pub(super) async fn yield_if_used(&mut self) {
        if self.0.elapsed() > SHARE {
            tokio::task::yield_now().await;
            *self = Self::begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use serde_json::Value;

    use super::*;
    use crate::connector::record::List;

    #[tokio::test]
    async fn records_are_read_for_less_than_a_millisecond_in_one_go() {
        const EACH: Duration = Duration::from_micros(20);
        let read_now = Cell::new(0_u32);
        let record = |item: &Value| {
            let stopwatch = Stopwatch::start();
            while stopwatch.elapsed() < EACH {}
            read_now.set(read_now.get() + 1);
            crate::connector::example::record(item)
        };
        let mut reading = pin!(
            List {
                items: vec![Value::Null; 500],
                ..List::default()
            }
            .read(record)
        );
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
