//! Replies of any shape, for the property that every connector reads them without harm.

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::connector::path::Path;
use crate::connector::success::{ListForm, ListShape, is_true, next_number, next_text};
use crate::connector::{bounds, example};

/// Any JSON, objects with the field names of CRMs among them.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "id",
        "name",
        "title",
        "phones",
        "number",
        "value",
        "phone_numbers",
        "primary_phone_number",
        "organization",
        "company",
        "emails",
        "status",
        "other",
        "data",
        "error",
        "next",
    ]);
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let fields = prop::collection::vec((name.clone(), inner.clone()), 0..8);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            fields.prop_map(|fields| {
                Value::Object(
                    fields
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_shape_of_a_record_is_read(item in any_json()) {
        let mut record = example::record(&item);
        if bounds::record(&mut record) {
            prop_assert!(!record.contact.id.trim().is_empty());
        }
    }

    #[test]
    fn any_shape_of_a_reply_is_read_or_refused(mut reply in any_json()) {
        let at = Path::parse("data.next").unwrap();
        let _ = (next_text(&reply, &at), next_number(&reply, &at), is_true(&reply, &at));
        let form = ListForm { list: Path::parse("data").unwrap(), shape: ListShape::Nullable };
        if let Ok(entries) = form.entries(&mut reply) {
            prop_assert!(entries.items.is_empty() || entries.items.iter().any(Value::is_object));
        }
    }
}
