//! The CRMs that this program knows: the Example CRM, and the embedded connector files.

use std::sync::Arc;

use super::Connector;
use super::example::ExampleConnector;
use super::file::{Secrets, SpecFault, SpecKind, read_spec};

/// The connector of the Example CRM, the only one in Rust.
const EXAMPLE: &str = "example";

/// A file of `deploy/connectors`.
macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../deploy/connectors/", $name, ".toml")),
        )
    };
}

/// The embedded files by name, in the order of the alphabet.
const EMBEDDED: &[(&str, &str)] = &[
    file!("activecampaign"),
    file!("attio"),
    file!("bullhorn"),
    file!("clio"),
    file!("close"),
    file!("copper"),
    file!("dynamics"),
    file!("freshdesk"),
    file!("gohighlevel"),
    file!("googlesheets"),
    file!("hubspot"),
    file!("insightly"),
    file!("intercom"),
    file!("keap"),
    file!("netsuite"),
    file!("odoo"),
    file!("pipedrive"),
    file!("redtail"),
    file!("salesforce"),
    file!("servicenow"),
    file!("suitecrm"),
    file!("vinsolutions"),
    file!("zendesk"),
    file!("zoho"),
];

/// The names of the CRMs, as the settings' `kind`.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    [EXAMPLE]
        .into_iter()
        .chain(EMBEDDED.iter().map(|(name, _)| *name))
}

/// The text of an embedded file.
#[must_use]
pub(crate) fn embedded(kind: &str) -> Option<&'static str> {
    let (_, text) = EMBEDDED.iter().find(|(name, _)| *name == kind)?;
    Some(text)
}

/// The connector of a CRM. `None` if there is none of that name.
///
/// # Errors
/// The faults of its file: secrets that the settings lack.
pub(crate) fn built_in(
    kind: &str,
    secrets: Secrets<'_>,
) -> Option<Result<Arc<dyn Connector>, Vec<SpecFault>>> {
    if kind == EXAMPLE {
        return Some(Ok(Arc::new(ExampleConnector::new())));
    }
    let connector = read_spec(SpecKind::File, embedded(kind)?, secrets);
    Some(connector.map(|connector| connector as Arc<dyn Connector>))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_connector_has_a_sound_profile() {
        let mut all_faults = String::new();
        for kind in kinds() {
            match built_in(kind, Secrets::Any).unwrap() {
                Ok(connector) => assert!(!connector.profile().spellings.is_empty(), "{kind}"),
                Err(faults) => {
                    for fault in faults {
                        let source = embedded(kind).unwrap();
                        all_faults.push_str(&format!("{kind}: {}\n", fault.explain(source)));
                    }
                }
            }
        }
        assert!(all_faults.is_empty(), "{all_faults}");
        assert!(built_in("sheets", Secrets::Any).is_none());
    }
}
