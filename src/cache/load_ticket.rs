//! What a look-up or a load holds between its begin and its end.

use super::invalidations::Watermark;
use super::redis::{NumberAnswers, NumberToken};
use crate::domain::{SharedTime, Timestamp};

/// What was read of one number, before it is known whose answer is wanted.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(super) held: Option<NumberAnswers>,
    pub(super) mark: ReadMark,
}

impl Fetched {
    /// Whether Redis has something stored for the number, for whomever.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.as_ref().is_none_or(NumberAnswers::is_empty)
    }
}

/// When a read began, in the counts of invalidations and replacements: if either has grown since,
/// its result may be too old to keep.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReadMark {
    pub(super) watermark: Watermark,
    pub(super) replacements: u64,
}

/// What a load holds from its begin to its end: when that was, and proof that nothing was
/// invalidated in between.
#[derive(Debug)]
pub struct LoadTicket {
    pub(super) watermark: Watermark,
    pub(super) asked: Timestamp,
    pub(super) shared: Option<RedisTicket>,
    /// What was there when the load began.
    pub(super) before: Fetched,
}

#[derive(Debug)]
pub(super) struct RedisTicket {
    pub(super) number_token: NumberToken,
    pub(super) asked: SharedTime,
}

impl LoadTicket {
    /// When the load began, by the clock of this process.
    #[must_use]
    pub(crate) fn asked(&self) -> Timestamp {
        self.asked
    }

    /// When the load began, by Redis' clock; zero without Redis.
    #[must_use]
    pub fn asked_at(&self) -> SharedTime {
        self.shared
            .as_ref()
            .map_or_else(SharedTime::default, |shared| shared.asked)
    }
}
