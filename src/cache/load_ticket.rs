//! What a look-up or a load keeps between its start and its end.

use super::invalidations::Watermark;
use super::layout::NumberAnswers;
use super::redis::NumberToken;
use crate::domain::{SharedTime, Timestamp};

/// What was read for one number, before it is known whose answer is needed.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(super) held: Option<NumberAnswers>,
    pub(super) mark: ReadMark,
}

impl Fetched {
    /// Returns whether Redis has nothing stored for the number, for any identity.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.as_ref().is_none_or(NumberAnswers::is_empty)
    }
}

/// When a read began, as counts of invalidations and replacements. If either has grown since, the
/// result may be too old to keep.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReadMark {
    pub(super) watermark: Watermark,
    pub(super) replacements: u64,
}

/// What a load keeps from start to end: when it began, and how to check that nothing was
/// invalidated meanwhile.
#[derive(Debug)]
pub struct LoadTicket {
    pub(super) watermark: Watermark,
    pub(super) asked: Timestamp,
    pub(super) shared: Option<RedisTicket>,
    /// What was stored when the load began.
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

    /// When the load began, in the shared time; zero without Redis.
    #[must_use]
    pub fn asked_at(&self) -> SharedTime {
        self.shared
            .as_ref()
            .map_or_else(SharedTime::default, |shared| shared.asked)
    }
}
