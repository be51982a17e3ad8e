//! Reads headers: the defaults and those of the operation. Those with the caller's credential become
//! part of its form, and the others part of the request.

use http::header::HeaderName;

use super::super::super::proxy::template::ProxyTemplate;
use super::super::super::proxy::variables::Variable;
use super::super::super::tree::{Entry, Node, NodeValue};
use super::super::connection::is_of_connection;
use super::super::table::Table;
use super::ProxyFile;
use crate::connector::path::Path;

/// The default headers and those of the operation, in their order.
pub(super) fn headers<'n>(file: &ProxyFile<'n>) -> Vec<(HeaderName, &'n Entry)> {
    let defaults = file.defaults.as_ref();
    let defaults = defaults.and_then(|table| table.open_said("defaultHeaders"));
    let own = file
        .find
        .as_ref()
        .and_then(|find| find.open_said("headers"));
    let mut headers = Vec::new();
    for entry in [defaults, own].iter().flatten().flat_map(Table::entries) {
        match HeaderName::from_bytes(entry.key.as_bytes()) {
            Ok(name) if is_connection_header(&name) => {}
            Ok(name) if is_scalar(&entry.node) => headers.push((name, entry)),
            Ok(_) => file.faults.add(&entry.place, "must be a text"),
            Err(_) => file.faults.add(&entry.place, "is not the name of a header"),
        }
    }
    headers
}

pub(super) fn is_connection_header(name: &HeaderName) -> bool {
    is_of_connection(name.as_str()) || matches!(name.as_str(), "expect" | "user-agent")
}

fn is_scalar(node: &Node) -> bool {
    !matches!(node.value, NodeValue::List(_) | NodeValue::Table(_))
}

/// Whether a header contains the caller's credential or the configuration's secret.
pub(super) fn is_credential(node: &Node) -> bool {
    let NodeValue::Text(text) = &node.value else {
        return false;
    };
    let template = ProxyTemplate::parse(text);
    let is_secret = |path: &Path| {
        matches!(
            Variable::of(path),
            Ok(Variable::Key | Variable::Header | Variable::Secret)
        )
    };
    template.slots().any(is_secret)
}
