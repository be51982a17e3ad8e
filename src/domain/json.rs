//! JSON as `google.protobuf.Struct`, and the texts in fields of a CRM's reply.

use prost_types::{ListValue, Struct, Value as PbValue, value::Kind};
use serde_json::{Map, Number, Value};

/// A JSON object as a Struct. Numbers become doubles, as in proto3's own JSON mapping. Integers
/// that a double cannot hold become texts, because two ids must not become one.
#[must_use]
pub fn to_struct(object: &Map<String, Value>) -> Struct {
    Struct {
        fields: object
            .iter()
            .map(|(name, value)| (name.clone(), to_value(value)))
            .collect(),
    }
}

fn to_value(value: &Value) -> PbValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(on) => Kind::BoolValue(*on),
        Value::Number(number) => {
            double(number).map_or_else(|| Kind::StringValue(number.to_string()), Kind::NumberValue)
        }
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_value).collect(),
        }),
        Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    PbValue { kind: Some(kind) }
}

/// A value of a Struct as JSON. Whole numbers are integers.
#[must_use]
pub(crate) fn from_value(value: &PbValue) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(on)) => Value::Bool(*on),
        Some(Kind::NumberValue(number)) => from_double(*number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => list.values.iter().map(from_value).collect(),
        Some(Kind::StructValue(fields)) => {
            let member = |(name, value): (&String, &PbValue)| (name.clone(), from_value(value));
            fields.fields.iter().map(member).collect()
        }
    }
}

fn from_double(number: f64) -> Value {
    let Some(number) = Number::from_f64(number) else {
        return Value::Null;
    };
    let integer = whole(&number).and_then(|text| text.parse::<i64>().ok());
    integer.map_or(Value::Number(number), Value::from)
}

/// The number as a double, unless it is an integer that would change.
fn double(number: &Number) -> Option<f64> {
    let double = number.as_f64()?;
    match number.as_i128() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "no integer of JSON here is beyond 64 bits, and that fits"
        )]
        Some(integer) if double as i128 != integer => None,
        _ => Some(double),
    }
}

/// A field of a CRM's reply as text. Whole numbers are written without a decimal point. Anything
/// but text and numbers is empty: some CRMs write an empty field as `false`.
#[must_use]
pub(crate) fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => whole(number).unwrap_or_else(|| number.to_string()),
        _ => String::new(),
    }
}

/// `7.0` as `7`. `None` for other numbers, and for those beyond the exact integers of a double.
fn whole(number: &Number) -> Option<String> {
    const LAST_TOLD_APART: f64 = 9_007_199_254_740_991.0;
    let double = number
        .as_f64()
        .filter(|double| number.is_f64() && double.abs() <= LAST_TOLD_APART)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "compared with the whole number that it came from"
    )]
    let integer = double as i64;
    #[expect(
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "below 2^53 both are exact"
    )]
    (integer as f64 == double).then(|| integer.to_string())
}

/// The most texts of one list: nobody has so many numbers or addresses.
const MOST_TEXTS: usize = 100;

/// The texts of a field in which CRMs send a text, an object with it as `member`, or a list of
/// these. Leaves out empty ones, and all after the first hundred of a list.
#[must_use]
pub(crate) fn texts(value: Option<&Value>, member: &str) -> Vec<String> {
    let text = match value {
        Some(Value::Array(items)) => {
            return items
                .iter()
                .flat_map(|item| texts(Some(item), member))
                .take(MOST_TEXTS)
                .collect();
        }
        Some(Value::Object(object)) => text(object.get(member)),
        other => text(other),
    };
    if text.is_empty() {
        Vec::new()
    } else {
        vec![text]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(value: Value) -> Kind {
        let fields = to_struct(&Map::from_iter([("id".to_owned(), value)])).fields;
        fields["id"].kind.clone().unwrap()
    }

    #[test]
    fn a_number_is_a_double_unless_that_is_another_number() {
        for (number, double) in [
            (json!(7), 7.0),
            (json!(-7), -7.0),
            (json!(0.1), 0.1),
            (json!(1e300), 1e300),
            (json!(9_007_199_254_740_992_u64), 9_007_199_254_740_992.0),
            (json!(1_u64 << 63), 9_223_372_036_854_775_808.0),
            (json!(i64::MIN), -9_223_372_036_854_775_808.0),
        ] {
            assert_eq!(kind(number.clone()), Kind::NumberValue(double), "{number}");
        }
        for number in [
            json!(9_007_199_254_740_993_u64),
            json!(-9_007_199_254_740_993_i64),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(u64::MAX - 1),
        ] {
            assert_eq!(kind(number.clone()), Kind::StringValue(number.to_string()));
        }
    }

    #[test]
    fn a_text_is_a_text_or_a_number() {
        for (value, expected) in [
            (json!("Ada"), "Ada"),
            (json!(7), "7"),
            (json!(7.0), "7"),
            (json!(-7.0), "-7"),
            (json!(-0.0), "0"),
            (json!(7.5), "7.5"),
            (json!(9_007_199_254_740_993_u64), "9007199254740993"),
            (json!(9_007_199_254_740_992.0), "9007199254740992.0"),
            (json!(16_505_551_234.0), "16505551234"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(false), ""),
            (json!(true), ""),
            (json!(null), ""),
            (json!(["Ada"]), ""),
            (json!({"value": "Ada"}), ""),
        ] {
            assert_eq!(text(Some(&value)), expected, "{value}");
        }
        assert_eq!(text(None), "");
    }

    #[test]
    fn texts_come_alone_in_objects_and_in_lists() {
        for (value, expected) in [
            (json!("1"), vec!["1"]),
            (json!(16_505_551_234_u64), vec!["16505551234"]),
            (json!({"number": "1", "value": "2"}), vec!["1"]),
            (
                json!(["1", {"number": "2"}, [["3"], {"number": 4}]]),
                vec!["1", "2", "3", "4"],
            ),
            (
                json!([null, "", {}, [], {"number": null}, {"number": ["5"]}, {"number": {"number": "6"}}, true]),
                vec![],
            ),
            (json!(null), vec![]),
        ] {
            assert_eq!(texts(Some(&value), "number"), expected, "{value}");
        }
        assert!(texts(None, "number").is_empty());
    }
}
