//! Evaluates slots: a name and its filters become a JSON value, and templates become texts.
//!
//! Nothing here fails. What does not exist is null, and a request with an empty slot is not made.

use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use serde_json::Value;

use super::literal::Language;
use super::name::Name;
use super::slot::{Filter, Pattern, Template, TemplateSlot};
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
    /// What the `before` requests took from their replies.
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
            Wanted::For(name) => {
                let value = self.each_value(name);
                value.map(str::to_owned).into_iter().collect()
            }
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
        value.map(json::from_value).into()
    }

    /// The value of a slot; null if it is empty.
    pub(super) fn value(&self, slot: &TemplateSlot) -> Value {
        let value = match self.element.filter(|_| slot.each) {
            Some(element) => element.clone(),
            None => self.named(&slot.name),
        };
        let filters = slot.filters.iter();
        filters.fold(without_empty(value), |value, filter| filter.apply(value))
    }

    fn named(&self, name: &Name) -> Value {
        match name {
            Name::Number(spelling) => self.number(spelling),
            Name::Numbers(spelling) => self.numbers(spelling),
            Name::Text => self.at.map(|at| at.text.as_str()).into(),
            Name::Texts => list(self.all_variants().map(|variant| variant.text.clone())),
            Name::Record(path) => self.record(path),
            Name::Records(path) => self.records(path),
            Name::Host => self.host.map(Host::as_str).into(),
            Name::HostLabel => self.host_label().into(),
            Name::Setting(name) => self.setting(name),
            Name::Info(name, below) => self.info(name, below),
            Name::For(name) => self.each_value(name).into(),
            Name::Before(name) => self.taken(name).cloned().into(),
            Name::Own(path) => one_or_many(&path.all(self.own.unwrap_or(&Value::Null), self)),
            // Secrets and credentials are only rendered by `credential.rs`.
            Name::Secret(_) | Name::Token | Name::Credential | Name::Header => Value::Null,
        }
    }

    fn host_label(&self) -> Option<&'a str> {
        self.host?.as_str().split('.').next()
    }

    fn info(&self, name: &str, below: &Path) -> Value {
        let value = self.info.and_then(|info| info.get(name));
        let value = Value::from(value.map(json::from_value));
        below.first(&value, self).cloned().unwrap_or_default()
    }

    /// What a `before` request took from its reply, by the name that it gave it.
    fn taken(&self, name: &str) -> Option<&'a Value> {
        let taken = self.before.iter().find(|(known, _)| known == name);
        taken.map(|(_, value)| value)
    }

    fn all_variants(&self) -> impl Iterator<Item = &'a Variant> + use<'a> {
        self.numbers.iter().flat_map(|number| number.all())
    }

    fn number(&self, spelling: &Spelling) -> Value {
        let spelled = self.at.and_then(|at| spelling.of(&at.number));
        spelled.into()
    }

    /// Every form of every number in a spelling, each once.
    fn numbers(&self, spelling: &Spelling) -> Value {
        list(
            self.all_variants()
                .filter_map(|variant| spelling.of(&variant.number)),
        )
    }

    fn record(&self, path: &Path) -> Value {
        match self.contacts {
            [contact] => self.kept_of(contact, path).clone(),
            _ => Value::Null,
        }
    }

    fn records(&self, path: &Path) -> Value {
        let kept = self.contacts.iter();
        let kept = kept.flat_map(|contact| one_or_more(self.kept_of(contact, path)));
        distinct(kept.cloned())
    }

    /// A raw value of a contact's record.
    pub(super) fn kept_of<'c>(&self, contact: &'c Contact, path: &Path) -> &'c Value {
        let at = self.kept.iter().position(|kept| kept == path);
        let kept = at.and_then(|at| contact.kept.get(at));
        kept.unwrap_or(&Value::Null)
    }

    /// A text of a record: what is empty leaves no gap. Empty if all slots are.
    pub(super) fn record_text(&self, template: &Template) -> String {
        if let Some(literal) = template.literal() {
            return literal.to_owned();
        }
        let mut is_empty = true;
        let joined = template.joined(|slot| {
            let text = shown(&self.value(slot));
            is_empty &= text.is_empty();
            Some(text)
        });
        match joined {
            Some(joined) if template.whole().is_some() => joined,
            Some(joined) if !is_empty => without_gaps(&joined),
            _ => String::new(),
        }
    }

    /// A text of a request. `None` if a slot is empty, or if a value cannot be written safely.
    pub(super) fn request_text(
        &self,
        template: &Template,
        language: Option<Language>,
    ) -> Option<String> {
        match template.whole() {
            Some(slot) => whole_text(&self.value(slot), slot, language),
            None => template.joined(|slot| mixed_text(&self.value(slot), slot, language)),
        }
    }

    /// A segment of the path. It is one segment, whatever the values are.
    pub(super) fn segment_text(&self, template: &Template) -> Option<String> {
        template.joined(|slot| {
            let text = scalar(&self.value(slot));
            is_segment(&text).then_some(text)
        })
    }
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

fn without_gaps(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
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
    match language {
        Some(language) => language.written(value, slot.pattern),
        None => Some(scalar(value)).filter(|text| is_plain(text)),
    }
}

impl Language {
    /// The literal of a value, or of a list.
    fn written(self, value: &Value, pattern: Option<Pattern>) -> Option<String> {
        let Value::Array(items) = value else {
            return self.literal(&scalar(value), pattern);
        };
        let texts: Vec<String> = items.iter().map(scalar).collect();
        self.list(&texts, pattern)
    }
}

/// Returns whether a text has no characters with a meaning in a query.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_plain_char)
}

fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '.' | '@' | '-')
}

/// Texts as a list, each once.
fn list(texts: impl Iterator<Item = String>) -> Value {
    distinct(texts.map(Value::from))
}

fn distinct(values: impl Iterator<Item = Value>) -> Value {
    let mut distinct: Vec<Value> = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    Value::Array(distinct)
}

/// The elements of a list, or the value itself.
pub(super) fn one_or_more(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        value => std::slice::from_ref(value),
    }
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
        Value::Array(items) => without_empty_items(items),
        value => value,
    }
}

fn without_empty_items(items: Vec<Value>) -> Value {
    let mut kept: Vec<Value> = items.into_iter().map(without_empty).collect();
    kept.retain(|item| !item.is_null());
    Some(kept).filter(|kept| !kept.is_empty()).into()
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
        Value::Array(items) => first_text(items),
        value => text(Some(value)),
    }
}

fn first_text(items: &[Value]) -> String {
    let mut texts = items.iter().map(|item| text(Some(item)));
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

impl Filter {
    fn apply(&self, value: Value) -> Value {
        let filtered = match (self, value) {
            (Self::Join(with), value) => joined(&value, with),
            (Self::Json, Value::Null) => Value::Null,
            (Self::Json, value) => Value::String(value.to_string()),
            (_, Value::Array(items)) => items.iter().map(|item| self.of_one(item)).collect(),
            (_, value) => self.of_one(&value),
        };
        without_empty(filtered)
    }

    fn of_one(&self, value: &Value) -> Value {
        let source = scalar(value);
        match self {
            Self::Split(at) => split(&source, at),
            Self::Between(from, to) => between(&source, from, to).into(),
            Self::Last(count) => last(&source, *count).into(),
            Self::Unix => moment(&source, 1_000).into(),
            Self::UnixMs => moment(&source, 1).into(),
            Self::Join(_) | Self::Json => value.clone(),
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

fn split(source: &str, at: &str) -> Value {
    let parts = source.split(at).map(str::trim);
    parts.take(MOST_VALUES).collect()
}

/// The text after `from`, up to `to` or to the end.
fn between<'s>(source: &'s str, from: &str, to: &str) -> Option<&'s str> {
    let (_, rest) = source.split_once(from)?;
    let inner = rest.split_once(to).map(|(inner, _)| inner);
    Some(inner.unwrap_or(rest))
}

/// The last characters of a text.
fn last(source: &str, count: usize) -> String {
    let skipped = source.chars().count().saturating_sub(count);
    source.chars().skip(skipped).collect()
}

/// A Unix time as ISO 8601.
fn moment(source: &str, millis: u64) -> Option<String> {
    /// Two thousand years after 1970: no CRM's record is as late as this.
    const LAST: u64 = 2_000 * 366 * 86_400 * 1_000;
    let number: u64 = source.split('.').next()?.parse().ok()?;
    let millis = number.checked_mul(millis)?;
    (1..LAST).contains(&millis).then(|| iso_8601(millis))
}

fn iso_8601(millis: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    humantime::format_rfc3339_seconds(time).to_string()
}
