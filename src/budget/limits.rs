//! The most calls of a window, and of the totals over all kinds of calls; and the shares of
//! replicas that use them without communicating.

use std::num::NonZeroU32;

use super::absent::AbsentReplicas;

/// What a CRM allows whatever the calls are for. The quotas of all kinds of calls share these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TotalLimits {
    /// Calls on the wire at once.
    pub(super) at_once: Option<WindowLimits>,
    /// Calls in any 24 hours.
    pub(super) per_day: Option<WindowLimits>,
}

impl TotalLimits {
    /// Whether the CRM limits neither.
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// As [`WindowLimits::among`].
    pub(super) fn among(self, replicas: NonZeroU32) -> Self {
        self.map(|limits| limits.among(replicas))
    }

    /// As [`WindowLimits::leaving`].
    pub(super) fn leaving(self, absent: AbsentReplicas) -> Self {
        self.map(|limits| limits.leaving(absent))
    }

    fn map(self, change: impl Fn(WindowLimits) -> WindowLimits) -> Self {
        Self {
            at_once: self.at_once.map(&change),
            per_day: self.per_day.map(&change),
        }
    }
}

/// The most calls of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowLimits {
    /// Of all lanes.
    pub(crate) all: u32,
    /// Of the background lanes together.
    pub(crate) background: u32,
}

impl WindowLimits {
    /// One replica's share, if `replicas` use the limits without communicating. At least one call,
    /// so that replicas beyond the limit may make one call each.
    pub(super) fn among(self, replicas: NonZeroU32) -> Self {
        let part = |limit: u32| (limit / replicas).max(1);
        Self {
            all: part(self.all),
            background: part(self.background),
        }
    }

    /// The limits without the share of absent replicas. At least one call.
    pub(super) fn leaving(self, absent: AbsentReplicas) -> Self {
        let Some(of) = NonZeroU32::new(absent.of) else {
            return self;
        };
        let all = self
            .all
            .saturating_sub(self.among(of).all.saturating_mul(absent.count))
            .max(1);
        Self {
            all,
            background: self.background.min(all),
        }
    }

    /// The most calls of all lanes.
    pub(super) fn calls(self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.all)
    }

    /// The limit of a lane.
    pub(super) fn of(self, is_background: bool) -> u32 {
        if is_background {
            self.background
        } else {
            self.all
        }
    }
}
