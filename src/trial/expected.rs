//! What `expect.toml` says of look-ups that were recorded.

use serde_json::{Value, json};

use super::run::LookUp;
use crate::connector::Found;
use crate::domain::LookupError;

/// What has to be the same in the recording.
pub(super) fn outline(found: &Result<Found, LookupError>) -> String {
    match found {
        Err(error) => error.reason().to_lowercase(),
        Ok(found) => {
            let qualities = found.contacts.iter().map(|contact| contact.quality.label());
            let qualities: Vec<&str> = qualities.collect();
            let complete = if found.complete {
                "complete"
            } else {
                "incomplete"
            };
            format!(
                "{} contacts ({}), {complete}",
                qualities.len(),
                qualities.join(", ")
            )
        }
    }
}

pub(super) fn look_up_of(number: &str, came: &LookUp) -> Value {
    let mut expected = json!({"number": number, "calls": came.calls});
    match &came.found {
        Err(error) => expected["error"] = error.reason().to_lowercase().into(),
        Ok(found) => {
            let contacts = found.contacts.iter().map(|contact| {
                json!({
                    "id": contact.id, "name": contact.name, "kind": contact.kind,
                    "quality": contact.quality.label(), "title": contact.title,
                    "company": contact.company, "email": contact.email,
                    "created": contact.created, "last_activity": contact.last_activity,
                    "info": contact.additional_info,
                })
            });
            expected["contacts"] = contacts.collect();
            if !found.complete {
                expected["complete"] = false.into();
            }
        }
    }
    expected
}

/// TOML has no null, and what is empty need not be written.
pub(super) fn without_nothing(value: Value) -> Value {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    match value {
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key, without_nothing(value)))
            .filter(|(_, value)| !is_nothing(value))
            .collect(),
        value => value,
    }
}
