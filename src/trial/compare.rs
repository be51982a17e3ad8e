//! Compares what came with what was expected, as lines for a person.

use serde_json::{Map, Value};

use super::caller::CallerError;
use super::expect::{ExpectedBatch, ExpectedContact, ExpectedIdentity, ExpectedLookUp};
use super::run::LookUp;
use crate::connector::{Found, is_for_all};
use crate::domain::{Contact, LookupError, WhoAmI};

/// The reason of a request that lacks something.
const REFUSED: &str = "invalid_argument";

/// The differences of one part: `- expected` and `+ came`.
#[derive(Debug, Default)]
pub(super) struct Differences(pub(super) Vec<String>);

impl Differences {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers have numbers, texts and values made here"
    )]
    fn add(&mut self, what: &str, expected: impl ToString, came: impl ToString) {
        let (expected, came) = (expected.to_string(), came.to_string());
        if expected != came {
            self.0.push(format!("- {what} = {expected}"));
            self.0.push(format!("+ {what} = {came}"));
        }
    }
}

impl ExpectedLookUp {
    /// Compares with a refusal of the request itself.
    pub(super) fn compare_refusal(&self, refusal: &CallerError) -> Differences {
        let mut differences = Differences::default();
        if self.error.as_deref() != Some(REFUSED) {
            let expected = self.error.as_deref().unwrap_or("none");
            differences.add("error", expected, format!("{REFUSED} ({refusal})"));
        }
        differences
    }

    pub(super) fn compare(&self, came: &LookUp) -> Differences {
        let mut differences = Differences::default();
        // A failure that concerns all searches stops those that have not begun, so there may be
        // fewer calls than expected.
        let is_cut_short = came.found.as_ref().is_err_and(is_for_all);
        let is_fewer = is_cut_short && self.calls > Some(came.calls);
        if let Some(calls) = self.calls.filter(|_| !is_fewer) {
            differences.add("calls", calls, came.calls);
        }
        match (&self.error, &came.found) {
            (None, Ok(found)) => {
                differences.add("complete", self.complete, found.complete);
                self.compare_contacts(&found.contacts, &mut differences);
            }
            (None, Err(error)) => differences.add("error", "none", reason(error)),
            (Some(expected), found) => differences.add("error", expected, error_of(found)),
        }
        differences
    }

    fn compare_contacts(&self, came: &[Contact], differences: &mut Differences) {
        let count = self.contacts.len().max(came.len());
        for n in 0..count {
            let place = format!("contacts[{n}]");
            match (self.contacts.get(n), came.get(n)) {
                (Some(expected), Some(came)) => {
                    expected.compare(&ExpectedContact::of(came), &place, differences);
                }
                (Some(expected), None) => differences.add(&place, expected.short(), "none"),
                (None, Some(came)) => {
                    differences.add(&place, "none", ExpectedContact::of(came).short());
                }
                (None, None) => {}
            }
        }
    }
}

/// The reason of a failure, or what was found instead.
fn error_of(found: &Result<Found, LookupError>) -> String {
    match found {
        Err(error) => error.reason().to_lowercase(),
        Ok(found) => format!("none: {}", summary(found)),
    }
}

/// The failure for a person: the reason, and what exactly.
fn reason(error: &LookupError) -> String {
    format!("{} ({error})", error.reason().to_lowercase())
}

fn summary(found: &Found) -> String {
    let contacts = found.contacts.iter();
    let names: Vec<&str> = contacts.map(|contact| contact.name.as_str()).collect();
    format!("{} contacts [{}]", names.len(), names.join(", "))
}

impl ExpectedContact {
    fn of(contact: &Contact) -> Self {
        Self {
            id: contact.id.clone(),
            name: contact.name.clone(),
            kind: contact.kind.clone(),
            quality: contact.quality.label().to_owned(),
            title: contact.title.clone(),
            company: contact.company.clone(),
            email: contact.email.clone(),
            created: contact.created.clone(),
            last_activity: contact.last_activity.clone(),
            info: contact.additional_info.clone(),
        }
    }

    fn short(&self) -> String {
        format!("{} {} \"{}\"", self.kind, self.id, self.name)
    }

    fn compare(&self, came: &Self, place: &str, differences: &mut Differences) {
        for ((field, expected), (_, came)) in self.texts().into_iter().zip(came.texts()) {
            let quoted = |text: &str| Value::from(text).to_string();
            differences.add(&format!("{place}.{field}"), quoted(expected), quoted(came));
        }
        compare_info(&self.info, &came.info, place, differences);
    }

    fn texts(&self) -> [(&'static str, &str); 9] {
        [
            ("id", &self.id),
            ("name", &self.name),
            ("kind", &self.kind),
            ("quality", &self.quality),
            ("title", &self.title),
            ("company", &self.company),
            ("email", &self.email),
            ("created", &self.created),
            ("last_activity", &self.last_activity),
        ]
    }
}

/// Compares without the order of keys. TOML has no null, so a null is as good as no member.
fn compare_info(
    expected: &Map<String, Value>,
    came: &Map<String, Value>,
    place: &str,
    differences: &mut Differences,
) {
    let mut keys: Vec<&String> = expected.keys().chain(came.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let value_of = |info: &Map<String, Value>| info.get(key).cloned().map(without_nulls);
        let (expected, came) = (value_of(expected), value_of(came));
        if expected != came {
            differences.add(&format!("{place}.info.{key}"), shown(expected), shown(came));
        }
    }
}

fn shown(value: Option<Value>) -> String {
    value.map_or("none".to_owned(), |value| value.to_string())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        value => value,
    }
}

impl ExpectedBatch {
    pub(super) fn compare(&self, came: &[LookUp]) -> Differences {
        let mut differences = Differences::default();
        if let Some(calls) = self.calls {
            let came: u32 = came.iter().map(|look_up| look_up.calls).sum();
            differences.add("calls", calls, came);
        }
        for (n, look_up) in came.iter().enumerate() {
            let number = &self.numbers[n];
            match (&self.ids, &look_up.found) {
                (_, Err(error)) => differences.add(number, "an answer", reason(error)),
                (Some(expected), Ok(found)) => {
                    let expected = expected.get(n).cloned().unwrap_or_default();
                    differences.add(number, format!("{expected:?}"), ids(found));
                }
                (None, Ok(_)) => {}
            }
        }
        differences
    }
}

/// The ids of the contacts, as a list for a person.
fn ids(found: &Found) -> String {
    let ids: Vec<&String> = found.contacts.iter().map(|found| &found.id).collect();
    format!("{ids:?}")
}

impl ExpectedIdentity {
    pub(super) fn compare(&self, came: &Result<Option<WhoAmI>, LookupError>) -> Differences {
        let mut differences = Differences::default();
        let (user, account) = match came {
            Ok(Some(who)) => (who.user(), who.account().unwrap_or_default()),
            // Without an identity it does not matter why there is none.
            Ok(None) | Err(_) => ("", ""),
        };
        let why = match came {
            Err(error) if !self.user.is_empty() => format!("none: {}", reason(error)),
            _ => user.to_owned(),
        };
        differences.add("user", &self.user, why);
        differences.add("account", &self.account, account);
        differences
    }
}
