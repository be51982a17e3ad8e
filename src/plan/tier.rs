//! What one tier holds: the least recently used is dropped first, and everything at its hard end.
//!
//! The memory tier of the daemon is moka with the same order and the same sizes; a test compares
//! the two. A replay has millions of answers and keeps none of their contacts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lru::LruCache;

use super::stored::Kept;

/// Answers up to a number of bytes.
#[derive(Debug)]
pub(super) struct Tier {
    answers: LruCache<u32, Held, foldhash::fast::RandomState>,
    /// The hard end of each answer that was stored. An answer may have been replaced since.
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    most: u64,
    bytes: u64,
    peak: TierPeak,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    kept: Kept,
    bytes: u32,
}

/// The most that a tier has held, and what it had no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TierPeak {
    pub(crate) bytes: u64,
    pub(crate) answers: u64,
    /// Answers that were dropped before their hard end.
    pub(crate) evicted: u64,
}

impl Tier {
    /// An empty tier of this many bytes.
    pub(super) fn new(most: u64) -> Self {
        Self {
            answers: LruCache::unbounded_with_hasher(foldhash::fast::RandomState::default()),
            ends: BinaryHeap::new(),
            most,
            bytes: 0,
            peak: TierPeak::default(),
        }
    }

    /// The answer to a question, which counts as used.
    pub(super) fn get(&mut self, question: u32, now: u64) -> Option<Kept> {
        self.drop_ended(now);
        self.answers.get(&question).map(|held| held.kept)
    }

    /// Stores an answer of this many bytes, unless a later one is there.
    pub(super) fn store(&mut self, question: u32, kept: Kept, bytes: u64, now: u64) {
        self.drop_ended(now);
        let known = self.answers.peek(&question);
        if known.is_some_and(|held| held.kept.asked > kept.asked) || bytes > self.most {
            return;
        }
        let held = Held {
            kept,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        if let Some(before) = self.answers.put(question, held) {
            self.bytes -= u64::from(before.bytes);
        }
        self.bytes += u64::from(held.bytes);
        self.ends.push(Reverse((kept.ends, question)));
        while self.bytes > self.most
            && let Some((_, dropped)) = self.answers.pop_lru()
        {
            self.bytes -= u64::from(dropped.bytes);
            self.peak.evicted += 1;
        }
        self.peak.bytes = self.peak.bytes.max(self.bytes);
        self.peak.answers = self.peak.answers.max(self.answers.len() as u64);
    }

    pub(super) fn peak(&self) -> TierPeak {
        self.peak
    }

    fn drop_ended(&mut self, now: u64) {
        while let Some(&Reverse((ends, question))) = self.ends.peek()
            && ends <= now
        {
            self.ends.pop();
            let is_this = |held: &Held| held.kept.ends == ends;
            if self.answers.peek(&question).is_some_and(is_this)
                && let Some(held) = self.answers.pop(&question)
            {
                self.bytes -= u64::from(held.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests;
