//! Reads headers: the defaults and those of the operation. Those with the caller's credential
//! become part of its form, and the others part of the request.

use http::header::HeaderName;

use super::super::super::proxy::template::ProxyTemplate;
use super::super::super::proxy::variables::Variable;
use super::super::super::tree::NodeValue;
use super::super::connection::{is_of_connection, overrides_method};
use super::super::field::{Field, TableEntry};
use super::super::table::Table;
use super::ProxyFile;
use crate::connector::path::Path;

/// The default headers and those of the operation, in their order.
pub(super) fn headers<'n>(file: &'n ProxyFile<'_>) -> Vec<(HeaderName, TableEntry<'n>)> {
    let find = file.find.as_ref();
    let own = find.and_then(|find| find.open_said("headers"));
    let tables = [file.default_headers(), own];
    let entries = tables.iter().flatten().flat_map(Table::entries);
    entries.filter_map(header).collect()
}

/// A header that may be sent. Those of the connection are left out.
fn header(entry: TableEntry<'_>) -> Option<(HeaderName, TableEntry<'_>)> {
    match HeaderName::from_bytes(entry.key.as_bytes()) {
        Ok(name) if is_connection_header(&name) => None,
        Ok(name) if overrides_method(&name) && !is_get(entry.value) => {
            entry.reject("may only be GET, because a look-up only reads")
        }
        Ok(name) if is_scalar(entry.value) => Some((name, entry)),
        Ok(_) => entry.reject("must be a string"),
        Err(_) => entry.reject("is not the name of a header"),
    }
}

fn is_get(field: Field<'_>) -> bool {
    let text = field.value().text();
    text.is_some_and(|text| text.eq_ignore_ascii_case("GET"))
}

/// Puts a header in place of an earlier one with its name.
pub(super) fn replace<T>(headers: &mut Vec<(HeaderName, T)>, name: HeaderName, value: Option<T>) {
    headers.retain(|(known, _)| *known != name);
    headers.extend(value.map(|value| (name, value)));
}

pub(super) fn is_connection_header(name: &HeaderName) -> bool {
    is_of_connection(name.as_str()) || matches!(name.as_str(), "expect" | "user-agent")
}

fn is_scalar(field: Field<'_>) -> bool {
    field.value().scalar().is_some()
}

/// Whether a header contains the caller's credential or the configuration's secret.
pub(super) fn is_credential(field: Field<'_>) -> bool {
    let NodeValue::Text(text) = field.value() else {
        return false;
    };
    ProxyTemplate::parse(text).slots().any(is_secret)
}

fn is_secret(path: &Path) -> bool {
    matches!(
        Variable::of(path),
        Ok(Variable::Key | Variable::Header | Variable::Secret)
    )
}
