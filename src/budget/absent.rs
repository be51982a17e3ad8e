//! How many replicas cannot reach Redis, and count their own calls.

/// Replicas that share a quota and cannot reach Redis.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AbsentReplicas {
    pub(crate) count: u32,
    /// The number of all replicas; zero if Redis has not reported it yet.
    pub(crate) of: u32,
}
