//! Reads requests, field by field, along their descriptors.
//!
//! Reads what requests have: texts, switches, enums, messages, Structs, and lists of these. A test
//! compares that with the descriptors.

use std::fmt;

use prost::{Message, Name};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::POOL;
use super::reading::{JsonFault, Reading, Step, WHOLE};
use super::structs::read_struct;

/// The longest name of an unknown field that an error repeats.
const LONGEST_NAME: usize = 64;

/// The request in a JSON text.
///
/// # Errors
/// If the text is not JSON, or not this message.
pub(crate) fn from_json<M: Message + Name + Default>(text: &[u8]) -> Result<M, JsonFault> {
    let reading = Reading::default();
    let whole = |what: &str| JsonFault {
        field: WHOLE.to_owned(),
        what: what.to_owned(),
    };
    let Some(descriptor) = POOL.get_message_by_name(&M::full_name()) else {
        return Err(whole("has no descriptor"));
    };
    let seed = Shape::One(Kind::Message(descriptor)).of(&reading);
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = seed.deserialize(&mut json);
    let read = read.and_then(|read| json.end().map(|()| read));
    match read.map_err(|error| reading.explain(&error))? {
        Some(Value::Message(message)) => message
            .transcode_to()
            .map_err(|_| whole("is nested too deeply")),
        _ => Err(whole("must be an object")),
    }
}

/// What a value has to be.
#[derive(Debug, Clone)]
enum Shape {
    /// A field or the message itself; null leaves it unset.
    One(Kind),
    /// A list; null leaves it empty.
    List(Kind),
    /// An entry of a list.
    Item(Kind),
}

impl Shape {
    fn of_field(field: &FieldDescriptor) -> Self {
        if field.is_list() {
            Self::List(field.kind())
        } else {
            Self::One(field.kind())
        }
    }

    fn of(self, reading: &Reading) -> ValueSeed<'_> {
        ValueSeed {
            shape: self,
            reading,
        }
    }

    /// What it is for an error message.
    fn words(&self) -> String {
        match self {
            Self::List(_) => "a list".to_owned(),
            Self::One(kind) | Self::Item(kind) => match kind {
                Kind::Bool => "true or false".to_owned(),
                Kind::Enum(list) => format!("the name of a value of {}", list.full_name()),
                Kind::Message(_) => "an object".to_owned(),
                _ => "a string".to_owned(),
            },
        }
    }
}

/// Reads a value of this shape; `None` is null.
struct ValueSeed<'a> {
    shape: Shape,
    reading: &'a Reading,
}

impl ValueSeed<'_> {
    fn mismatch<E: Error>(&self) -> E {
        self.reading
            .fault(format_args!("must be {}", self.shape.words()))
    }

    fn kind(&self) -> Option<&Kind> {
        match &self.shape {
            Shape::One(kind) | Shape::Item(kind) => Some(kind),
            Shape::List(_) => None,
        }
    }

    /// The value of an enum by its number. Whether the number is known is decided later, as for
    /// other encodings.
    fn number<E: Error>(&self, number: Option<i32>) -> Result<Option<Value>, E> {
        match (self.kind(), number) {
            (Some(Kind::Enum(_)), Some(number)) => Ok(Some(Value::EnumNumber(number))),
            _ => Err(self.mismatch()),
        }
    }

    fn named<E: Error>(&self, list: &EnumDescriptor, name: &str) -> Result<Option<Value>, E> {
        let value = list.get_value_by_name(name);
        let value = value.ok_or_else(|| self.mismatch())?;
        Ok(Some(Value::EnumNumber(value.number())))
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.reading.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shape.words())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        match self.shape {
            Shape::One(_) | Shape::List(_) => Ok(None),
            Shape::Item(_) => Err(self.mismatch()),
        }
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
        match self.kind() {
            Some(Kind::Bool) => Ok(Some(Value::Bool(on))),
            _ => Err(self.mismatch()),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.number(i32::try_from(number).ok())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.number(i32::try_from(number).ok())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(self.mismatch())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match self.kind() {
            Some(Kind::String) => Ok(Some(Value::String(text.to_owned()))),
            Some(Kind::Enum(list)) => self.named(list, text),
            _ => Err(self.mismatch()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Shape::List(kind) = &self.shape else {
            return Err(self.mismatch());
        };
        let mut values = Vec::new();
        loop {
            let step = Step::Item(values.len());
            let seed = Shape::Item(kind.clone()).of(self.reading);
            let read = || items.next_element_seed(seed);
            match self.reading.within(step, read)? {
                Some(value) => values.extend(value),
                None => return Ok(Some(Value::List(values))),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let Some(Kind::Message(descriptor)) = self.kind() else {
            return Err(self.mismatch());
        };
        let message = if descriptor.full_name() == "google.protobuf.Struct" {
            let fields = read_struct(self.reading, 1, map)?;
            let mut message = DynamicMessage::new(descriptor.clone());
            let copied = message.transcode_from(&fields);
            copied.map_err(|_| self.reading.fault::<A::Error>("is nested too deeply"))?;
            message
        } else {
            read_message(self.reading, descriptor, map)?
        };
        Ok(Some(Value::Message(message)))
    }
}

/// Reads the object whose beginning was read already.
fn read_message<'de, A: MapAccess<'de>>(
    reading: &Reading,
    descriptor: &MessageDescriptor,
    mut map: A,
) -> Result<DynamicMessage, A::Error> {
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut seen = Vec::new();
    while let Some(name) = map.next_key::<String>()? {
        let Some(field) = field(descriptor, &name) else {
            return Err(unknown(reading, descriptor, name));
        };
        reading.within(Step::Field(field.name().to_owned()), || {
            if seen.contains(&field.number()) {
                return Err(reading.fault("is given twice"));
            }
            seen.push(field.number());
            let value = map.next_value_seed(Shape::of_field(&field).of(reading))?;
            let Some(value) = value else { return Ok(()) };
            if let Some(other) = alternative(&message, &field) {
                return Err(reading.fault(format_args!("contradicts {other}: give one of them")));
            }
            message.set_field(&field, value);
            Ok(())
        })?;
    }
    Ok(message)
}

/// The field with this name, in its JSON form or as in the proto.
fn field(descriptor: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    descriptor
        .get_field_by_json_name(name)
        .or_else(|| descriptor.get_field_by_name(name))
}

/// The name of the field of the same oneof that is set already.
fn alternative(message: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    let oneof = field.containing_oneof()?;
    let set = oneof.fields().find(|other| message.has_field(other))?;
    Some(set.name().to_owned())
}

/// The name is repeated only if it looks like the name of a field. Otherwise it might be a
/// telephone number.
fn unknown<E: Error>(reading: &Reading, descriptor: &MessageDescriptor, name: String) -> E {
    let is_field = name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
    let message = descriptor.full_name();
    if !is_field {
        return reading.fault(format_args!(
            "has a field that {message} does not have, with an unusual name"
        ));
    }
    reading.fault_below(name, format_args!("is not a field of {message}"))
}

#[cfg(test)]
mod tests;
