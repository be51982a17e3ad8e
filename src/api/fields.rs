//! Fields that several requests share: parsed, or a [`Violation`] with the field's path.

use prost::Message as _;
use prost_types::value::Kind as ValueKind;
use prost_types::{Struct, Value};

use super::error::Violation;
use crate::connector::Platform;
use crate::domain::user::Settings;
use crate::domain::{AuthHeader, NumberFormat, Region, User};
use crate::pb::v1 as pb;
use crate::resolver::Trigger;

/// Longest id that is accepted, in bytes.
const MAX_ID: usize = 512;

/// Most formats of a user; App Connect offers three.
const MAX_FORMATS: usize = 16;

/// Most bytes of a Struct in a request; App Connect's user settings are a few switches.
const MAX_STRUCT_BYTES: usize = 16 << 10;

/// Most values in it, counted over all levels.
const MAX_STRUCT_VALUES: usize = 1000;

/// Most levels in it.
const MAX_STRUCT_LEVELS: usize = 16;

/// The trigger that a request names. An unknown value is counted as an incoming call; parsing
/// refuses it later.
pub(super) fn trigger(trigger: pb::Trigger) -> Trigger {
    match trigger {
        pb::Trigger::Unspecified | pb::Trigger::IncomingCall => Trigger::IncomingCall,
        pb::Trigger::ManualRefresh => Trigger::ManualRefresh,
        pb::Trigger::InitialMatch => Trigger::InitialMatch,
    }
}

pub(super) fn user(user: pb::User, platform: &Platform) -> Result<User, Violation> {
    check_ids(&user)?;
    check_struct("user.settings", user.settings.as_ref())?;
    check_struct(
        "user.platform_additional_info",
        user.platform_additional_info.as_ref(),
    )?;
    let region = region(&user.region)?;
    let host = platform
        .host(&user.hostname)
        .map_err(|error| Violation::new("user.hostname", error))?;
    let info = platform.info_of(user.platform_additional_info.as_ref());
    Ok(User {
        id: user.id,
        account: user.account_id,
        host,
        region,
        settings: Settings::new(user.settings.unwrap_or_default()),
        info,
    })
}

pub(super) fn check_ids(user: &pb::User) -> Result<(), Violation> {
    if user.id.is_empty() {
        return Err(Violation::new("user.id", "is required"));
    }
    for (field, id) in [("user.id", &user.id), ("user.account_id", &user.account_id)] {
        if id.len() > MAX_ID {
            let description = format!("is longer than {MAX_ID} bytes");
            return Err(Violation::new(field, description));
        }
    }
    Ok(())
}

/// Checks the limits of a Struct.
fn check_struct(field: &str, fields: Option<&Struct>) -> Result<(), Violation> {
    let Some(fields) = fields else { return Ok(()) };
    let too = |what: String| Err(Violation::new(field, what));
    if fields.encoded_len() > MAX_STRUCT_BYTES {
        return too(format!("is larger than {MAX_STRUCT_BYTES} bytes"));
    }
    let mut values = 0;
    // A list instead of recursion; prost has already refused more than a hundred levels.
    let mut todo: Vec<(&Value, usize)> = fields.fields.values().map(|value| (value, 1)).collect();
    while let Some((value, level)) = todo.pop() {
        values += 1;
        if level > MAX_STRUCT_LEVELS {
            return too(format!("is nested deeper than {MAX_STRUCT_LEVELS} levels"));
        }
        if values > MAX_STRUCT_VALUES {
            return too(format!("has more than {MAX_STRUCT_VALUES} values"));
        }
        todo.extend(values_within(value).map(|value| (value, level + 1)));
    }
    Ok(())
}

/// The values directly inside a value.
fn values_within(value: &Value) -> impl Iterator<Item = &Value> {
    let (fields, items) = match &value.kind {
        Some(ValueKind::StructValue(inner)) => (Some(inner.fields.values()), None),
        Some(ValueKind::ListValue(list)) => (None, Some(list.values.iter())),
        _ => (None, None),
    };
    fields
        .into_iter()
        .flatten()
        .chain(items.into_iter().flatten())
}

pub(super) fn region(text: &str) -> Result<Option<Region>, Violation> {
    if text.is_empty() {
        return Ok(None);
    }
    Region::parse(text).map(Some).ok_or_else(|| {
        Violation::new(
            "user.region",
            "is not an ISO 3166 alpha-2 code of a country with a numbering plan",
        )
    })
}

pub(super) fn auth(header: String, platform: &Platform) -> Result<AuthHeader, Violation> {
    if header.trim().is_empty() {
        let description = format!(
            "is required: the Authorization header for the CRM, unless the daemon has connectors.{}.credential",
            platform.name()
        );
        return Err(Violation::new("auth_header", description));
    }
    AuthHeader::parse(header).ok_or_else(|| {
        Violation::new(
            "auth_header",
            "is not a header value: at most 8192 bytes of visible ASCII and spaces",
        )
    })
}

/// Skips formats that can spell nothing: a typo in the settings must not cost the call pop.
pub(crate) fn formats(patterns: &[String]) -> Result<Vec<NumberFormat>, Violation> {
    if patterns.len() > MAX_FORMATS {
        let description = format!("has more than {MAX_FORMATS} entries");
        return Err(Violation::new("overriding_formats", description));
    }
    let mut formats: Vec<NumberFormat> = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        if let Some(format) = NumberFormat::parse(pattern)
            && !formats.contains(&format)
        {
            formats.push(format);
        }
    }
    Ok(formats)
}
