//! proto3 JSON of a response, including fields with default values, as in App Connect's own object.

use prost::Message;
use prost::Name;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::pb;

/// The message as JSON.
pub(super) fn to_json<M: Message + Name>(message: &M) -> anyhow::Result<Value> {
    let pool = DescriptorPool::decode(pb::DESCRIPTORS)?;
    let descriptor = pool.get_message_by_name(&M::full_name());
    let descriptor =
        descriptor.ok_or_else(|| anyhow::anyhow!("no descriptor of {}", M::full_name()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
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
    use crate::pb::v1::{ContactInfo, FindContactResponse, ReturnMessage};

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
}
