//! The CRMs that are compiled in.

use std::sync::Arc;

use super::{Connector, clio, example, pipedrive};

/// A CRM's name in the settings, and its connector.
type BuiltIn = (&'static str, fn() -> Arc<dyn Connector>);

const BUILT_IN: [BuiltIn; 3] = [
    ("example", || Arc::new(example::ExampleConnector::new())),
    ("pipedrive", || Arc::new(pipedrive::Pipedrive::new())),
    ("clio", || Arc::new(clio::Clio::new())),
];

/// The names of the built-in CRMs, as the settings' `kind`.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

#[must_use]
pub(crate) fn built_in(kind: &str) -> Option<Arc<dyn Connector>> {
    let (_, make) = BUILT_IN.iter().find(|(name, _)| *name == kind)?;
    Some(make())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_connector_has_a_sound_profile() {
        for kind in kinds() {
            let profile = Arc::clone(built_in(kind).unwrap().profile());
            assert!(!profile.spellings.is_empty(), "{kind}");
            assert_eq!(profile.numbers_at_once.get(), 1, "{kind}");
            assert!(profile.reads_by_post.is_empty(), "{kind} only sends GET");
        }
        assert!(built_in("sheets").is_none());
    }
}
