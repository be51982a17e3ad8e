//! Keeps of a reply only what a connector reads, and says of each kept value what it is.

use serde_json::{Map, Value};

use crate::connector::{ReachStep, Reached, Role};

/// A place, seen from a value on the way to it.
type Below<'r> = (&'r [ReachStep], Role);

/// The parts of a reply at these places. Each scalar is replaced by `replace`; everything else is
/// left out. Lists keep their length, because paging counts entries.
pub(super) fn pruned(
    reply: &Value,
    reached: &[Reached],
    replace: &mut impl FnMut(&Value, Role) -> Value,
) -> Value {
    let places: Vec<Below<'_>> = reached
        .iter()
        .map(|place| (place.steps.as_slice(), place.role))
        .collect();
    part(reply, &places, replace)
}

fn part(
    value: &Value,
    places: &[Below<'_>],
    replace: &mut impl FnMut(&Value, Role) -> Value,
) -> Value {
    match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (name, value) in members {
                let below = step_down(places, |step| *step == ReachStep::Key(name.clone()));
                if !below.is_empty() {
                    kept.insert(name.clone(), part(value, &below, replace));
                }
            }
            Value::Object(kept)
        }
        Value::Array(items) if is_table(places) => table(items, places, replace),
        Value::Array(items) => {
            let below = step_down(places, is_item);
            // A list of phone numbers stands at the place of one.
            let here = places.iter().filter(|(steps, _)| steps.is_empty()).copied();
            let below: Vec<Below<'_>> = below.into_iter().chain(here).collect();
            let items = items.iter().map(|item| part(item, &below, replace));
            items.collect()
        }
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(_) | Value::String(_) => {
            let roles = places.iter().filter(|(steps, _)| steps.is_empty());
            match roles.map(|(_, role)| *role).min() {
                Some(role) => replace(value, role),
                None => Value::Null,
            }
        }
    }
}

fn step_down<'r>(places: &[Below<'r>], fits: impl Fn(&ReachStep) -> bool) -> Vec<Below<'r>> {
    let below = places.iter().filter_map(|(steps, role)| {
        let (first, rest) = steps.split_first()?;
        fits(first).then_some((rest, *role))
    });
    below.collect()
}

/// An element of a list. Some paths name it by its number.
fn is_item(step: &ReachStep) -> bool {
    match step {
        ReachStep::Item => true,
        ReachStep::Key(key) => key.bytes().all(|byte| byte.is_ascii_digit()),
        ReachStep::Column(_) => false,
    }
}

/// Whether the elements of a list are rows of cells.
fn is_table(places: &[Below<'_>]) -> bool {
    let is_row =
        |(steps, _): &Below<'_>| matches!(steps, [ReachStep::Item, ReachStep::Column(_), ..]);
    places.iter().any(is_row)
}

/// Rows of cells. The first one names the columns.
fn table(
    rows: &[Value],
    places: &[Below<'_>],
    replace: &mut impl FnMut(&Value, Role) -> Value,
) -> Value {
    let cells = step_down(places, is_item);
    let head = rows.first().and_then(Value::as_array);
    let columns: Vec<&str> = head
        .into_iter()
        .flatten()
        .map(|column| column.as_str().unwrap_or_default().trim())
        .collect();
    let is_read = |column: &str| {
        let below = step_down(&cells, |step| *step == ReachStep::Column(column.to_owned()));
        (!below.is_empty()).then_some(below)
    };
    let below: Vec<Option<Vec<Below<'_>>>> = columns.iter().map(|column| is_read(column)).collect();
    let names = columns.iter().zip(&below);
    let names = names.map(|(column, below)| below.as_ref().map_or("", |_| *column));
    let names: Value = names.collect();
    let mut kept = vec![names];
    for row in rows.iter().skip(1) {
        let row = row.as_array().map_or(&[][..], Vec::as_slice);
        let cells = row.iter().enumerate().map(|(n, cell)| {
            let below = below.get(n).and_then(Option::as_ref);
            below.map_or("".into(), |below| part(cell, below, replace))
        });
        kept.push(cells.collect());
    }
    Value::Array(kept)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(steps: &str, role: Role) -> Reached {
        let step = |step: &str| match step {
            "[]" => ReachStep::Item,
            column if column.starts_with('#') => ReachStep::Column(column[1..].to_owned()),
            key => ReachStep::Key(key.to_owned()),
        };
        let steps = steps.split('.').map(step).collect();
        Reached { steps, role }
    }

    #[test]
    fn only_what_is_read_stays_and_lists_keep_their_length() {
        let reached = [
            place("data.[].id", Role::Id),
            place("data.[].phones", Role::Phone),
            place("next", Role::Page),
        ];
        let reply = json!({
            "data": [
                {"id": 1, "note": "secret", "phones": ["1", {"x": 2}]},
                {"id": {"deep": "secret"}, "phones": "2"},
                "secret",
            ],
            "next": null,
            "total": 7,
        });
        let kept = pruned(&reply, &reached, &mut |value, role| {
            json!(format!("{role:?} {value}"))
        });
        assert_eq!(
            kept,
            json!({
                "data": [
                    {"id": "Id 1", "phones": ["Phone \"1\"", {}]},
                    {"id": {}, "phones": "Phone \"2\""},
                    null,
                ],
                "next": null,
            })
        );
    }

    #[test]
    fn of_a_table_only_the_columns_that_are_read_stay() {
        let reached = [
            place("values.[].#Phone", Role::Phone),
            place("values.[].#Name", Role::Text),
        ];
        let reply =
            json!({"values": [["Name", "Salary", "Phone"], ["Ada", "9", "1"], ["Eve", "8"]]});
        let kept = pruned(&reply, &reached, &mut |_, role| json!(format!("{role:?}")));
        let expected =
            json!({"values": [["Name", "", "Phone"], ["Text", "", "Phone"], ["Text", ""]]});
        assert_eq!(kept, expected);
    }
}
