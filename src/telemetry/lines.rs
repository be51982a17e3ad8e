//! Writes log lines to standard error.
//!
//! Holds the queue of lines and the thread that writes them. Nobody who logs ever waits for
//! standard error. At most one MiB of lines waits. Lines that do not fit or cannot be written are
//! dropped and counted. Once the log is read again, it reports how many are missing.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;

/// Bytes of waiting lines: some thousands of lines.
const ROOM: usize = 1 << 20;

/// The memory of a line besides its text.
const PLACE: usize = size_of::<Box<[u8]>>();

/// The queue of log lines for standard error. Clones share it.
#[derive(Debug, Clone)]
pub struct LogLines(Arc<LineBuffer>);

#[derive(Debug, Default)]
struct LineBuffer {
    queue: Mutex<LineQueue>,
    /// A line is waiting.
    arrived: Condvar,
    /// No line is waiting or being written.
    emptied: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct LineQueue {
    lines: VecDeque<Box<[u8]>>,
    /// Bytes of the waiting lines and the one being written.
    bytes: usize,
}

impl LogLines {
    /// Starts writing to standard error, as long as the process runs.
    #[must_use]
    pub fn start() -> Self {
        Self::leading_to(io::stderr())
    }

    fn leading_to(sink: impl Write + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let writer = lines.clone();
        // Without a thread, lines are dropped once there are too many. Other threads fail to start
        // then anyway, which ends the daemon.
        let _ = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_into(sink));
        lines
    }

    /// Queues a line with its line break, or drops it.
    pub(crate) fn put(&self, line: &[u8]) {
        let size = line.len() + PLACE;
        let line = Box::from(line);
        let mut queue = self.0.queue.lock();
        if queue.bytes + size > ROOM {
            drop(queue);
            self.0.dropped.inc();
            return;
        }
        queue.bytes += size;
        queue.lines.push_back(line);
        drop(queue);
        self.0.arrived.notify_one();
    }

    /// The number of dropped lines.
    #[must_use]
    pub(crate) fn dropped(&self) -> Counter {
        self.0.dropped.clone()
    }

    /// Waits until every line is written, for at most `limit`.
    pub fn finish(&self, limit: Duration) {
        let mut queue = self.0.queue.lock();
        self.0
            .emptied
            .wait_while_for(&mut queue, |queue| queue.bytes > 0, limit);
    }

    fn write_into(&self, mut sink: impl Write) {
        let mut reported = 0;
        loop {
            let line = self.next();
            if sink.write_all(&line).is_err() {
                self.0.dropped.inc();
            } else if self.0.dropped.get() > reported {
                let dropped = self.0.dropped.get();
                tracing::warn!(lines = dropped - reported, "log lines were dropped");
                reported = dropped;
            }
            self.settle(line.len() + PLACE);
        }
    }

    fn next(&self) -> Box<[u8]> {
        let mut queue = self.0.queue.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                return line;
            }
            self.0.arrived.wait(&mut queue);
        }
    }

    fn settle(&self, size: usize) {
        let mut queue = self.0.queue.lock();
        queue.bytes -= size;
        if queue.bytes == 0 {
            self.0.emptied.notify_all();
        }
    }
}

/// Each call takes one whole line.
impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A sink that takes a line whenever the test lets it.
    struct Reluctant {
        turns: Receiver<io::Result<()>>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Reluctant {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.turns.recv().map_err(io::Error::other)??;
            self.taken.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn reluctant() -> (LogLines, Sender<io::Result<()>>, Receiver<Vec<u8>>) {
        let ((turn, turns), (taken, written)) = (channel(), channel());
        (
            LogLines::leading_to(Reluctant { turns, taken }),
            turn,
            written,
        )
    }

    #[test]
    fn lines_are_written_in_their_order_and_waited_for() {
        let (lines, turn, written) = reluctant();
        for n in 0..100 {
            lines.put(format!("{n}\n").as_bytes());
            turn.send(Ok(())).unwrap();
        }
        lines.finish(Duration::from_secs(10));
        let texts: Vec<Vec<u8>> = written.try_iter().collect();
        assert_eq!(
            texts,
            (0..100)
                .map(|n| format!("{n}\n").into_bytes())
                .collect::<Vec<_>>()
        );
        assert_eq!(lines.dropped().get(), 0);
    }

    #[test]
    fn a_sink_that_hangs_costs_what_is_beyond_the_room_and_a_wait_within_its_limit() {
        let (lines, turn, written) = reluctant();
        let line = [b'x'; 1024];
        let fit = ROOM / (line.len() + PLACE);
        for _ in 0..fit + 3 {
            lines.put(&line);
        }
        assert_eq!(lines.dropped().get(), 3);
        lines.finish(Duration::from_millis(20));
        assert_eq!(written.try_iter().count(), 0);
        (0..fit).for_each(|_| turn.send(Ok(())).unwrap());
        lines.finish(Duration::from_secs(10));
        assert_eq!(written.try_iter().count(), fit);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_line_is_tried() {
        let (lines, turn, written) = reluctant();
        turn.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        turn.send(Ok(())).unwrap();
        lines.put(b"lost\n");
        lines.put(b"kept\n");
        lines.finish(Duration::from_secs(10));
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"kept\n"]);
        assert_eq!(lines.dropped().get(), 1);
    }

    #[test]
    fn a_line_larger_than_the_room_is_dropped() {
        let (lines, ..) = reluctant();
        lines.put(&vec![b'x'; ROOM]);
        assert_eq!(lines.dropped().get(), 1);
    }
}
