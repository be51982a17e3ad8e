//! Reads `[rate]` and `[[errors]]`: signals of a CRM that differ from the usual ones.

use std::ops::RangeInclusive;

use http::header::HeaderName;
use serde_json::Value;

use super::super::keys;
use super::field::{Field, TableEntry};
use super::table::Table;
use crate::connector::headers::RateSignals;
use crate::connector::path::Path;
use crate::connector::reply_class::{ReplyClass, ReplyCondition, ReplyRule, ReplySign};

pub(super) fn rate(table: &Table<'_>) -> RateSignals {
    RateSignals {
        remaining: table.get("remaining").and_then(header_name),
        limit: table.get("limit").and_then(header_name),
        reset: table.get("reset").and_then(header_name),
    }
}

fn header_name(field: Field<'_>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(field.text()?.as_bytes());
    field.parsed(name.map_err(|_| "is not the name of a header"))
}

/// Statuses that refuse the credential, or a call for now (RFC 9110, RFC 6585).
const REFUSALS: [u16; 3] = [401, 407, 429];

/// Statuses that also refuse a call, unless the body says otherwise.
const UNCLEAR: [u16; 4] = [402, 403, 408, 425];

/// What a reply may mean, by its word in a file.
pub(in crate::connector::file) const CLASSES: [(&str, ReplyClass); 7] = [
    ("rate_limited", ReplyClass::RateLimited),
    ("unauthenticated", ReplyClass::Unauthenticated),
    ("forbidden", ReplyClass::Forbidden),
    ("unavailable", ReplyClass::Unavailable),
    ("bad_reply", ReplyClass::Bad),
    ("partial", ReplyClass::Partial),
    ("nothing", ReplyClass::Nobody),
];

/// Reads one rule of `[[errors]]`.
pub(super) fn error_rule(field: Field<'_>) -> Option<ReplyRule> {
    let table = field.table(&[keys::ERRORS])?;
    let statuses = table.get("status").map(statuses);
    let conditions = conditions(&table);
    if table.has("not_json") && !conditions.is_empty() {
        table.fault("has both `not_json` and a condition on the body");
    }
    if statuses.is_none() && conditions.is_empty() {
        table.fault(
            "needs a condition: status, header, where, where_not, where_present or where_absent",
        );
    }
    table.require("means", "needs means");
    // Without a status the body of an answer decides.
    let statuses = statuses.unwrap_or_else(|| vec![200..=200]);
    let class = table.word("means", &CLASSES)?;
    if class == ReplyClass::Nobody {
        let is_any = conditions.is_empty() && !table.has("not_json");
        check_nothing(&table, &statuses, is_any);
    }
    Some(ReplyRule {
        class,
        statuses: statuses.into(),
        sign: sign(&table, conditions),
    })
}

/// A reply that refuses the call does not say that nobody has the number, and proves no credential.
/// A status that only sometimes refuses the call may mean "nobody" if the rule has a condition on
/// the body.
fn check_nothing(table: &Table<'_>, statuses: &[RangeInclusive<u16>], is_any: bool) {
    let covers = |status: u16| statuses.iter().any(|range| range.contains(&status));
    let unclear = UNCLEAR.into_iter().chain(500..=599).filter(|_| is_any);
    let refusals = REFUSALS.into_iter().chain(unclear);
    if let Some(status) = refusals.into_iter().find(|status| covers(*status)) {
        table.fault(format!(
            "says that {status} means \"nothing\", but such a reply refuses the call, and does not say that nobody \
             has the number"
        ));
    } else if is_any && covers(200) {
        table.fault(
            "says that every 200 means \"nothing\", so nobody would ever be found; add a condition",
        );
    }
}

fn sign(table: &Table<'_>, conditions: Vec<ReplyCondition>) -> ReplySign {
    if table.switch("not_json") {
        ReplySign::NoJson
    } else if conditions.is_empty() {
        ReplySign::Any
    } else {
        ReplySign::All(conditions)
    }
}

fn statuses(field: Field<'_>) -> Vec<RangeInclusive<u16>> {
    let values = field.scalars();
    let statuses: Vec<_> = values.iter().filter_map(http_status).collect();
    if statuses.len() < values.len() {
        field.fault("must be an HTTP status or a list of them");
    }
    statuses
}

fn http_status(value: &Value) -> Option<RangeInclusive<u16>> {
    let status = u16::try_from(value.as_u64()?).ok()?;
    (100..600).contains(&status).then_some(status..=status)
}

fn conditions(table: &Table<'_>) -> Vec<ReplyCondition> {
    let entries = |key| table.entries_of(key).into_iter();
    let paths = |key| table.get(key).into_iter().flat_map(Field::paths);
    let headers = entries("header").filter_map(header_is);
    let is = entries("where").filter_map(comparison);
    let is = is.map(|(path, values)| ReplyCondition::Is(path, values));
    let is_not = entries("where_not").filter_map(comparison);
    let is_not = is_not.map(|(path, values)| ReplyCondition::IsNot(path, values));
    let present = paths("where_present").map(ReplyCondition::Present);
    let absent = paths("where_absent").map(ReplyCondition::Absent);
    let of_body = is.chain(is_not).chain(present).chain(absent);
    headers.chain(of_body).collect()
}

fn header_is(entry: TableEntry<'_>) -> Option<ReplyCondition> {
    let value = entry.value.text()?.to_owned();
    let name = HeaderName::from_bytes(entry.key.as_bytes()).ok()?;
    Some(ReplyCondition::Header(name, value))
}

/// A path and the values that it is compared with.
fn comparison(entry: TableEntry<'_>) -> Option<(Path, Vec<Value>)> {
    Some((entry.path_of_key()?, entry.value.scalars()))
}
