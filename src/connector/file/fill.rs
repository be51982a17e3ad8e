//! Evaluates slots: a name and its filters become a JSON value, and templates become texts.
//!
//! Nothing here fails. What does not exist is null, and a request with an empty slot is not made.

use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use serde_json::Value;

use super::literal::Language;
use super::name::Name;
use super::slot::{Filter, Template, TemplatePiece, TemplateSlot};
use crate::connector::path::{Path, PathNames, Wanted};
use crate::domain::json::{self, text};
use crate::domain::user::{AdditionalInfo, Settings};
use crate::domain::{Contact, Host, NumberFormat, Spelling, Variant, Variants};

/// The most values of one slot.
const MOST_VALUES: usize = 1_000;

/// What slots are evaluated with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SlotScope<'a> {
    /// The numbers that are asked for.
    pub(super) numbers: &'a [&'a Variants],
    /// The spelling that is asked for.
    pub(super) at: Option<&'a Variant>,
    /// The extension that is asked for instead of a number.
    pub(super) extension: Option<&'a str>,
    /// The user's formats.
    pub(super) formats: &'a [NumberFormat],
    pub(super) user_id: &'a str,
    /// The name of the connector in the settings.
    pub(super) platform: &'a str,
    /// The parts of the credential that requests may show.
    pub(super) credential: &'a [SecretString],
    pub(super) host: Option<&'a Host>,
    pub(super) settings: Option<&'a Settings>,
    pub(super) info: Option<&'a AdditionalInfo>,
    /// The current value of a `for`.
    pub(super) each: Option<(&'a str, &'a str)>,
    /// What requests before took.
    pub(super) before: &'a [(String, Value)],
    /// The contacts whose details are loaded.
    pub(super) contacts: &'a [Contact],
    /// The paths of the contacts' kept values.
    pub(super) kept: &'a [Path],
    /// The record or row that is mapped.
    pub(super) own: Option<&'a Value>,
    /// The value of an `each` slot.
    pub(super) element: Option<&'a Value>,
}

impl PathNames for SlotScope<'_> {
    fn texts(&self, wanted: &Wanted) -> Vec<String> {
        match wanted {
            Wanted::Text(text) => vec![text.clone()],
            Wanted::For(name) => self
                .each_value(name)
                .map(str::to_owned)
                .into_iter()
                .collect(),
            Wanted::Setting(name) => match self.setting(name) {
                Value::Array(items) => items.iter().map(|item| text(Some(item))).collect(),
                value => vec![text(Some(&value))],
            },
        }
    }
}

impl<'a> SlotScope<'a> {
    fn each_value(&self, name: &str) -> Option<&'a str> {
        self.each
            .filter(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    fn setting(&self, name: &str) -> Value {
        let value = self.settings.and_then(|settings| settings.get(name));
        value.map_or(Value::Null, json::from_value)
    }

    /// The value of a slot; null if it is empty.
    pub(super) fn value(&self, slot: &TemplateSlot) -> Value {
        let value = match self.element.filter(|_| slot.each) {
            Some(element) => element.clone(),
            None => self.named(&slot.name),
        };
        slot.filters
            .iter()
            .fold(without_empty(value), |value, filter| filter.apply(value))
    }

    fn named(&self, name: &Name) -> Value {
        match name {
            Name::Number(spelling) => self.number(spelling),
            Name::Numbers(spelling) => self.numbers(spelling),
            Name::Text => self.at.map_or(Value::Null, |at| at.text.clone().into()),
            Name::Texts => list(self.all_variants().map(|variant| variant.text.clone())),
            Name::Record(path) => self.record(path),
            Name::Records(path) => self.records(path),
            Name::Host => host_value(self.host.map(Host::as_str)),
            Name::HostLabel => {
                let label = self.host.and_then(|host| host.as_str().split('.').next());
                host_value(label)
            }
            Name::Setting(name) => self.setting(name),
            Name::Info(name, path) => {
                let value = self.info.and_then(|info| info.get(name));
                let value = value.map_or(Value::Null, json::from_value);
                path.first(&value, self).cloned().unwrap_or_default()
            }
            Name::For(name) => self.each_value(name).map_or(Value::Null, Value::from),
            Name::Before(name) => {
                let taken = self.before.iter().find(|(known, _)| known == name);
                taken.map_or(Value::Null, |(_, value)| value.clone())
            }
            Name::Own(path) => one_or_many(&path.all(self.own.unwrap_or(&Value::Null), self)),
            // Secrets and credentials are only rendered by `credential.rs`.
            Name::Secret(_) | Name::Token | Name::Credential | Name::Header => Value::Null,
        }
    }

    fn all_variants(&self) -> impl Iterator<Item = &'a Variant> + use<'a> {
        self.numbers.iter().flat_map(|number| number.all())
    }

    fn number(&self, spelling: &Spelling) -> Value {
        let spelled = self.at.and_then(|at| spelling.of(&at.number));
        spelled.map_or(Value::Null, Value::from)
    }

    /// Every form of every number in a spelling, each once.
    fn numbers(&self, spelling: &Spelling) -> Value {
        let mut texts: Vec<String> = Vec::new();
        for variant in self.all_variants() {
            if let Some(text) = spelling.of(&variant.number)
                && !texts.contains(&text)
            {
                texts.push(text);
            }
        }
        list(texts.into_iter())
    }

    fn record(&self, path: &Path) -> Value {
        match self.contacts {
            [contact] => self.kept_of(contact, path).clone(),
            _ => Value::Null,
        }
    }

    fn records(&self, path: &Path) -> Value {
        let mut values: Vec<Value> = Vec::new();
        for contact in self.contacts {
            let value = self.kept_of(contact, path);
            let items = match value {
                Value::Array(items) => items.as_slice(),
                value => std::slice::from_ref(value),
            };
            for item in items {
                if !values.contains(item) {
                    values.push(item.clone());
                }
            }
        }
        Value::Array(values)
    }

    /// A raw value of a contact's record.
    pub(super) fn kept_of<'c>(&self, contact: &'c Contact, path: &Path) -> &'c Value {
        let at = self.kept.iter().position(|kept| kept == path);
        at.and_then(|at| contact.kept.get(at))
            .unwrap_or(&Value::Null)
    }

    /// A text of a record: what is empty leaves no gap. Empty if all slots are.
    pub(super) fn record_text(&self, template: &Template) -> String {
        if let Some(literal) = template.literal() {
            return literal.to_owned();
        }
        let (mut joined, mut any) = (String::new(), false);
        for piece in &template.0 {
            match piece {
                TemplatePiece::Text(text) => joined.push_str(text),
                TemplatePiece::Slot(slot) => {
                    let text = shown(&self.value(slot));
                    any |= !text.is_empty();
                    joined.push_str(&text);
                }
            }
        }
        match (any, template.whole()) {
            (false, _) => String::new(),
            (true, Some(_)) => joined,
            (true, None) => joined.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    /// A text of a request. `None` if a slot is empty, or if a value cannot be written safely.
    pub(super) fn request_text(
        &self,
        template: &Template,
        language: Option<Language>,
    ) -> Option<String> {
        if let Some(slot) = template.whole() {
            return whole_text(&self.value(slot), slot, language);
        }
        let mut joined = String::new();
        for piece in &template.0 {
            match piece {
                TemplatePiece::Text(text) => joined.push_str(text),
                TemplatePiece::Slot(slot) => {
                    joined.push_str(&mixed_text(&self.value(slot), slot, language)?);
                }
            }
        }
        Some(joined)
    }
}

/// A slot that is the whole value. Only a pattern needs the language.
fn whole_text(value: &Value, slot: &TemplateSlot, language: Option<Language>) -> Option<String> {
    if slot.pattern.is_some() {
        return mixed_text(value, slot, language);
    }
    Some(scalar(value)).filter(|text| !text.is_empty())
}

/// A slot among other words.
fn mixed_text(value: &Value, slot: &TemplateSlot, language: Option<Language>) -> Option<String> {
    let Some(language) = language else {
        let is_plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '.' | '@' | '-');
        return Some(scalar(value)).filter(|text| !text.is_empty() && text.chars().all(is_plain));
    };
    match value {
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(scalar).collect();
            language.list(&texts, slot.pattern)
        }
        value => language.literal(&scalar(value), slot.pattern),
    }
}

fn host_value(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

fn list(texts: impl Iterator<Item = String>) -> Value {
    let mut distinct: Vec<Value> = Vec::new();
    for text in texts {
        let text = Value::from(text);
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    Value::Array(distinct)
}

fn one_or_many(values: &[&Value]) -> Value {
    match values {
        [] => Value::Null,
        [value] => (*value).clone(),
        values => Value::Array(values.iter().take(MOST_VALUES).copied().cloned().collect()),
    }
}

/// An empty text is null, and a list has no nulls.
fn without_empty(value: Value) -> Value {
    match value {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::Array(items) => {
            let kept = items.into_iter().map(without_empty);
            match kept.filter(|item| !item.is_null()).collect::<Vec<_>>() {
                kept if kept.is_empty() => Value::Null,
                kept => Value::Array(kept),
            }
        }
        value => value,
    }
}

/// A scalar as text; empty for everything else.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::Bool(on) => on.to_string(),
        value => text(Some(value)),
    }
}

/// A value of a record as text: of a list, the first that is not empty.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let mut texts = items.iter().map(|item| text(Some(item)));
            texts.find(|text| !text.is_empty()).unwrap_or_default()
        }
        value => text(Some(value)),
    }
}

impl Filter {
    fn apply(&self, value: Value) -> Value {
        let filtered = match self {
            Self::Join(with) => joined(&value, with),
            Self::Json => match value {
                Value::Null => Value::Null,
                value => Value::String(value.to_string()),
            },
            _ => match value {
                Value::Array(items) => {
                    Value::Array(items.into_iter().map(|item| self.of_one(item)).collect())
                }
                value => self.of_one(value),
            },
        };
        without_empty(filtered)
    }

    fn of_one(&self, value: Value) -> Value {
        let source = scalar(&value);
        match self {
            Self::Split(at) => {
                let parts = source.split(at.as_str()).map(str::trim);
                Value::Array(parts.take(MOST_VALUES).map(Value::from).collect())
            }
            Self::Between(from, to) => {
                let inner = source.split_once(from.as_str()).map(|(_, rest)| rest);
                let inner = inner.map(|rest| {
                    rest.split_once(to.as_str())
                        .map_or(rest, |(inner, _)| inner)
                });
                inner.map_or(Value::Null, Value::from)
            }
            Self::Last(count) => {
                let skipped = source.chars().count().saturating_sub(*count);
                Value::String(source.chars().skip(skipped).collect())
            }
            Self::Unix => moment(&source, 1_000),
            Self::UnixMs => moment(&source, 1),
            Self::Join(_) | Self::Json => value,
        }
    }
}

fn joined(value: &Value, with: &str) -> Value {
    match value {
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(scalar).collect();
            Value::String(texts.join(with))
        }
        Value::Null => Value::Null,
        value => Value::String(scalar(value)),
    }
}

/// A Unix time as ISO 8601.
fn moment(source: &str, millis: u64) -> Value {
    /// Two thousand years after 1970, which no CRM's record is.
    const LAST: u64 = 2_000 * 366 * 86_400 * 1_000;
    let number: Option<u64> = source
        .split('.')
        .next()
        .and_then(|whole| whole.parse().ok());
    let millis = number.and_then(|number| number.checked_mul(millis));
    let time = millis
        .filter(|millis| (1..LAST).contains(millis))
        .map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
    time.map_or(Value::Null, |time| {
        humantime::format_rfc3339_seconds(time).to_string().into()
    })
}
