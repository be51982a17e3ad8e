//! How it stands with a quota, in sums only: never a scope, a user or an account.

use crate::domain::lane::Lane;

/// How it stands with the quota of one connector in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Users or accounts whose calls are counted now, those included that have just ended.
    pub(crate) scopes: usize,
    /// How many of them make no call now, because the CRM asked for a rest.
    pub(crate) paused: usize,
    /// How many of them make no background call now; those that rest are among them.
    pub(crate) background_paused: usize,
    /// Calls that wait for their turn, in the order of [`Lane::ALL`].
    pub(crate) waiting: [usize; Lane::ALL.len()],
}
