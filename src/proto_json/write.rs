//! Writes messages, including fields with default values.

use prost::Message;
use prost::Name;
use prost_reflect::{DynamicMessage, SerializeOptions};
use prost_types::Any;
use serde_json::Value;

use super::POOL;

/// A message cannot be written as JSON: a fault of this program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    /// The message is not among those in `proto/`.
    #[error("there is no descriptor of {0}")]
    NoDescriptor(String),
    /// The bytes are not a message of this type.
    #[error("the bytes are not a message of the type")]
    Decode(#[from] prost::DecodeError),
    /// It has a value that JSON cannot hold.
    #[error("the message has no JSON form")]
    Json(#[from] serde_json::Error),
}

/// The message as JSON.
pub(crate) fn to_json<M: Message + Name>(message: &M) -> Result<Value, NotWritten> {
    bytes_to_json(&M::full_name(), &message.encode_to_vec())
}

/// The message in an `Any` as JSON.
pub(crate) fn any_to_json(any: &Any) -> Result<Value, NotWritten> {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    bytes_to_json(name, &any.value)
}

/// The encoded message of this type as JSON.
pub(crate) fn bytes_to_json(name: &str, encoded: &[u8]) -> Result<Value, NotWritten> {
    let descriptor = POOL.get_message_by_name(name);
    let descriptor = descriptor.ok_or_else(|| NotWritten::NoDescriptor(name.to_owned()))?;
    let dynamic = DynamicMessage::decode(descriptor, encoded)?;
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut value = dynamic.serialize_with_options(serde_json::value::Serializer, &options)?;
    whole_numbers(&mut value);
    Ok(value)
}

/// A Struct contains doubles. An id that the CRM wrote as 7 should not become 7.0.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "checked: whole, and exact in a double"
            )]
            if let Some(float) = number
                .as_f64()
                .filter(|f| f.fract() == 0.0 && f.abs() <= 9_007_199_254_740_992.0)
            {
                *number = (float as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::json::to_struct;
    use crate::pb::v1::{ContactInfo, FindContactResponse, Lookup, ReturnMessage};

    #[test]
    fn the_json_of_a_response_is_app_connects_object() {
        let deals = json!({"deals": [{"const": 7, "title": "Renewal"}]});
        let contact = ContactInfo {
            id: "17".to_owned(),
            name: "John Doe".to_owned(),
            additional_info: deals.as_object().map(to_struct),
            ..Default::default()
        };
        let create = ContactInfo {
            id: "createNewContact".to_owned(),
            name: "Create new contact...".to_owned(),
            is_new_contact: true,
            ..Default::default()
        };
        let message = ReturnMessage {
            message: "Found 1 contact".to_owned(),
            message_type: "success".to_owned(),
            ttl: 3000,
            details: Vec::new(),
        };
        let response = FindContactResponse {
            matched_contact_info: vec![contact, create],
            return_message: Some(message),
            lookup: None,
        };
        let json = to_json(&response).unwrap();
        let contacts = json["matchedContactInfo"].as_array().unwrap();
        assert_eq!(contacts[0]["id"], "17");
        assert_eq!(contacts[0]["isNewContact"], false);
        assert_eq!(contacts[0]["additionalInfo"], deals);
        assert_eq!(contacts[1]["isNewContact"], true);
        assert_eq!(contacts[1]["additionalInfo"], Value::Null);
        assert_eq!(json["returnMessage"]["messageType"], "success");
        assert_eq!(json["returnMessage"]["ttl"], 3000);
    }
    #[test]
    fn the_parts_of_a_stored_reply_are_one_message() {
        let part = |lookup: Lookup| {
            let response = FindContactResponse {
                lookup: Some(lookup),
                ..Default::default()
            };
            response.encode_to_vec()
        };
        let stored = part(Lookup {
            phone_number: "+16505551234".to_owned(),
            ..Default::default()
        });
        let facts = part(Lookup {
            shared: true,
            ..Default::default()
        });
        let json = bytes_to_json("contactd.v1.FindContactResponse", &[stored, facts].concat());
        let lookup = &json.unwrap()["lookup"];
        assert_eq!(lookup["phoneNumber"], "+16505551234");
        assert_eq!(lookup["shared"], true);
    }
}
