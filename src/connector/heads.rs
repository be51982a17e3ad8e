//! Limits what a CRM sends before its final reply.
//!
//! An HTTP library skips any number of interim responses (1xx). This module counts them as the
//! bytes arrive from the connection: over HTTP/1.1 by the lines of each head, over HTTP/2 by its
//! frames. At most [`BYTES`] bytes and [`INTERIM`] interim heads are read before the end of the
//! final head. The number of frames that carry nothing is limited as well. Of a head it interprets
//! only the first digit of the status.

use std::collections::BTreeMap;
use std::io;

use crate::clock;
use crate::frames::{Allowance, CONTINUATION, DATA, END_STREAM, Frame, Frames, HEADERS};

/// Bytes of the heads of one reply, the final one included.
const BYTES: usize = 64 << 10;

/// Interim heads of one reply.
const INTERIM: usize = 32;

/// Replies over HTTP/2 whose heads are counted at once. Beyond that, the oldest are no longer
/// counted.
const STREAMS: usize = 1_000;

/// The offset of the status in a status line: after `HTTP/1.1 `.
const STATUS: usize = 9;

/// The limit was exceeded.
#[derive(Debug, thiserror::Error)]
#[error("too much before the reply")]
pub(super) struct TooMuch;

impl From<TooMuch> for io::Error {
    fn from(error: TooMuch) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The heads of one connection.
#[derive(Debug)]
pub(super) enum Heads {
    Http1(Http1Heads),
    Http2 {
        frames: Frames,
        allowance: Allowance,
        open: BTreeMap<u32, HeadCount>,
    },
}

impl Heads {
    pub(super) fn new(is_http2: bool) -> Self {
        if is_http2 {
            let (frames, allowance) = (Frames::of_a_server(), Allowance::new(clock::now()));
            Self::Http2 {
                frames,
                allowance,
                open: BTreeMap::new(),
            }
        } else {
            Self::Http1(Http1Heads::default())
        }
    }

    /// A request is sent. Over HTTP/1.1 a new reply begins.
    pub(super) fn request(&mut self) {
        if let Self::Http1(lines) = self {
            *lines = Http1Heads::default();
        }
    }

    /// Processes bytes that were read.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        match self {
            Self::Http1(lines) => lines.read(bytes),
            Self::Http2 {
                frames,
                allowance,
                open,
            } => {
                let (now, mut read) = (clock::now(), Ok(()));
                frames.read(bytes, |frame| {
                    let taken = allowance
                        .take(frame, now)
                        .map_err(|_| TooMuch)
                        .and_then(|()| count(open, frame));
                    if taken.is_err() {
                        read = taken;
                    }
                });
                read
            }
        }
    }
}

/// What has arrived of one reply's heads.
#[derive(Debug, Default)]
pub(super) struct HeadCount {
    bytes: usize,
    heads: usize,
}

impl HeadCount {
    fn check(&self) -> Result<(), TooMuch> {
        if self.bytes > BYTES || self.heads > INTERIM {
            Err(TooMuch)
        } else {
            Ok(())
        }
    }
}

/// Counts a frame for its stream. Compressed fields say whether a head is final, and they are not
/// read. So only the next head shows that the previous one was not final.
fn count(open: &mut BTreeMap<u32, HeadCount>, frame: Frame) -> Result<(), TooMuch> {
    match frame.kind {
        HEADERS | CONTINUATION => {
            let counted = open.entry(frame.stream).or_default();
            counted.bytes += frame.length;
            let checked = counted.check();
            counted.heads += usize::from(frame.kind == HEADERS);
            if frame.flags & END_STREAM != 0 && frame.kind == HEADERS {
                open.remove(&frame.stream);
            }
            if open.len() > STREAMS {
                open.pop_first();
            }
            checked
        }
        DATA => {
            open.remove(&frame.stream);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The heads of one reply over HTTP/1.1.
#[derive(Debug, Default)]
pub(super) struct Http1Heads {
    counted: HeadCount,
    state: HeadState,
    /// Bytes of this head.
    head: usize,
    /// Bytes of this line, without the line ending.
    line: usize,
    is_interim: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum HeadState {
    /// Before a head. Empty lines are ignored here.
    #[default]
    Start,
    Head,
    Body,
}

impl Http1Heads {
    fn read(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        for byte in bytes {
            if self.state == HeadState::Body {
                break;
            }
            self.counted.bytes += 1;
            self.take(*byte);
            self.counted.check()?;
        }
        Ok(())
    }

    fn take(&mut self, byte: u8) {
        match (&self.state, byte) {
            (HeadState::Start, b'\r' | b'\n') | (_, b'\r') | (HeadState::Body, _) => {}
            (HeadState::Start, _) => (self.state, self.head, self.line) = (HeadState::Head, 1, 1),
            (HeadState::Head, b'\n') if self.line == 0 => self.end(),
            (HeadState::Head, b'\n') => self.line = 0,
            (HeadState::Head, _) => {
                if self.head == STATUS {
                    self.is_interim = byte == b'1';
                }
                self.head += 1;
                self.line += 1;
            }
        }
    }

    fn end(&mut self) {
        self.counted.heads += usize::from(self.is_interim);
        self.state = if self.is_interim {
            HeadState::Start
        } else {
            HeadState::Body
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    const REPLY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";

    fn reads(text: &str) -> bool {
        let mut at_once = Heads::new(false);
        let mut in_bytes = Heads::new(false);
        let whole = at_once.read(text.as_bytes()).is_ok();
        assert_eq!(
            text.as_bytes()
                .iter()
                .all(|byte| in_bytes.read(&[*byte]).is_ok()),
            whole
        );
        whole
    }

    #[test]
    fn interim_heads_and_bytes_before_a_reply_are_limited_over_http_1() {
        let head = |bytes: usize| format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "x".repeat(bytes));
        for (text, good) in [
            (format!("{REPLY}{}", "1".repeat(1 << 20)), true),
            (
                format!("{}{REPLY}{}", HINT.repeat(32), HINT.repeat(1_000)),
                true,
            ),
            (HINT.repeat(33), false),
            (HINT.replace('\r', "").repeat(33), false),
            (format!("\r\n\n{HINT}").repeat(33), false),
            ("\n".repeat(70_000), false),
            (head(65_000), true),
            (head(66_000), false),
            (
                format!(
                    "{}{}",
                    HINT,
                    "HTTP/1.1 103 Early Hints\r\nx: 1".repeat(3_000)
                ),
                false,
            ),
        ] {
            assert_eq!(
                reads(&text),
                good,
                "{}",
                text.chars().take(60).collect::<String>()
            );
        }
        let mut heads = Heads::new(false);
        for _ in 0..100 {
            heads.request();
            assert!(
                heads.read(format!("{HINT}{REPLY}{{}}").as_bytes()).is_ok(),
                "each request has its own"
            );
        }
    }

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let length_bytes = u32::try_from(length).unwrap().to_be_bytes();
        let head = [&length_bytes[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [head, vec![0; length]].concat()
    }

    #[test]
    fn the_same_over_http_2_for_each_stream() {
        let read = |frames: &[Vec<u8>]| Heads::new(true).read(&frames.concat()).is_ok();
        let head = |stream| frame(HEADERS, 4, stream, 20);
        assert!(read(&vec![head(1); 33]), "the last one may be the reply's");
        assert!(!read(&vec![head(1); 34]));
        assert!(
            read(&(0..5_000).map(|n| head(2 * n + 1)).collect::<Vec<_>>()),
            "one each"
        );
        assert!(!read(&vec![frame(CONTINUATION, 0, 1, 16_000); 5]));
        assert!(
            !read(&vec![frame(4, 0, 0, 6); 10_000]),
            "settings without end"
        );
        let reply = [head(1), frame(DATA, 0, 1, 16_000), frame(HEADERS, 5, 1, 20)].concat();
        assert!(read(&vec![reply; 100]));
    }
}
