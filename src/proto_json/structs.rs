//! Reads a `google.protobuf.Struct`, whose names and values are the client's own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::reading::Reading;

/// More levels than any request may have, and few enough for protobuf, which counts each of them
/// three times and reads a hundred.
const LEVELS: usize = 24;

/// Reads the object whose beginning was read already.
pub(super) fn read_struct<'de, A: MapAccess<'de>>(
    reading: &Reading,
    level: usize,
    mut map: A,
) -> Result<Struct, A::Error> {
    if level > LEVELS {
        return Err(reading.fault("is nested too deeply"));
    }
    let mut fields = BTreeMap::new();
    while let Some(name) = map.next_key::<String>()? {
        let Entry::Vacant(vacant) = fields.entry(name) else {
            return Err(reading.fault("has a name twice"));
        };
        vacant.insert(map.next_value_seed(AnyValue { reading, level })?);
    }
    Ok(Struct { fields })
}

/// Any JSON value within this many levels.
#[derive(Clone, Copy)]
struct AnyValue<'a> {
    reading: &'a Reading,
    level: usize,
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

impl<'de> DeserializeSeed<'de> for AnyValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.reading.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(value(Kind::NullValue(0)))
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(value(Kind::BoolValue(on)))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of a Struct are doubles"
    )]
    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(value(Kind::NumberValue(number as f64)))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of a Struct are doubles"
    )]
    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(value(Kind::NumberValue(number as f64)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(value(Kind::NumberValue(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(value(Kind::StringValue(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(value(Kind::StringValue(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let level = self.level + 1;
        if level > LEVELS {
            return Err(self.reading.fault("is nested too deeply"));
        }
        let mut values = Vec::new();
        while let Some(item) = items.next_element_seed(Self { level, ..self })? {
            values.push(item);
        }
        Ok(value(Kind::ListValue(ListValue { values })))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let fields = read_struct(self.reading, self.level + 1, map)?;
        Ok(value(Kind::StructValue(fields)))
    }
}
