//! HTTP/2 frames, observed while they are read.
//!
//! Iterates over frame heads (RFC 9113, 4.1), and limits frames that carry nothing: window updates,
//! priorities, pings, settings, empty data. HTTP/2 does not limit them and libraries process all of
//! them, so a peer that sends nothing else keeps a core busy. Knows nothing of connections.

use std::time::Duration;

use crate::clock::Instant;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Length of the payload.
    pub(crate) length: usize,
    /// Its type.
    pub(crate) kind: u8,
    /// Its flags.
    pub(crate) flags: u8,
    /// Its stream.
    pub(crate) stream: u32,
}

/// Types of frames (RFC 9113, 6).
pub(crate) const DATA: u8 = 0;
/// Header fields of a message.
pub(crate) const HEADERS: u8 = 1;
/// More of them.
pub(crate) const CONTINUATION: u8 = 9;

/// The sender's last frame of the stream.
pub(crate) const END_STREAM: u8 = 1;

const HEAD: usize = 9;

/// The length of what a client sends before its first frame.
const PREFACE: usize = 24;

/// Frames without content that may arrive at once.
const BURST: u32 = 10_000;

/// How many more each second allows.
const PER_SECOND: u32 = 1_000;

/// How many more each frame with content allows.
const WITH_EACH: u32 = 4;

impl Frame {
    /// Returns whether it carries content: a part of a message.
    #[must_use]
    pub(crate) fn is_of_use(&self) -> bool {
        match self.kind {
            DATA => self.length > 0 || self.flags & END_STREAM != 0,
            kind => kind == HEADERS || (kind == CONTINUATION && self.length > 0),
        }
    }
}

/// Iterates over the frames of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head read so far.
    known: usize,
    /// Bytes to skip before the next head.
    skip: usize,
}

impl Frames {
    /// The frames that a client sends.
    #[must_use]
    pub(crate) fn of_a_client() -> Self {
        Self {
            skip: PREFACE,
            ..Self::of_a_server()
        }
    }

    /// The frames that a server sends.
    #[must_use]
    pub(crate) fn of_a_server() -> Self {
        Self {
            head: [0; HEAD],
            known: 0,
            skip: 0,
        }
    }

    /// Remaining bytes of the last frame.
    #[must_use]
    pub(crate) fn rest(&self) -> usize {
        self.skip
    }

    /// The heads that are complete with these bytes.
    pub(crate) fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            let [byte, rest @ ..] = bytes else { return };
            bytes = rest;
            self.head[self.known] = *byte;
            self.known += 1;
            if self.known == HEAD {
                self.known = 0;
                let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
                let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
                let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
                self.skip = length;
                each(Frame {
                    length,
                    kind,
                    flags,
                    stream,
                });
            }
        }
    }
}

/// How many frames without content may still arrive.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    at: Instant,
}

impl Allowance {
    /// The full allowance.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            at: now,
        }
    }

    /// Counts a frame.
    ///
    /// # Errors
    /// There are too many: nothing more should be read until the returned moment.
    pub(crate) fn take(&mut self, frame: Frame, now: Instant) -> Result<(), Instant> {
        self.refill(now);
        if frame.is_of_use() {
            self.left = BURST.min(self.left + WITH_EACH);
            return Ok(());
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            Err(now + Duration::from_millis(100))
        } else {
            Ok(())
        }
    }

    fn refill(&mut self, now: Instant) {
        let millis = now.saturating_duration_since(self.at).as_millis();
        let more = u32::try_from(millis * u128::from(PER_SECOND) / 1000).unwrap_or(u32::MAX);
        if more > 0 {
            (self.left, self.at) = (BURST.min(self.left.saturating_add(more)), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn bytes(frame: Frame) -> Vec<u8> {
        let Frame {
            length,
            kind,
            flags,
            stream,
        } = frame;
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend((stream | 1 << 31).to_be_bytes());
        bytes.extend(vec![0xff; length]);
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_seen_however_they_are_cut(
            frames in prop::collection::vec((0usize..50, any::<u8>(), any::<u8>(), 0u32..1 << 31), 0..20),
            cuts in prop::collection::vec(1usize..30, 1..100),
        ) {
            let sent: Vec<Frame> =
                frames.iter().map(|&(length, kind, flags, stream)| Frame { length, kind, flags, stream }).collect();
            let all: Vec<u8> = vec![b'P'; PREFACE].into_iter().chain(sent.iter().copied().flat_map(bytes)).collect();
            let (mut walk, mut seen, mut left) = (Frames::of_a_client(), Vec::new(), all.as_slice());
            for cut in cuts.iter().cycle().take(all.len()) {
                let (now, later) = left.split_at((*cut).min(left.len()));
                walk.read(now, |frame| seen.push(frame));
                left = later;
            }
            prop_assert_eq!(seen, sent);
        }
    }

    #[test]
    fn frames_that_bring_nothing_are_held_back_and_others_are_not() {
        let frame = |kind, length| Frame {
            length,
            kind,
            flags: 0,
            stream: 1,
        };
        let (window_update, data, now) = (frame(8, 4), frame(DATA, 5), clock::now());
        let mut allowance = Allowance::new(now);
        let taken = (0..20_000)
            .take_while(|_| allowance.take(window_update, now).is_ok())
            .count();
        assert_eq!(taken, 9_999);
        let until = allowance.take(window_update, now).unwrap_err();
        assert_eq!(
            (0..1_000)
                .take_while(|_| allowance.take(window_update, until).is_ok())
                .count(),
            99
        );
        for _ in 0..20_000 {
            assert!(allowance.take(data, until).is_ok());
        }
        assert_eq!(
            (0..20_000)
                .take_while(|_| allowance.take(frame(DATA, 0), until).is_ok())
                .count(),
            9_999
        );
    }
}
