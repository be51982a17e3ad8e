//! Rows of CSV with a bound: a quote without an end must not take the rest of the file.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ReaderBuilder, Terminator, Trim};

/// The most bytes of a row.
pub(super) const LONGEST_ROW: u64 = 1 << 20;

/// The rows of a text.
pub(super) fn table<R: Read>(input: R, delimiter: u8) -> csv::Reader<R> {
    ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        // Otherwise the second half of \r\n counts for the next row. A \r is trimmed.
        .terminator(Terminator::Any(b'\n'))
        .flexible(true)
        .trim(Trim::All)
        .from_reader(input)
}

/// A reader that fails if a row does not end.
pub(super) struct LimitedRows<R> {
    input: R,
    /// Bytes read since the last row ended.
    since: Rc<Cell<u64>>,
}

impl<R> LimitedRows<R> {
    /// Whoever ends a row sets `since` to zero.
    pub(super) fn new(input: R, since: Rc<Cell<u64>>) -> Self {
        Self { input, since }
    }
}

impl<R: Read> Read for LimitedRows<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.get() > LONGEST_ROW {
            return Err(io::Error::other(
                "it does not end within 1 MiB; is a closing quote missing?",
            ));
        }
        let read = self.input.read(buffer)?;
        self.since.set(self.since.get() + read as u64);
        Ok(read)
    }
}
