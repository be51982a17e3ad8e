//! On whose behalf a CRM is called: the user, the CRM host, the credential.

use std::fmt;
use std::sync::Arc;

use prost_types::{Struct, Value, value::Kind};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::json;
use super::phone::Region;

/// A user of a CRM. Ids are opaque texts of the calling service; nothing is derived from their
/// form. Not `Clone`: all questions of a batch share one.
pub struct User {
    /// The caller's id of the user; never empty.
    pub id: String,
    /// The CRM account, or empty.
    pub account: String,
    /// The CRM host. Not needed if the connector has a base URL.
    pub host: Option<Host>,
    /// The region for numbers without `+`.
    pub region: Option<Region>,
    /// App Connect's user settings.
    pub settings: Settings,
    /// The fields of `platform_additional_info` that the connector reads.
    pub info: AdditionalInfo,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").finish_non_exhaustive()
    }
}

/// Whose a credential is, as the CRM says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct WhoAmI {
    user: String,
    account: String,
}

/// Longest id of a user or an account that is accepted, in bytes.
const MAX_ID: usize = 256;

impl WhoAmI {
    /// `None` without a user id: an account has many users, so an account id identifies none of
    /// them. `0`, `null` and the like name nobody.
    #[must_use]
    pub(crate) fn new(user: String, account: String) -> Option<Self> {
        let is_usable = !user.trim().is_empty() && is_id(&user) && is_id(&account);
        let is_usable = is_usable && ![&user, &account].into_iter().any(|id| names_nobody(id));
        is_usable.then_some(Self { user, account })
    }

    /// The CRM's id of the user; never empty.
    #[must_use]
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The CRM's id of the account, if it names one.
    #[must_use]
    pub(crate) fn account(&self) -> Option<&str> {
        Some(self.account.as_str()).filter(|account| !account.trim().is_empty())
    }
}

/// Whether programs write this if they have no id.
fn names_nobody(id: &str) -> bool {
    const NOBODY: [&str; 9] = [
        "null",
        "undefined",
        "none",
        "nil",
        "nan",
        "false",
        "anonymous",
        "guest",
        "-1",
    ];
    let id = id.trim();
    let is_zero = !id.is_empty() && id.chars().all(|c| matches!(c, '0' | '-' | '{' | '}'));
    is_zero || NOBODY.iter().any(|nobody| id.eq_ignore_ascii_case(nobody))
}

impl fmt::Debug for WhoAmI {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhoAmI").finish_non_exhaustive()
    }
}

/// User settings, both in App Connect's form (`{"name": {"value": v}}`) and plain (`{"name": v}`).
/// Clones share them.
#[derive(Clone, Default)]
pub struct Settings(Arc<Struct>);

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

impl Settings {
    /// Wraps what the caller sent.
    #[must_use]
    pub(crate) fn new(fields: Struct) -> Self {
        Self(Arc::new(fields))
    }

    /// The value of one setting.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let value = self.0.fields.get(name)?;
        match &value.kind {
            Some(Kind::StructValue(wrapped)) => wrapped.fields.get("value").or(Some(value)),
            _ => Some(value),
        }
    }

    /// Only these settings, as the caller sent them.
    #[must_use]
    pub(crate) fn only(&self, names: &[String]) -> Self {
        Self(Arc::new(only(&self.0, names)))
    }

    /// Returns whether a switch is on, with JavaScript's rules: absent, null, false, 0 and "" are
    /// off.
    #[must_use]
    pub(crate) fn is_on(&self, name: &str) -> bool {
        match self.get(name).and_then(|value| value.kind.as_ref()) {
            None | Some(Kind::NullValue(_)) => false,
            Some(Kind::BoolValue(on)) => *on,
            Some(Kind::NumberValue(number)) => *number != 0.0,
            Some(Kind::StringValue(text)) => !text.is_empty(),
            Some(Kind::StructValue(_) | Kind::ListValue(_)) => true,
        }
    }
}

/// What the calling service stores of a user besides the credential. Connectors read tokens and
/// addresses from it, so it is never printed.
#[derive(Clone, Default)]
pub struct AdditionalInfo(Struct);

impl fmt::Debug for AdditionalInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdditionalInfo([REDACTED])")
    }
}

impl AdditionalInfo {
    /// Only these fields of what the caller sent.
    #[must_use]
    pub(crate) fn only(fields: &Struct, names: &[String]) -> Self {
        Self(only(fields, names))
    }

    /// The value of one field.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.fields.get(name)
    }

    /// The text of one field, or of a member below it; `None` if it is missing, empty or not a
    /// text.
    #[must_use]
    pub(crate) fn text(&self, name: &str, below: &[String]) -> Option<&str> {
        match &self.value(name, below)?.kind {
            Some(Kind::StringValue(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The number of one field, or of a member below it, as text.
    #[must_use]
    pub(crate) fn number(&self, name: &str, below: &[String]) -> Option<String> {
        let value = json::from_value(self.value(name, below)?);
        value.is_number().then(|| json::text(Some(&value)))
    }

    fn value(&self, name: &str, below: &[String]) -> Option<&Value> {
        let mut value = self.get(name)?;
        for key in below {
            value = match &value.kind {
                Some(Kind::StructValue(fields)) => fields.fields.get(key)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

fn only(fields: &Struct, names: &[String]) -> Struct {
    let named = |name: &String| Some((name.clone(), fields.fields.get(name)?.clone()));
    Struct {
        fields: names.iter().filter_map(named).collect(),
    }
}

/// The name of a CRM host: only a DNS name in lower case. It contains no port, user, path, or IP
/// address in any spelling, so a URL made from it cannot lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host(String);

impl Host {
    /// Parses a DNS name of two or more labels (RFC 1123); `None` for everything else.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let name = text.to_ascii_lowercase();
        let labels: Vec<&str> = name.split('.').collect();
        let named = labels.iter().all(|label| is_label(label));
        // URL parsers read "127.1", "0x7f.1" and the like as addresses. So a top-level domain must
        // start with a letter and must not be a hexadecimal number.
        let top = labels.last().is_some_and(|top| {
            top.starts_with(|c: char| c.is_ascii_alphabetic())
                && top.len() >= 2
                && !top.starts_with("0x")
        });
        (named && top && labels.len() >= 2 && name.len() <= 253).then_some(Self(name))
    }

    /// The name in lower case.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(label: &str) -> bool {
    let mut bytes = label.bytes();
    let is_plain = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (1..=63).contains(&label.len()) && is_plain && !label.starts_with('-') && !label.ends_with('-')
}

fn is_id(text: &str) -> bool {
    text.len() <= MAX_ID && !text.contains(char::is_control)
}

/// The value of the HTTP `Authorization` header for the CRM. Never printed; erased from memory on
/// drop. Not `Clone`, so that no copy is made by accident: all questions of a batch share one.
pub(crate) struct AuthHeader(SecretString);

impl AuthHeader {
    /// Parses a header value: 1 to 8,192 bytes of visible ASCII and spaces (RFC 9110), so that it
    /// cannot inject another header. `None` for everything else.
    #[must_use]
    pub(crate) fn parse(text: impl Into<String>) -> Option<Self> {
        let text = Zeroizing::new(text.into());
        // If there is no white space around the text, it is moved, not copied, because tokens are
        // long. The rest is erased.
        let mut text = if text.trim().len() == text.len() {
            text
        } else {
            Zeroizing::new(text.trim().to_owned())
        };
        // Checks every byte even after a forbidden one: such a loop compiles to vector
        // instructions.
        let odd = text
            .bytes()
            .fold(false, |odd, byte| odd | !(b' '..=b'~').contains(&byte));
        (!odd && (1..=8192).contains(&text.len())).then(|| Self(std::mem::take(&mut *text).into()))
    }

    /// The header of a request under a credential that needs none.
    #[must_use]
    pub(crate) fn none() -> Self {
        Self(SecretString::default())
    }

    /// A copy for one more request. Each copy is erased from memory on drop.
    #[must_use]
    pub(crate) fn copied(&self) -> Self {
        Self(self.0.clone())
    }

    /// The header's value, for the code that sends it and the code that hashes it.
    #[must_use]
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for AuthHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthHeader([REDACTED])")
    }
}

#[cfg(test)]
mod tests;
