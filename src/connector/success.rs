//! Which replies count as an answer.
//!
//! "Nobody has this number" is stored and trusted, so the CRM must say it clearly: with status 200,
//! in its documented form of success, with a list, and with a readable statement about further
//! pages. Everything else is a failure. Each connector states its CRM's form with the source.

use std::borrow::Cow;

use serde_json::Value;

use super::reply_class::ERRORS;
use crate::domain::LookupError;
use crate::domain::error::BadReply;

const SHAPE: LookupError = LookupError::CrmBadReply(BadReply::Shape);

/// The form of a successful reply with a list.
#[derive(Debug)]
pub(super) struct ListForm {
    /// Where the list is, as a JSON pointer.
    pub(super) list: Cow<'static, str>,
    /// Whether null means a list without entries.
    pub(super) null_is_empty: bool,
    /// The member that is `true` on success, if the CRM has one.
    pub(super) success: Option<Cow<'static, str>>,
}

impl ListForm {
    /// Takes the list out of a reply. Entries that are not objects stay in it and are left out one
    /// by one. A list with no objects at all is not the CRM's.
    ///
    /// # Errors
    /// [`BadReply::Shape`]. A failure that can be recognized in the reply never gets here
    /// (`reply_class.rs`).
    pub(crate) fn entries(&self, reply: &mut Value) -> Result<Vec<Value>, LookupError> {
        if self.is_failure(reply) {
            return Err(SHAPE);
        }
        match reply.pointer_mut(&self.list).map(Value::take) {
            Some(Value::Array(entries))
                if entries.is_empty() || entries.iter().any(Value::is_object) =>
            {
                Ok(entries)
            }
            Some(Value::Null) if self.null_is_empty => Ok(Vec::new()),
            _ => Err(SHAPE),
        }
    }

    fn is_failure(&self, reply: &Value) -> bool {
        let is_success = self
            .success
            .as_deref()
            .is_none_or(|name| reply.get(name) == Some(&Value::Bool(true)));
        !is_success
            || ERRORS
                .iter()
                .filter_map(|name| reply.get(name))
                .any(|error| !is_empty(error))
    }
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

/// The value at this JSON pointer (of names without `/` and `~`). `None` if a name on the way is
/// missing or null. An empty list counts as an object without members.
///
/// # Errors
/// [`BadReply::Shape`] if something other than an object is on the way.
pub(super) fn member<'a>(
    reply: &'a Value,
    pointer: &str,
) -> Result<Option<&'a Value>, LookupError> {
    let mut value = reply;
    for name in pointer.split('/').skip(1) {
        value = match value {
            Value::Object(members) => members.get(name).unwrap_or(&Value::Null),
            Value::Null => return Ok(None),
            Value::Array(items) if items.is_empty() => return Ok(None),
            _ => return Err(SHAPE),
        };
    }
    Ok(Some(value).filter(|value| !value.is_null()))
}

/// The text at this pointer: a cursor or a link to the next page. `None` if it is empty.
///
/// # Errors
/// [`BadReply::Shape`] if it is something else: then it is unknown whether there are more pages.
pub(super) fn next_text(reply: &Value, pointer: &str) -> Result<Option<String>, LookupError> {
    match member(reply, pointer)? {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(SHAPE),
    }
}

/// The number of the next page, at this pointer.
///
/// # Errors
/// As [`next_text`].
pub(super) fn next_number(reply: &Value, pointer: &str) -> Result<Option<String>, LookupError> {
    match member(reply, pointer)? {
        None => Ok(None),
        Some(number) if number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(SHAPE),
    }
}

/// The flag at this pointer; false if it is absent.
///
/// # Errors
/// As [`next_text`].
pub(super) fn is_true(reply: &Value, pointer: &str) -> Result<bool, LookupError> {
    match member(reply, pointer)? {
        None => Ok(false),
        Some(Value::Bool(yes)) => Ok(*yes),
        Some(_) => Err(SHAPE),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: ListForm = ListForm {
        list: Cow::Borrowed("/data"),
        null_is_empty: false,
        success: None,
    };
    const FLAGGED: ListForm = ListForm {
        list: Cow::Borrowed("/data/items"),
        null_is_empty: false,
        success: Some(Cow::Borrowed("success")),
    };

    #[test]
    fn an_empty_list_is_nobody_in_the_form_of_success_only() {
        for reply in [
            json!({"data": []}),
            json!({"data": [], "error": null}),
            json!({"data": [], "errors": [], "error": "", "errorCode": 0}),
        ] {
            assert_eq!(PLAIN.entries(&mut reply.clone()), Ok(vec![]), "{reply}");
        }
        for reply in [
            json!({"data": [], "error": "no"}),
            json!({"data": [], "error": {"type": "Forbidden"}}),
            json!({"data": [], "error": true}),
            json!({"data": [], "errors": ["no"]}),
            json!({"data": [], "errorCode": 1}),
            json!({"data": [], "errorCode": 200}),
            json!({"data": {}}),
            json!({"data": null}),
            json!({"data": "[]"}),
            json!({}),
            json!([]),
            json!(null),
            json!({"data": [null, 1, "text", [], [{}]]}),
        ] {
            assert_eq!(PLAIN.entries(&mut reply.clone()), Err(SHAPE), "{reply}");
        }
        let mixed = json!({"data": [null, {"id": 1}]});
        assert_eq!(
            PLAIN
                .entries(&mut mixed.clone())
                .map(|entries| entries.len()),
            Ok(2),
            "each record stands alone"
        );
        let nullable = ListForm {
            null_is_empty: true,
            ..PLAIN
        };
        assert_eq!(nullable.entries(&mut json!({"data": null})), Ok(vec![]));
        assert_eq!(nullable.entries(&mut json!({})), Err(SHAPE));
    }

    #[test]
    fn success_is_the_word_true() {
        let items = json!({"items": []});
        assert_eq!(
            FLAGGED.entries(&mut json!({"success": true, "data": items})),
            Ok(vec![])
        );
        for success in [json!(false), json!(null), json!("true"), json!(1)] {
            assert_eq!(
                FLAGGED.entries(&mut json!({"success": success, "data": items})),
                Err(SHAPE),
                "{success}"
            );
        }
        assert_eq!(FLAGGED.entries(&mut json!({"data": items})), Err(SHAPE));
    }

    #[test]
    fn a_next_page_is_named_absent_or_a_fault() {
        let next_at = "/meta/paging/next";
        for last in [
            json!({}),
            json!({"meta": null}),
            json!({"meta": {"paging": {"next": null}}}),
            json!({"meta": []}),
        ] {
            assert_eq!(next_text(&last, next_at), Ok(None), "{last}");
            assert_eq!(
                (next_number(&last, next_at), is_true(&last, next_at)),
                (Ok(None), Ok(false)),
                "{last}"
            );
        }
        for odd in [json!("x"), json!(1), json!([1]), json!(true)] {
            for reply in [json!({"meta": odd}), json!({"meta": {"paging": odd}})] {
                assert_eq!(member(&reply, next_at), Err(SHAPE), "{reply}");
            }
        }
        let next = |value| json!({"meta": {"paging": {"next": value}}});
        assert_eq!(
            next_text(&next(json!("a")), next_at),
            Ok(Some("a".to_owned()))
        );
        assert_eq!(next_text(&next(json!("")), next_at), Ok(None));
        assert_eq!(
            next_number(&next(json!(2)), next_at),
            Ok(Some("2".to_owned()))
        );
        assert_eq!(is_true(&next(json!(true)), next_at), Ok(true));
        for odd in [json!({}), json!([]), json!(1.5), json!(-1)] {
            let reply = next(odd);
            let read = [
                next_text(&reply, next_at).is_err(),
                next_number(&reply, next_at).is_err(),
            ];
            assert_eq!(
                (read, is_true(&reply, next_at).is_err()),
                ([true, true], true),
                "{reply}"
            );
        }
    }
}
