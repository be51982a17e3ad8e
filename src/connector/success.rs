//! Which replies count as an answer.
//!
//! "Nobody has this number" is stored and trusted, so the CRM must say it clearly: with status 200,
//! in its documented form of success, with a list, and with a readable statement about further
//! pages. Everything else is a failure. Each connector states its CRM's form with the source.

use serde_json::Value;

use super::path::{NoNames, NotThere, Path};
use super::reply_class::ERRORS;
use crate::domain::LookupError;
use crate::domain::error::BadReply;
use crate::domain::json::text;

pub(super) const SHAPE: LookupError = LookupError::CrmBadReply(BadReply::Shape);

/// The form of a successful reply with a list.
#[derive(Debug, Clone)]
pub(super) struct ListForm {
    /// The path of the list. The part after `[]` selects a member of each entry.
    pub(super) list: Path,
    pub(super) shape: ListShape,
}

/// What stands at the place of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListShape {
    /// A list of objects.
    Objects,
    /// The same, or null if there are none.
    Nullable,
    /// One object, or null if there is none.
    One,
    /// Rows of cells. The first row names the columns.
    Table,
    /// A list of anything. Nothing, or an empty value, is an empty list, as App Connect reads it.
    Loose,
}

impl ListShape {
    /// Each shape with its name in a connector file.
    pub(super) const ALL: [(&'static str, Self); 4] = [
        ("objects", Self::Objects),
        ("nullable", Self::Nullable),
        ("one", Self::One),
        ("table", Self::Table),
    ];
}

/// The list of one reply.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) items: Vec<Value>,
    /// Entries of the CRM's list, before anything is left out.
    pub(super) count: usize,
}

impl ListForm {
    /// A list of objects at this path.
    pub(super) fn objects(keys: &[&str]) -> Self {
        Self {
            list: Path::of_keys(keys),
            shape: ListShape::Objects,
        }
    }

    /// Takes the list out of a reply. Entries that are not objects stay in the list, and the caller
    /// leaves them out. If objects are expected and no entry is one, the reply is refused.
    ///
    /// # Errors
    /// [`BadReply::NoList`] if there is none at the path, and else [`BadReply::Shape`]. A reply
    /// that reports a failure is one as well. Failures with a known code never get here
    /// (`reply_class.rs`).
    pub(crate) fn entries(&self, reply: &mut Value) -> Result<Entries, LookupError> {
        if is_failure(reply) {
            return Err(SHAPE);
        }
        let (list, below) = self.list.split_at_each();
        let found = list.take(reply);
        let is_list = found.as_ref().is_some_and(Value::is_array);
        let items = self.shape.items(found).map_err(|error| match self.shape {
            ListShape::One => error,
            _ if is_list => error,
            _ => self.no_list(),
        })?;
        let count = items.len();
        if count == 0 && says_failed(reply) {
            return Err(SHAPE);
        }
        let items = match below.filter(|below| !below.is_whole()) {
            Some(below) => within(&items, &below).ok_or_else(|| self.no_list())?,
            None => items,
        };
        Ok(Entries { items, count })
    }

    fn no_list(&self) -> LookupError {
        let place = if self.list.is_whole() {
            "the top level".to_owned()
        } else {
            self.list.to_string()
        };
        LookupError::CrmBadReply(BadReply::NoList(place.into()))
    }
}

/// The selected member of each entry, without nulls. `None` if no entry has that member, not even
/// an empty one: the entries then have an unexpected form.
fn within(items: &[Value], below: &Path) -> Option<Vec<Value>> {
    let of_item = |item| below.all(item, &NoNames).into_iter().cloned();
    let found: Vec<Value> = items.iter().flat_map(of_item).collect();
    let has_member = |item: &Value| {
        let key = below.split_first_key();
        key.is_none_or(|(key, _)| item.get(&key).is_some())
    };
    if found.is_empty() && !items.is_empty() && !items.iter().any(has_member) {
        return None;
    }
    Some(found)
}

impl ListShape {
    fn items(self, found: Option<Value>) -> Result<Vec<Value>, LookupError> {
        match (self, found) {
            (Self::Objects | Self::Nullable, Some(Value::Array(items)))
                if may_be_objects(&items) =>
            {
                Ok(items)
            }
            // A sheet without cells has no rows at all.
            (Self::Nullable | Self::One, Some(Value::Null))
            | (Self::One | Self::Table | Self::Loose, None) => Ok(Vec::new()),
            (Self::One, Some(item @ Value::Object(_))) => Ok(vec![item]),
            (Self::Table, Some(Value::Array(rows))) => table(rows),
            (Self::Loose, Some(Value::Array(items))) => Ok(items),
            (Self::Loose, Some(value)) if is_empty(&value) => Ok(Vec::new()),
            _ => Err(SHAPE),
        }
    }
}

fn may_be_objects(items: &[Value]) -> bool {
    items.is_empty() || items.iter().any(Value::is_object)
}

/// The longest name of a column that a path can have, in bytes.
const LONGEST_COLUMN: usize = 256;

/// The rows below the first one, each as an object of its cells. The first of them has all columns,
/// so that it shows which there are. Each other one has only as many members as it has cells:
/// otherwise a wide head would make many short rows take any amount of memory.
fn table(rows: Vec<Value>) -> Result<Vec<Value>, LookupError> {
    let mut rows = rows.into_iter();
    let Some(head) = rows.next() else {
        return Ok(Vec::new());
    };
    let columns = head.as_array().filter(|columns| !columns.is_empty());
    let columns = columns.ok_or(SHAPE)?.iter();
    let columns = columns.map(|column| text(Some(column)).trim().to_owned());
    let columns: Vec<String> = columns.collect();
    let mut rows: Vec<Value> = rows.map(|row| row_object(row, &columns)).collect();
    if let Some(Value::Object(first)) = rows.iter_mut().find(|row| row.is_object()) {
        for column in columns.into_iter().filter(|column| is_named(column)) {
            first.entry(column).or_insert(Value::Null);
        }
    }
    Ok(rows)
}

/// A row as an object. Cells at its end may be missing.
fn row_object(row: Value, columns: &[String]) -> Value {
    let Value::Array(cells) = row else {
        return Value::Null;
    };
    let members = columns.iter().zip(cells);
    let members = members.filter(|(column, _)| is_named(column));
    members
        .map(|(column, cell)| (column.clone(), cell))
        .collect()
}

fn is_named(column: &str) -> bool {
    column.len() <= LONGEST_COLUMN
}

/// Whether the reply has a member that only failures have.
pub(super) fn is_failure(reply: &Value) -> bool {
    ERRORS
        .iter()
        .filter_map(|name| reply.get(name))
        .any(|error| !is_empty(error))
}

/// Members that are false in a failure. All names here are in lower case, without `_`.
const FLAGS: [&str; 4] = ["success", "issuccess", "succeeded", "ok"];

/// Members that say how a call ended, in a word or as an HTTP status.
const STATES: [&str; 3] = ["status", "code", "statuscode"];

/// Members with the reason of a failure.
const REASONS: [&str; 6] = [
    "error",
    "errors",
    "errorcode",
    "errormessage",
    "errordescription",
    "fault",
];

/// Words for a failed call.
const FAILED: [&str; 5] = ["error", "fail", "failed", "failure", "unauthorized"];

/// Whether a reply that shows nobody says that the call failed: `"success": false`, `"status":
/// "error"`, `"code": 401`. In a record, these may be data.
pub(super) fn says_failed(reply: &Value) -> bool {
    let members = reply.as_object().into_iter().flatten();
    members.into_iter().any(|(name, value)| {
        let name = name.replace('_', "").to_ascii_lowercase();
        let is_one_of = |names: &[&str]| names.contains(&name.as_str());
        is_one_of(&FLAGS) && is_false(value)
            || is_one_of(&STATES) && is_failed(value)
            || is_one_of(&REASONS) && !is_empty(value)
    })
}

fn is_false(flag: &Value) -> bool {
    match flag {
        Value::String(word) => word == "0" || word.eq_ignore_ascii_case("false"),
        Value::Null => false,
        flag => is_empty(flag),
    }
}

fn is_failed(state: &Value) -> bool {
    if *state == Value::Bool(false) {
        return true;
    }
    let word = text(Some(state));
    let status: Option<u16> = word.parse().ok();
    status.is_some_and(|status| (400..600).contains(&status))
        || FAILED
            .iter()
            .any(|failed| word.eq_ignore_ascii_case(failed))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Bool(true) => false,
    }
}

/// The value at a path. An error if something on the way to it is missing.
fn there<'v>(reply: &'v Value, path: &Path) -> Result<Option<&'v Value>, LookupError> {
    path.strict(reply).map_err(|NotThere| SHAPE)
}

/// The text at this path: a cursor or a link to the next page. `None` if it is absent or empty.
///
/// # Errors
/// [`BadReply::Shape`] if it is something else: then it is unknown whether there are more pages.
pub(super) fn next_text(reply: &Value, path: &Path) -> Result<Option<String>, LookupError> {
    match there(reply, path)? {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(SHAPE),
    }
}

/// The number at this path, as text.
///
/// # Errors
/// As [`next_text`].
pub(super) fn next_number(reply: &Value, path: &Path) -> Result<Option<String>, LookupError> {
    match there(reply, path)? {
        None => Ok(None),
        Some(number) if number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(SHAPE),
    }
}

/// The flag at this path; false if it is absent.
///
/// # Errors
/// As [`next_text`].
pub(super) fn is_true(reply: &Value, path: &Path) -> Result<bool, LookupError> {
    match there(reply, path)? {
        None => Ok(false),
        Some(Value::Bool(yes)) => Ok(*yes),
        Some(_) => Err(SHAPE),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn items(form: &ListForm, reply: &Value) -> Result<Vec<Value>, LookupError> {
        let entries = form.entries(&mut reply.clone());
        entries.map(|entries| entries.items).map_err(|_| SHAPE)
    }

    fn form(list: &str, shape: ListShape) -> ListForm {
        let list = Path::parse(list).unwrap();
        ListForm { list, shape }
    }

    #[test]
    fn an_empty_list_is_nobody_in_the_form_of_success_only() {
        let plain = form("data", ListShape::Objects);
        for reply in [
            json!({"data": []}),
            json!({"data": [], "error": null}),
            json!({"data": [], "errors": [], "error": "", "errorCode": 0}),
            json!({"data": [], "success": true, "ok": null, "status": "ok", "code": 200}),
            json!({"data": [], "status": 0, "code": "0", "fault": null, "message": ""}),
        ] {
            assert_eq!(items(&plain, &reply), Ok(vec![]), "{reply}");
        }
        for reply in [
            json!({"data": [], "error": "no"}),
            json!({"data": [], "error": {"type": "Forbidden"}}),
            json!({"data": [], "error": true}),
            json!({"data": [], "errors": ["no"]}),
            json!({"data": [], "errorCode": 1}),
            json!({"data": [], "errorCode": 200}),
            json!({"data": [], "success": false}),
            json!({"data": [], "ok": false}),
            json!({"data": [], "status": "Error"}),
            json!({"data": [], "status": 403}),
            json!({"data": [], "code": 401}),
            json!({"data": [], "Success": false}),
            json!({"data": [], "success": "false"}),
            json!({"data": [], "ok": 0}),
            json!({"data": [], "status": false}),
            json!({"data": [], "status_code": "401"}),
            json!({"data": [], "errorMessage": "no"}),
            json!({"data": [], "fault": {"faultstring": "no"}}),
            json!({"data": [], "error_description": "expired"}),
            json!({"data": {}}),
            json!({"data": null}),
            json!({"data": "[]"}),
            json!({}),
            json!([]),
            json!(null),
            json!({"data": [null, 1, "text", [], [{}]]}),
        ] {
            assert_eq!(items(&plain, &reply), Err(SHAPE), "{reply}");
        }
        for reply in [
            json!({"data": [{"id": 1}], "code": 450}),
            json!({"data": [{"id": 1}], "status": "failed", "success": false}),
        ] {
            let found = items(&plain, &reply).map(|items| items.len());
            assert_eq!(found, Ok(1), "a record is there: {reply}");
        }
        let mixed = json!({"data": [null, {"id": 1}]});
        assert_eq!(
            items(&plain, &mixed).map(|items| items.len()),
            Ok(2),
            "each record stands alone"
        );
        let nullable = form("data", ListShape::Nullable);
        assert_eq!(items(&nullable, &json!({"data": null})), Ok(vec![]));
        assert_eq!(items(&nullable, &json!({})), Err(SHAPE));
    }

    #[test]
    fn a_failure_names_the_path_at_which_there_is_no_list() {
        for (list, shape, reply, words) in [
            (
                "data",
                ListShape::Objects,
                json!({"contacts": []}),
                "no list at data",
            ),
            (
                "a.data",
                ListShape::Nullable,
                json!({"a": {"data": "x"}}),
                "no list at a.data",
            ),
            (
                ".",
                ListShape::Objects,
                json!({"data": []}),
                "no list at the top level",
            ),
            (
                "rows",
                ListShape::Table,
                json!({"rows": {}}),
                "no list at rows",
            ),
            (
                "data[].item",
                ListShape::Objects,
                json!({"data": [{}]}),
                "no list at data[].item",
            ),
        ] {
            let error = form(list, shape).entries(&mut reply.clone()).unwrap_err();
            let expected = format!("the CRM's reply cannot be used: unexpected JSON: {words}");
            assert_eq!(error.to_string(), expected, "{reply}");
        }
        let of_others = json!({"data": [1]});
        let error = form("data", ListShape::Objects).entries(&mut of_others.clone());
        assert_eq!(
            error.unwrap_err(),
            SHAPE,
            "there is a list, but of other things"
        );
    }

    #[test]
    fn a_list_is_also_one_object_rows_of_cells_or_a_part_of_each_entry() {
        let one = form("contact", ListShape::One);
        let table = form("values", ListShape::Table);
        let below = form("data[].matter", ListShape::Objects);
        let whole = form(".", ListShape::Objects);
        for (form, reply, expected) in [
            (
                &one,
                json!({"contact": {"id": 1}}),
                Ok(vec![json!({"id": 1})]),
            ),
            (&one, json!({"contact": null}), Ok(vec![])),
            (&one, json!({}), Ok(vec![])),
            (&one, json!({"contact": "x"}), Err(SHAPE)),
            (
                &table,
                json!({"values": [["ID", " Phone "], ["7"], ["8", "555"], ["9"]]}),
                Ok(vec![
                    json!({"ID": "7", "Phone": null}),
                    json!({"ID": "8", "Phone": "555"}),
                    json!({"ID": "9"}),
                ]),
            ),
            (&table, json!({"range": "A1"}), Ok(vec![])),
            (&table, json!({"values": [{}]}), Err(SHAPE)),
            (
                &below,
                json!({"data": [{"matter": {"id": 1}}, {"matter": null}, {}]}),
                Ok(vec![json!({"id": 1})]),
            ),
            (&whole, json!([{"id": 1}]), Ok(vec![json!({"id": 1})])),
            (&whole, json!({"id": 1}), Err(SHAPE)),
        ] {
            assert_eq!(items(form, &reply), expected, "{reply}");
        }
        let mut reply = json!({"data": [{"matter": null}]});
        assert_eq!(
            below.entries(&mut reply).map(|entries| entries.count),
            Ok(1)
        );
    }

    /// Fifty kilobytes that would otherwise take a gigabyte.
    #[test]
    fn a_wide_head_does_not_widen_every_short_row() {
        let head: Vec<String> = (0..2_000).map(|n| format!("c{n}")).collect();
        let rows = std::iter::repeat_n(json!(["x"]), 5_000);
        let values: Vec<Value> = [json!(head)].into_iter().chain(rows).collect();
        let table = form("values", ListShape::Table);
        let items = items(&table, &json!({ "values": values })).unwrap();
        let members = |item: &Value| item.as_object().unwrap().len();
        assert_eq!((members(&items[0]), members(&items[1])), (2_000, 1));
        let long = json!({"values": [["ID", "c".repeat(2_000)], ["7", "x"]]});
        let items = super::tests::items(&table, &long).unwrap();
        assert_eq!(items, [json!({"ID": "7"})]);
    }

    #[test]
    fn a_next_page_is_named_absent_or_a_fault() {
        let next_at = Path::parse("meta.paging.next").unwrap();
        for last in [
            json!({}),
            json!({"meta": null}),
            json!({"meta": {"paging": {"next": null}}}),
            json!({"meta": []}),
            json!({"meta": {"paging": {"next": ""}}}),
        ] {
            assert_eq!(next_text(&last, &next_at), Ok(None), "{last}");
        }
        for odd in [json!("x"), json!(1), json!([1]), json!(true)] {
            for reply in [json!({"meta": odd}), json!({"meta": {"paging": odd}})] {
                assert_eq!(next_text(&reply, &next_at), Err(SHAPE), "{reply}");
                assert_eq!(is_true(&reply, &next_at), Err(SHAPE), "{reply}");
            }
        }
        let next = |value| json!({"meta": {"paging": {"next": value}}});
        let (text, number) = (next(json!("a")), next(json!(2)));
        assert_eq!(next_text(&text, &next_at), Ok(Some("a".to_owned())));
        assert_eq!(next_number(&number, &next_at), Ok(Some("2".to_owned())));
        assert_eq!(next_text(&number, &next_at), Err(SHAPE));
        assert_eq!(next_number(&text, &next_at), Err(SHAPE));
        assert_eq!(is_true(&next(json!(true)), &next_at), Ok(true));
        for odd in [json!({}), json!([]), json!(1.5), json!(-1)] {
            let reply = next(odd);
            assert_eq!(next_text(&reply, &next_at), Err(SHAPE), "{reply}");
            assert_eq!(is_true(&reply, &next_at), Err(SHAPE), "{reply}");
        }
    }
}
