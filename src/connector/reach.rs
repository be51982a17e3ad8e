//! What a connector can reach in replies, and what stands there: a recording keeps nothing else.

/// A place in replies that a connector reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) steps: Vec<ReachStep>,
    pub(crate) role: Role,
}

/// A step to such a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReachStep {
    Key(String),
    /// Any element of a list.
    Item,
    /// The cell of a row, by the name of its column in the list's first row.
    Column(String),
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    Phone,
    Email,
    Id,
    Time,
    /// Names, titles, and whatever else people typed.
    Text,
    /// A word of the CRM: a kind, a status, the code of a failure.
    Word,
    /// A link or a cursor to the next page.
    Page,
}
