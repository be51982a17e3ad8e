//! The places at which replies describe failures. Recordings keep the code of a failure.

use super::reach::{ReachStep, Reached, Role};
use super::reply_class::{CODES, ERRORS, PLACES};

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
