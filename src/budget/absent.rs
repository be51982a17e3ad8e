//! How many replicas count without Redis.

/// Replicas that share a quota and do not reach Redis.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AbsentReplicas {
    /// How many.
    pub(crate) count: u32,
    /// Of so many in all; zero if Redis has not said yet.
    pub(crate) of: u32,
}
