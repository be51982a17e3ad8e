//! What one reply of a CRM reports about its limit.

use std::time::Duration;

/// What one reply of a CRM reports about its limit. The default reports nothing, as a plain success
/// does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RateHint {
    /// Whether the CRM refused the call because of its limit (429).
    pub(crate) refused: bool,
    /// `Retry-After`, as a time from now.
    pub(crate) retry_after: Option<Duration>,
    /// Calls left until the reset.
    pub(crate) remaining: Option<u32>,
    /// Calls between two resets.
    pub(crate) limit: Option<u32>,
    /// Time from now until the reset.
    pub(crate) reset_after: Option<Duration>,
}

impl RateHint {
    /// What still holds of the hint this long after the reply. Times that are over no longer count.
    /// A refusal still counts, unless its `Retry-After` is over.
    pub(super) fn after(&self, age: Duration) -> Self {
        let left = |time: Option<Duration>| {
            time.map(|time| time.saturating_sub(age))
                .filter(|time| !time.is_zero())
        };
        if age.is_zero() {
            return *self;
        }
        let is_over =
            self.refused && self.retry_after.is_some() && left(self.retry_after).is_none();
        Self {
            refused: self.refused && !is_over,
            retry_after: left(self.retry_after),
            reset_after: left(self.reset_after),
            ..*self
        }
    }
}
