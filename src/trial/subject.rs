//! What is tried: a connector file, or a built-in connector by its name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;

use crate::connector::{
    Connector, Reached, Secrets, Sheet, SpecFault, SpecKind, built_in, embedded, kinds, read_spec,
};

/// A connector, and where it came from.
#[derive(Clone)]
pub(crate) struct Subject {
    /// The file, or the name of a built-in connector.
    pub(crate) name: String,
    pub(super) connector: Arc<dyn Connector>,
}

/// Why there is no connector.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubjectError {
    #[error("{name}: {why}")]
    Unreadable { name: String, why: String },
    #[error("{}", all_of(.0))]
    Faulty(Vec<FaultText>),
    #[error(
        "\"{0}\" is neither a file nor a built-in connector; `contactd connector list` shows these"
    )]
    Unknown(String),
}

/// Something wrong in a connector file.
#[derive(Debug)]
pub(crate) struct FaultText {
    /// The keys that lead to the place; empty for the whole file.
    pub(crate) key: String,
    pub(crate) message: String,
    /// Line and column, counted from 1.
    pub(crate) position: Option<(usize, usize)>,
    /// All of it for a person, with a caret.
    pub(crate) shown: String,
}

impl Subject {
    /// What the connector is and what it costs.
    pub(crate) fn sheet(&self) -> Sheet {
        let mut sheet = self.connector.sheet();
        if sheet.about.name.is_empty() {
            sheet.about.name.clone_from(&self.name);
        }
        sheet
    }

    /// The connector, if it can find anybody.
    ///
    /// # Errors
    /// That App Connect's configuration has no search.
    pub(crate) fn with_search(self) -> Result<Self, SubjectError> {
        if self.sheet().has_search() {
            return Ok(self);
        }
        let fault = SpecFault::of_file(
            "finds nobody: it needs operations.findContact with a responseMapping",
        );
        Err(faulty(&self.name, &[fault], ""))
    }

    /// Reads a connector file, or takes a built-in connector.
    ///
    /// # Errors
    /// Every fault of the file.
    pub(crate) fn load(
        name: &str,
        secrets: Option<&BTreeMap<String, SecretString>>,
    ) -> Result<Self, SubjectError> {
        let secrets = secrets.map_or(Secrets::Any, Secrets::Given);
        let connector = if is_file(name) {
            from_file(name, secrets)
        } else {
            from_built_in(name, secrets)
        };
        Ok(Self {
            name: name.to_owned(),
            connector: connector?,
        })
    }

    /// Every place of a reply that the connector reads.
    pub(super) fn reached(&self) -> Vec<Reached> {
        self.connector.reached()
    }

    /// Whether users name a host that only some of them have.
    pub(super) fn has_open_hosts(&self) -> bool {
        let mut hosts = self.connector.profile().hosts.iter();
        hosts.any(|pattern| pattern.to_string().starts_with("*."))
    }

    /// The kind that the settings of a connector file have. `None` for a built-in connector.
    pub(crate) fn file_kind(name: &str) -> Option<&'static str> {
        is_file(name).then(|| match language_of(name) {
            SpecKind::File => "file",
            SpecKind::Proxy => "proxy",
        })
    }

    /// The names of the built-in connectors.
    pub(crate) fn built_in() -> impl Iterator<Item = &'static str> {
        kinds()
    }
}

/// Why a text file could not be read.
pub(crate) fn unread(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => "it is not UTF-8 text; save it as UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

fn from_file(name: &str, secrets: Secrets<'_>) -> Result<Arc<dyn Connector>, SubjectError> {
    let source = fs::read_to_string(name).map_err(|why| SubjectError::Unreadable {
        name: name.to_owned(),
        why: unread(&why),
    })?;
    match read_spec(language_of(name), &source, secrets) {
        Ok(connector) => Ok(connector),
        Err(faults) => Err(faulty(name, &faults, &source)),
    }
}

fn from_built_in(name: &str, secrets: Secrets<'_>) -> Result<Arc<dyn Connector>, SubjectError> {
    let source = embedded(name).unwrap_or_default();
    let connector = built_in(name, secrets);
    let connector = connector.ok_or_else(|| SubjectError::Unknown(name.to_owned()))?;
    connector.map_err(|faults| faulty(name, &faults, source))
}

/// Whether the word means a file. A built-in name is a file only with its path.
fn is_file(name: &str) -> bool {
    name.contains(std::path::is_separator)
        || has_ending(name, "toml")
        || has_ending(name, "json")
        || (embedded(name).is_none() && Path::new(name).is_file())
}

fn has_ending(name: &str, ending: &str) -> bool {
    let found = Path::new(name).extension();
    found.is_some_and(|found| found == ending)
}

fn language_of(name: &str) -> SpecKind {
    if has_ending(name, "json") {
        SpecKind::Proxy
    } else {
        SpecKind::File
    }
}

fn faulty(name: &str, faults: &[SpecFault], source: &str) -> SubjectError {
    let fault = |fault: &SpecFault| FaultText {
        key: fault.key().to_owned(),
        message: fault.message().to_owned(),
        position: fault.position(source),
        shown: format!("{name}: {}", fault.explain(source)),
    };
    SubjectError::Faulty(faults.iter().map(fault).collect())
}

fn all_of(faults: &[FaultText]) -> String {
    let shown: Vec<&str> = faults.iter().map(|fault| fault.shown.as_str()).collect();
    shown.join("\n\n")
}
