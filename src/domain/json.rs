//! JSON as `google.protobuf.Struct`.

use prost_types::{ListValue, Struct, Value as PbValue, value::Kind};
use serde_json::{Map, Value};

/// A JSON object as a Struct. Numbers become doubles, as in proto3's own JSON mapping.
#[must_use]
pub fn to_struct(object: &Map<String, Value>) -> Struct {
    Struct { fields: object.iter().map(|(name, value)| (name.clone(), to_value(value))).collect() }
}

fn to_value(value: &Value) -> PbValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(on) => Kind::BoolValue(*on),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(to_value).collect() }),
        Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    PbValue { kind: Some(kind) }
}

/// Moves a field out of a CRM's reply; null where the reply is no object or has no such field. (Indexing would panic on
/// a reply of another shape.)
#[must_use]
pub fn take(reply: &mut Value, field: &str) -> Value {
    reply.get_mut(field).map(Value::take).unwrap_or_default()
}

/// A scalar of a CRM's reply as text: CRMs disagree on whether an id is a number or a string. Null, objects and lists
/// are empty.
#[must_use]
pub fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(on)) => on.to_string(),
        _ => String::new(),
    }
}
