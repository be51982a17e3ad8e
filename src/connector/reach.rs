//! What a connector can reach in replies, and what stands there: a recording keeps nothing else.

use super::reply_class::{CODES, ERRORS, PLACES};

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

/// Where the table for all CRMs looks for failures.
pub(super) fn failures() -> Vec<Reached> {
    let key = |name: &str| ReachStep::Key(name.to_owned());
    let place = |place: &&str| -> Vec<ReachStep> {
        let steps = place.split('/').filter(|step| !step.is_empty());
        steps
            .map(|step| {
                if step == "0" {
                    ReachStep::Item
                } else {
                    key(step)
                }
            })
            .collect()
    };
    let codes = PLACES.iter().map(place).flat_map(|place| {
        CODES.map(|code| place.iter().cloned().chain([key(code)]).collect::<Vec<_>>())
    });
    let errors = ERRORS.map(|error| vec![key(error)]);
    codes
        .chain(errors)
        .map(|steps| Reached {
            steps,
            role: Role::Word,
        })
        .collect()
}
