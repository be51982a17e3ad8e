//! The language as a JSON schema (draft-07), for editors: completion, and a mark under misspelt keys.
//!
//! It is made of the lists of keys that the reader itself uses. What a value means, which names exist
//! where, and which tables exclude each other only the reader knows.

use serde_json::{Map, Value, json};

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
    let request = || [keys::REQUEST, keys::BEFORE];
    let definitions = json!({
        "about": table(&[keys::ABOUT]),
        "crm": table(&[keys::CRM]),
        "quota": table(&[keys::QUOTA]),
        "quota_of_kind": table(&[keys::QUOTA_OF_KIND]),
        "request": table(&[keys::REQUEST, keys::SEARCH, keys::DETAILS]),
        "search": table(&[keys::REQUEST, keys::SEARCH]),
        "details": table(&[keys::REQUEST, keys::DETAILS]),
        "before": table(&request()),
        "whoami": table(&[keys::REQUEST, keys::WHOAMI]),
        "record": table(&[keys::RECORD]),
        "pages": table(&[keys::PAGES]),
        "batch": table(&[keys::BATCH]),
        "rate": table(&[keys::RATE]),
        "errors": table(&[keys::ERRORS]),
        "auth": table(&[keys::AUTH]),
    });
    let mut whole = Map::new();
    for part in [head, schema, json!({"definitions": definitions})] {
        if let Value::Object(part) = part {
            whole.extend(part);
        }
    }
    Value::Object(whole)
}

/// A table that has only these keys.
fn table(keys: &[&[Key]]) -> Value {
    let mut properties = Map::new();
    for (name, meaning) in keys.iter().flat_map(|keys| keys.iter()) {
        let mut property = form(name);
        property["description"] = (*meaning).into();
        properties.insert((*name).to_owned(), property);
    }
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// The form of a key's value. A key means the same in every table.
fn form(key: &str) -> Value {
    let one = |table: &str| json!({"$ref": format!("#/definitions/{table}")});
    // In draft-07 a reference hides what stands beside it.
    let of = |table: &str| json!({"allOf": [one(table)]});
    let words = |words: &[&str]| json!({"enum": words});
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let text_or_texts = json!({"anyOf": [text, texts]});
    match key {
        "format" => json!({"const": 1}),
        "stop" => words(&["never"]),
        "per_day" | "concurrent" | "burst" | "values" | "size" => {
            json!({"type": "integer", "minimum": 1})
        }
        "first" | "rate_limit" => json!({"type": "integer"}),
        "spellings" | "built_from" | "scopes" | "unverified" | "gaps" | "hosts" => texts,
        "searches" | "auth_header" | "phones" | "where_present" | "where_absent" => text_or_texts,
        "about" | "crm" | "request" | "auth" | "whoami" | "quota" => of(key),
        "search" => json!({"anyOf": [
            {"type": "array", "items": one("search")}, one("quota_of_kind")]}),
        "details" | "errors" | "before" => json!({"type": "array", "items": one(key)}),
        "record" => of("record"),
        "other" => of("quota_of_kind"),
        // A number of calls in a quota, a table of headers at the top.
        "rate" => json!({"anyOf": [{"type": "integer", "minimum": 1}, one("rate")]}),
        "pages" => json!({"anyOf": [one("pages"), {"const": false}]}),
        "batch" => json!({"anyOf": [{"type": "integer", "minimum": 1}, one("batch")]}),
        "query" | "headers" | "form" | "body" | "for" | "take" | "choice" | "drop" | "info"
        | "header" | "if_among" | "where" | "where_not" => json!({"type": "object"}),
        "choices" => json!({"type": "array", "items": {"type": "object"}}),
        "only_if_empty" | "optional" | "exact" | "number" | "not_json" => {
            json!({"type": "boolean"})
        }
        "language" => words(&Language::ALL.map(|(name, _)| name)),
        "shape" => words(&ListShape::ALL.map(|(name, _)| name)),
        "means" => words(&CLASSES.map(|(name, _)| name)),
        _ => json!({}),
    }
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
