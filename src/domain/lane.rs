//! Lanes: which calls use a CRM's quota first.

/// Lanes, from the most to the least urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Somebody waits for the answer: a phone rings, or a person pressed refresh.
    CallPop,
    /// A stale answer is refreshed after it was served.
    Revalidate,
    /// A call log is prefetched.
    Prefetch,
}

impl Lane {
    /// All lanes, from the most to the least urgent.
    pub(crate) const ALL: [Self; 3] = [Self::CallPop, Self::Revalidate, Self::Prefetch];

    /// Returns whether nobody waits for the answer.
    #[must_use]
    pub(crate) fn is_background(self) -> bool {
        self != Self::CallPop
    }

    /// The metrics' label.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::CallPop => "call_pop",
            Self::Revalidate => "revalidate",
            Self::Prefetch => "prefetch",
        }
    }
}
