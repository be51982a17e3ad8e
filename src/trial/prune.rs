//! Keeps of a reply only what a connector reads, and says of each kept value what it is.

use serde_json::{Map, Value};

use crate::connector::{ReachStep, Reached, Role};

/// A place, seen from a value on the way to it.
type Below<'r> = (&'r [ReachStep], Role);

/// The parts of a reply at these places. `replace` replaces each number and each text; true, false
/// and null stay as they are; everything else is left out. Lists keep their length, because paging
/// counts entries.
pub(super) fn pruned(
    reply: &Value,
    reached: &[Reached],
    replace: &mut impl FnMut(&Value, Role) -> Value,
) -> Value {
    let places: Vec<Below<'_>> = reached.iter().map(from_the_top).collect();
    part(reply, &places, replace)
}

fn from_the_top(place: &Reached) -> Below<'_> {
    (place.steps.as_slice(), place.role)
}

fn part(
    value: &Value,
    places: &[Below<'_>],
    replace: &mut impl FnMut(&Value, Role) -> Value,
) -> Value {
    match value {
        Value::Object(members) => object(members, places, replace),
        Value::Array(items) if is_table(places) => table(items, places, replace),
        Value::Array(items) => {
            let mut below = step_down(places, is_item);
            // At the place of a phone number there may be a list of them.
            below.extend(reached_here(places));
            let items = items.iter().map(|item| part(item, &below, replace));
            items.collect()
        }
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(_) | Value::String(_) => {
            let role = reached_here(places).map(|(_, role)| role).min();
            role.map(|role| replace(value, role)).into()
        }
    }
}

/// The members that are read.
fn object(
    members: &Map<String, Value>,
    places: &[Below<'_>],
    replace: &mut impl FnMut(&Value, Role) -> Value,
) -> Value {
    let mut kept = Map::new();
    for (name, value) in members {
        let below = step_down(places, |step| *step == ReachStep::Key(name.clone()));
        if !below.is_empty() {
            kept.insert(name.clone(), part(value, &below, replace));
        }
    }
    Value::Object(kept)
}

/// The places that are reached.
fn reached_here<'p, 'r>(places: &'p [Below<'r>]) -> impl Iterator<Item = Below<'r>> + use<'p, 'r> {
    let here = places.iter().filter(|(steps, _)| steps.is_empty());
    here.copied()
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
    places.iter().any(is_in_row)
}

fn is_in_row((steps, _): &Below<'_>) -> bool {
    matches!(steps, [ReachStep::Item, ReachStep::Column(_), ..])
}

/// Rows of cells. The first one names the columns.
fn table(
    rows: &[Value],
    places: &[Below<'_>],
    replace: &mut impl FnMut(&Value, Role) -> Value,
) -> Value {
    let columns = columns(rows, &step_down(places, is_item));
    let names = columns.iter().map(Column::shown);
    let mut kept: Vec<Value> = vec![names.collect()];
    for row in rows.iter().skip(1) {
        let cells = row.as_array().into_iter().flatten().enumerate();
        let cells = cells.map(|(n, cell)| match columns.get(n) {
            Some(column) if column.is_read() => part(cell, &column.below, replace),
            _ => "".into(),
        });
        kept.push(cells.collect());
    }
    Value::Array(kept)
}

/// A column of a table, and what of its cells is read.
struct Column<'t, 'r> {
    name: &'t str,
    below: Vec<Below<'r>>,
}

impl<'t, 'r> Column<'t, 'r> {
    fn of(name: &'t Value, cells: &[Below<'r>]) -> Self {
        let name = name.as_str().unwrap_or_default().trim();
        let is_this = |step: &ReachStep| *step == ReachStep::Column(name.to_owned());
        Self {
            name,
            below: step_down(cells, is_this),
        }
    }

    fn is_read(&self) -> bool {
        !self.below.is_empty()
    }

    fn shown(&self) -> &str {
        if self.is_read() { self.name } else { "" }
    }
}

fn columns<'t, 'r>(rows: &'t [Value], cells: &[Below<'r>]) -> Vec<Column<'t, 'r>> {
    let head = rows.first().and_then(Value::as_array);
    let names = head.into_iter().flatten();
    names.map(|name| Column::of(name, cells)).collect()
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
