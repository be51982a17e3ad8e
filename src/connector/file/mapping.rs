//! Maps records and rows of a CRM's reply.

use serde_json::{Map, Value};

use super::fill::{SlotScope, one_or_more};
use super::plan::{RecordPlan, SearchRequest, TextField, ValueField, ValueTemplate};
use crate::connector::path::Path;
use crate::connector::record::Record;
use crate::domain::json::text;
use crate::domain::{Contact, MatchQuality};

/// The most values that are kept of one path.
const KEPT_VALUES: usize = 16;

/// The longest value that is kept, in bytes.
const KEPT_BYTES: usize = 256;

/// The most phone fields of one record that are read.
const PHONES: usize = 100;

impl SearchRequest {
    /// The record of an item of the list.
    pub(super) fn record(&self, scope: &SlotScope<'_>, item: &Value, kept: &[Path]) -> Record {
        let scope = SlotScope {
            own: Some(item),
            ..*scope
        };
        let mut contact = self.record.contact(&scope);
        let kept = kept.iter().map(|path| kept_value(&scope, item, path));
        contact.kept = kept.collect();
        let phones = self.phones.iter().flatten();
        let phones = phones.flat_map(|path| phones_at(&scope, item, path));
        Record {
            contact,
            phones: phones.take(PHONES).collect(),
        }
    }
}

/// The phone fields at a path: texts, numbers, and lists of them.
fn phones_at(scope: &SlotScope<'_>, item: &Value, path: &Path) -> Vec<String> {
    let values = path.all(item, scope).into_iter();
    let texts = values.flat_map(one_or_more).map(|value| text(Some(value)));
    texts.filter(|text| !text.trim().is_empty()).collect()
}

/// A raw value that details need. A value that is too long is left out, because a part of it would
/// be another one.
fn kept_value(scope: &SlotScope<'_>, item: &Value, path: &Path) -> Value {
    let values = path.all(item, scope).into_iter();
    let kept = values.flat_map(one_or_more).filter(|value| is_kept(value));
    one_or_list(kept.take(KEPT_VALUES).cloned().collect())
}

fn one_or_list(mut values: Vec<Value>) -> Value {
    match values.len() {
        0 => Value::Null,
        1 => values.remove(0),
        _ => Value::Array(values),
    }
}

fn is_kept(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= KEPT_BYTES && !text.is_empty(),
        Value::Number(_) | Value::Bool(_) => true,
        _ => false,
    }
}

impl RecordPlan {
    fn contact(&self, scope: &SlotScope<'_>) -> Contact {
        Contact {
            id: self.id.text(scope),
            kind: self.kind.text(scope),
            name: self.name.text(scope),
            title: self.title.text(scope),
            company: self.company.text(scope),
            email: self.email.text(scope),
            created: self.created.text(scope),
            last_activity: self.last_activity.text(scope),
            additional_info: match &self.info_at {
                Some(path) => object_at(path, scope),
                None => members(&self.info, scope),
            },
            quality: MatchQuality::Unverified,
            kept: Vec::new(),
        }
    }
}

/// The members of an object of the record that a call form can show: scalars, and lists of choices.
fn object_at(path: &Path, scope: &SlotScope<'_>) -> Map<String, Value> {
    let own = scope.own.unwrap_or(&Value::Null);
    let members = path.get(own).and_then(Value::as_object);
    let mut members = members.cloned().unwrap_or_default();
    keep_shown(&mut members);
    members
}

fn keep_shown(members: &mut Map<String, Value>) {
    for list in members.values_mut().filter_map(Value::as_array_mut) {
        list.retain(Value::is_object);
    }
    members.retain(|_, value| is_shown(value));
}

fn is_shown(value: &Value) -> bool {
    match value {
        Value::Null | Value::Object(_) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// An object of values. Empty ones are left out.
pub(super) fn members(
    fields: &[(String, ValueField)],
    scope: &SlotScope<'_>,
) -> Map<String, Value> {
    let member = |(name, field): &(String, ValueField)| Some((name.clone(), field.value(scope)?));
    fields.iter().filter_map(member).collect()
}

impl TextField {
    fn text(&self, scope: &SlotScope<'_>) -> String {
        let mut texts = self.0.iter().map(|template| scope.record_text(template));
        let text = texts.find(|text| !text.trim().is_empty());
        text.unwrap_or_default()
    }
}

impl ValueField {
    /// The first alternative that is not empty.
    pub(super) fn value(&self, scope: &SlotScope<'_>) -> Option<Value> {
        let mut values = self.0.iter().map(|template| template.value(scope));
        values.find(|value| !value.is_null())
    }
}

impl ValueTemplate {
    fn value(&self, scope: &SlotScope<'_>) -> Value {
        let template = match self {
            Self::Literal(value) => return value.clone(),
            Self::Text(template) => template,
        };
        let Some(slot) = template.whole() else {
            let text = scope.record_text(template);
            return Some(text).filter(|text| !text.is_empty()).into();
        };
        match scope.value(slot) {
            // Only the first of several values, because a choice consists of scalars.
            Value::Array(items) => items.into_iter().next().unwrap_or_default(),
            value => value,
        }
    }
}
