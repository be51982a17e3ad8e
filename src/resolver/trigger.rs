//! Why look-ups are made.

use crate::domain::Lane;

/// Why a look-up is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The phone rings.
    IncomingCall,
    /// A person asked for it.
    ManualRefresh,
    /// The first match of recent calls.
    InitialMatch,
}

impl Trigger {
    /// The metrics' label.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::IncomingCall => "incoming_call",
            Self::ManualRefresh => "manual_refresh",
            Self::InitialMatch => "initial_match",
        }
    }

    pub(crate) fn lane(self) -> Lane {
        match self {
            Self::IncomingCall | Self::ManualRefresh => Lane::CallPop,
            Self::InitialMatch => Lane::Prefetch,
        }
    }
}
