//! Which paths of phone fields match something in recordings. A path that never matches is
//! misspelt, or its field was not recorded. If it is misspelt, records that have the number only in
//! this field are missed, and nobody notices.

use serde_json::Value;

use super::recorder::{CallEnding, Seen};
use super::run::{LookUp, Trial};
use super::subject::Subject;
use crate::connector::{ReachStep, Reached, Role};

/// Which phone fields records have.
#[derive(Default)]
pub(crate) struct PhonesSeen {
    /// The connector's name.
    pub(crate) connector: String,
    /// Whether there were records.
    pub(crate) has_records: bool,
    /// The paths of its phone fields, and whether a reply has a value there.
    pub(crate) paths: Vec<(String, bool)>,
}

impl PhonesSeen {
    /// The phone fields in these replies. Whether there were records is not known yet.
    pub(super) fn of(subject: &Subject, replies: &[Value]) -> Self {
        Self {
            connector: subject.name.clone(),
            has_records: false,
            paths: phone_paths(&subject.reached(), replies),
        }
    }
}

impl Trial {
    /// The phone fields in the replies to these look-ups.
    pub(crate) fn phones_seen<'l>(
        &self,
        look_ups: impl Iterator<Item = &'l LookUp> + Clone,
    ) -> PhonesSeen {
        let seen = look_ups.clone().flat_map(|look_up| &look_up.seen);
        let replies: Vec<Value> = seen.filter_map(reply_of).cloned().collect();
        PhonesSeen {
            has_records: look_ups.into_iter().any(LookUp::has_records),
            ..PhonesSeen::of(self.subject(), &replies)
        }
    }
}

fn reply_of(seen: &Seen) -> Option<&Value> {
    let Seen::Call(call) = seen else { return None };
    match &call.ending {
        CallEnding::Reply { body, .. } => body.as_ref(),
        CallEnding::Dry | CallEnding::Failed(_) => None,
    }
}

/// The paths of a connector's phone fields, from the root of a reply, and whether one of these
/// replies has a value there.
fn phone_paths(reached: &[Reached], replies: &[Value]) -> Vec<(String, bool)> {
    let phones = reached.iter().filter(|place| place.role == Role::Phone);
    let path = |place: &Reached| {
        let is_met = replies.iter().any(|reply| has_value(reply, &place.steps));
        (shown(&place.steps), is_met)
    };
    phones.map(path).collect()
}

/// Whether something stands there that may be a number.
fn has_value(value: &Value, steps: &[ReachStep]) -> bool {
    let Some((step, below)) = steps.split_first() else {
        return match value {
            Value::String(text) => !text.trim().is_empty(),
            Value::Array(items) => items.iter().any(|item| has_value(item, &[])),
            value => value.is_number(),
        };
    };
    match (step, value) {
        (ReachStep::Key(key), Value::Object(members)) => members
            .get(key)
            .is_some_and(|value| has_value(value, below)),
        (ReachStep::Key(key), Value::Array(items)) => {
            let item = key.parse().ok().and_then(|n: usize| items.get(n));
            item.is_some_and(|item| has_value(item, below))
        }
        (ReachStep::Item, Value::Array(rows)) => match below.split_first() {
            Some((ReachStep::Column(column), below)) => has_cell(rows, column, below),
            _ => rows.iter().any(|item| has_value(item, below)),
        },
        _ => false,
    }
}

/// Whether a row has a value in this column. The first row names the columns.
fn has_cell(rows: &[Value], column: &str, below: &[ReachStep]) -> bool {
    let Some((Value::Array(head), rows)) = rows.split_first() else {
        return false;
    };
    let is_it = |name: &Value| name.as_str().is_some_and(|name| name.trim() == column);
    let at = head.iter().position(is_it);
    let cell = |row: &Value| row.get(at?).map(|cell| has_value(cell, below));
    rows.iter().any(|row| cell(row) == Some(true))
}

fn shown(steps: &[ReachStep]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            ReachStep::Item => path += "[]",
            ReachStep::Key(key) | ReachStep::Column(key) => {
                if !path.is_empty() {
                    path += ".";
                }
                path += key;
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_is_met_where_a_record_has_a_number() {
        let replies = [
            json!({"data": [{"phone": ""}, {"phone": "1", "more": [{"number": null}, {"number": 2}]}]}),
            json!({"data": [["Name", "Phone"], ["Ada", ""], ["Eve", "3"]]}),
        ];
        let step = |step: &str| match step {
            "[]" => ReachStep::Item,
            column if column.starts_with('#') => ReachStep::Column(column[1..].to_owned()),
            key => ReachStep::Key(key.to_owned()),
        };
        for (steps, is_met) in [
            ("data.[].phone", true),
            ("data.[].fone", false),
            ("data.[].more.[].number", true),
            ("data.[].more.0.number", false),
            ("data.[].more.1.number", true),
            ("data.[].#Phone", true),
            ("data.[].#Mobile", false),
        ] {
            let steps: Vec<ReachStep> = steps.split('.').map(step).collect();
            let role = Role::Phone;
            let path = shown(&steps);
            let found = phone_paths(&[Reached { steps, role }], &replies);
            assert_eq!(found, [(path, is_met)]);
        }
    }
}
