//! What `expect.toml` says of look-ups that were recorded.

use serde_json::{Value, json};

use super::run::LookUp;
use crate::connector::Found;
use crate::domain::{Contact, LookupError};

/// What has to be the same in the recording.
pub(super) fn outline(found: &Result<Found, LookupError>) -> String {
    let found = match found {
        Err(error) => return error.reason().to_lowercase(),
        Ok(found) => found,
    };
    let (count, qualities) = (found.contacts.len(), qualities(found));
    let incomplete = if found.complete { "" } else { "in" };
    format!("{count} contacts ({qualities}), {incomplete}complete")
}

fn qualities(found: &Found) -> String {
    let contacts = found.contacts.iter();
    let qualities: Vec<&str> = contacts.map(|contact| contact.quality.label()).collect();
    qualities.join(", ")
}

pub(super) fn look_up_of(number: &str, came: &LookUp) -> Value {
    let mut expected = json!({"number": number, "calls": came.calls});
    match &came.found {
        Err(error) => expected["error"] = error.reason().to_lowercase().into(),
        Ok(found) => {
            expected["contacts"] = found.contacts.iter().map(contact_of).collect();
            if !found.complete {
                expected["complete"] = false.into();
            }
        }
    }
    expected
}

fn contact_of(contact: &Contact) -> Value {
    json!({
        "id": contact.id, "name": contact.name, "kind": contact.kind,
        "quality": contact.quality.label(), "title": contact.title,
        "company": contact.company, "email": contact.email,
        "created": contact.created, "last_activity": contact.last_activity,
        "info": contact.additional_info,
    })
}

/// TOML has no null, and what is empty need not be written.
pub(super) fn without_nothing(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            let members = members.map(|(key, value)| (key, without_nothing(value)));
            members.filter(|(_, value)| !is_nothing(value)).collect()
        }
        value => value,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
