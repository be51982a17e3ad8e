//! How much of a quota is in use, as sums only: never a scope, a user or an account.

use crate::domain::lane::Lane;

/// The use of one connector's quota in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Users or accounts that asked for a call in the last minute, as far as still known.
    pub(crate) scopes: usize,
    /// How many of them are paused and make no call now.
    pub(crate) paused: usize,
    /// How many of them make no background call now, including paused ones.
    pub(crate) background_paused: usize,
    /// Calls that wait for their turn, in the order of [`Lane::ALL`].
    pub(crate) waiting: [usize; Lane::ALL.len()],
}
