//! The language as a JSON schema (draft-07), for editors: completion, and a mark under misspelt
//! keys.
//!
//! It is made of the lists of keys that the reader itself uses. Only the reader knows what a value
//! means, which names exist where, and which tables exclude each other.

use serde_json::{Value, json};

use super::keys::{self, Key};
use super::literal::Language;
use super::read::CLASSES;
use crate::connector::success::ListShape;

/// The schema of a connector file.
pub(crate) fn schema() -> Value {
    let mut schema = table(&[keys::FILE]);
    schema["required"] = json!(["format", "name", "crm", "search"]);
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A connector file of contactd",
    });
    let parts = [head, schema, json!({"definitions": definitions()})];
    let members = parts.iter().filter_map(Value::as_object).flatten();
    members
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The tables below the file's own.
fn definitions() -> Value {
    let definitions: &[(&str, &[&[Key]])] = &[
        ("about", &[keys::ABOUT]),
        ("crm", &[keys::CRM]),
        ("quota", &[keys::QUOTA]),
        ("quota_of_kind", &[keys::QUOTA_OF_KIND]),
        ("request", &[keys::REQUEST, keys::SEARCH, keys::DETAILS]),
        ("search", &[keys::REQUEST, keys::SEARCH]),
        ("details", &[keys::REQUEST, keys::DETAILS]),
        ("before", &[keys::REQUEST, keys::BEFORE]),
        ("whoami", &[keys::REQUEST, keys::WHOAMI]),
        ("record", &[keys::RECORD]),
        ("pages", &[keys::PAGES]),
        ("batch", &[keys::BATCH]),
        ("rate", &[keys::RATE]),
        ("errors", &[keys::ERRORS]),
        ("auth", &[keys::AUTH]),
    ];
    let tables = definitions.iter();
    tables
        .map(|(name, keys)| ((*name).to_owned(), table(keys)))
        .collect()
}

/// A table that has only these keys.
fn table(keys: &[&[Key]]) -> Value {
    let properties = keys.iter().copied().flatten().map(property);
    let properties: Value = properties.collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn property((name, meaning): &Key) -> (String, Value) {
    let mut property = form(name);
    property["description"] = (*meaning).into();
    ((*name).to_owned(), property)
}

/// The form of a key's value. A key means the same in every table.
fn form(key: &str) -> Value {
    match key {
        "format" => json!({"const": 1}),
        "stop" => one_of(&["never"]),
        "language" => one_of(&Language::ALL.map(|(name, _)| name)),
        "shape" => one_of(&ListShape::ALL.map(|(name, _)| name)),
        "means" => one_of(&CLASSES.map(|(name, _)| name)),
        "per_day" | "concurrent" | "burst" | "values" | "size" => count(),
        "first" | "rate_limit" => of_type("integer"),
        "only_if_empty" | "optional" | "exact" | "number" | "not_json" => of_type("boolean"),
        "spellings" | "built_from" | "scopes" | "unverified" | "gaps" | "hosts" => texts(),
        "searches" | "auth_header" | "phones" | "where_present" | "where_absent" => {
            any_of(&[of_type("string"), texts()])
        }
        "choices" => list_of(&of_type("object")),
        "query" | "headers" | "form" | "body" | "for" | "take" | "choice" | "drop" | "info"
        | "header" | "if_among" | "where" | "where_not" => of_type("object"),
        _ => form_of_table(key),
    }
}

/// The form of the value of a key that has a table. Any other key may have any value.
fn form_of_table(key: &str) -> Value {
    match key {
        "about" | "crm" | "request" | "auth" | "whoami" | "quota" | "record" => described(key),
        "other" => described("quota_of_kind"),
        "details" | "errors" | "before" => list_of(&reference(key)),
        "search" => any_of(&[list_of(&reference(key)), reference("quota_of_kind")]),
        // `rate`: a number of calls in a quota, a table of headers at the top. `batch`: a number of
        // values, or a table.
        "rate" | "batch" => any_of(&[count(), reference(key)]),
        "pages" => any_of(&[reference(key), json!({"const": false})]),
        _ => json!({}),
    }
}

fn of_type(name: &str) -> Value {
    json!({"type": name})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 1})
}

fn texts() -> Value {
    list_of(&of_type("string"))
}

fn list_of(form: &Value) -> Value {
    json!({"type": "array", "items": form})
}

fn one_of(words: &[&str]) -> Value {
    json!({"enum": words})
}

fn any_of(forms: &[Value]) -> Value {
    json!({"anyOf": forms})
}

fn reference(table: &str) -> Value {
    json!({"$ref": format!("#/definitions/{table}")})
}

/// A reference that may stand beside a description. By itself, in draft-07, a `$ref` would hide the
/// description.
fn described(table: &str) -> Value {
    json!({"allOf": [reference(table)]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_that_of_the_reader() {
        let published = include_str!("../../../deploy/connectors/connector.schema.json");
        let published: Value = serde_json::from_str(published).unwrap();
        assert!(
            published == schema(),
            "write it again: contactd connector schema > deploy/connectors/connector.schema.json"
        );
    }

    #[test]
    fn every_reference_of_the_schema_leads_to_a_table() {
        let schema = schema();
        let text = schema.to_string();
        for reference in text.split("#/definitions/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schema["definitions"][name].is_object(), "{name}");
        }
    }
}
