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
        // A failure that is for all ends calls that have not begun, so those are the most.
        let is_cut_short = came.found.as_ref().is_err_and(is_for_all);
        let is_fewer = is_cut_short && self.calls > Some(came.calls);
        if let Some(calls) = self.calls.filter(|_| !is_fewer) {
            differences.add("calls", calls, came.calls);
        }
        match (&self.error, &came.found) {
            (Some(expected), Err(error)) => {
                differences.add("error", expected, error.reason().to_lowercase());
            }
            (Some(expected), Ok(found)) => {
                differences.add("error", expected, format!("none: {}", summary(found)));
            }
            (None, Err(error)) => differences.add("error", "none", reason(error)),
            (None, Ok(found)) => {
                differences.add("complete", self.complete, found.complete);
                self.compare_contacts(&found.contacts, &mut differences);
            }
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

/// The failure for a person: the reason, and what exactly.
fn reason(error: &LookupError) -> String {
    format!("{} ({error})", error.reason().to_lowercase())
}

fn summary(found: &Found) -> String {
    let names = found.contacts.iter().map(|contact| contact.name.as_str());
    let names: Vec<&str> = names.collect();
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
        for (field, expected, came) in [
            ("id", &self.id, &came.id),
            ("name", &self.name, &came.name),
            ("kind", &self.kind, &came.kind),
            ("quality", &self.quality, &came.quality),
            ("title", &self.title, &came.title),
            ("company", &self.company, &came.company),
            ("email", &self.email, &came.email),
            ("created", &self.created, &came.created),
            ("last_activity", &self.last_activity, &came.last_activity),
        ] {
            let quoted = |text: &String| Value::from(text.as_str()).to_string();
            differences.add(&format!("{place}.{field}"), quoted(expected), quoted(came));
        }
        compare_info(&self.info, &came.info, place, differences);
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
        let [expected, came] =
            [expected, came].map(|info| info.get(key).cloned().map(without_nulls));
        if expected != came {
            let shown = |value: Option<Value>| value.map_or("none".to_owned(), |it| it.to_string());
            differences.add(&format!("{place}.info.{key}"), shown(expected), shown(came));
        }
    }
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
            let expected = self.ids.as_ref().map(|ids| ids.get(n).cloned());
            match (expected, &look_up.found) {
                (_, Err(error)) => differences.add(&self.numbers[n], "an answer", reason(error)),
                (Some(expected), Ok(found)) => {
                    let ids: Vec<&String> = found.contacts.iter().map(|found| &found.id).collect();
                    let expected = format!("{:?}", expected.unwrap_or_default());
                    differences.add(&self.numbers[n], expected, format!("{ids:?}"));
                }
                (None, Ok(_)) => {}
            }
        }
        differences
    }
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
