//! Names in slots: which there are, and where each exists.

use std::fmt;

use super::slot_error::SlotError;
use crate::connector::path::Path;
use crate::domain::Spelling;

/// What a slot names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Name {
    /// The number in a spelling.
    Number(Spelling),
    /// All numbers of the request in a spelling.
    Numbers(Spelling),
    /// The spelling that is asked for now.
    Text,
    /// All spellings of all numbers.
    Texts,
    /// A value of the contact whose details are loaded.
    Record(Path),
    /// Values of all contacts whose details are loaded.
    Records(Path),
    Host,
    HostLabel,
    Setting(String),
    /// A field of `platform_additional_info`, and the path below it.
    Info(String, Path),
    For(String),
    /// What a request before took from its reply.
    Before(String),
    /// A secret of the settings.
    Secret(String),
    /// The token that the connector fetches.
    Token,
    /// The caller's header without its scheme.
    Credential,
    /// The caller's header as it came.
    Header,
    /// A path in the record or row that is mapped.
    Own(Path),
}

/// Where a template stands, which decides the names that exist there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site<'a> {
    /// The base address.
    Base,
    /// A header of the credential.
    Auth,
    /// The first request of a look-up; the names of `before`.
    Search(&'a [String]),
    /// A request for details; the names of `before`.
    Details(&'a [String]),
    /// A request that asks whose the credential is.
    WhoAmI,
    /// A field of a record, or of a choice.
    Record,
}

impl Name {
    /// Parses a name that exists at the site.
    pub(super) fn parse(source: &str, site: Site<'_>) -> Result<Self, SlotError> {
        name_of(source, site)
    }
}

fn name_of(source: &str, site: Site<'_>) -> Result<Name, SlotError> {
    let path =
        |text: &str| Path::parse(text).map_err(|why| SlotError::Path(source.to_owned(), why));
    let name = match source.split_once('.') {
        Some(("number", view)) => Name::Number(spelling(view)?),
        Some(("numbers", view)) => Name::Numbers(spelling(view)?),
        Some(("record", below)) => Name::Record(path(below)?),
        Some(("records", below)) => Name::Records(path(below)?),
        Some(("setting", name)) => Name::Setting(name.to_owned()),
        Some(("for", name)) => Name::For(name.to_owned()),
        Some(("secret", name)) => Name::Secret(name.to_owned()),
        Some(("info", below)) => {
            let named = path(below)?.split_first_key();
            let (field, below) = named.ok_or_else(|| unknown(source, site))?;
            Name::Info(field, below)
        }
        Some(("host", "label")) => Name::HostLabel,
        _ => match source {
            "text" => Name::Text,
            "texts" => Name::Texts,
            "host" => Name::Host,
            "credential" => Name::Credential,
            "token" => Name::Token,
            "header" => Name::Header,
            _ => Name::Own(path(source)?),
        },
    };
    // In a record every other name is one of the record's own fields.
    match (site.has(&name), site) {
        (Some(name), _) => Ok(name),
        (None, Site::Record) => Ok(Name::Own(path(source)?)),
        (None, _) => Err(unknown(source, site)),
    }
}

fn unknown(source: &str, site: Site<'_>) -> SlotError {
    SlotError::UnknownName(source.to_owned(), site.names())
}

fn spelling(view: &str) -> Result<Spelling, SlotError> {
    let view = view.trim_matches('"');
    let known = Spelling::parse(view).filter(|spelling| *spelling != Spelling::Formats);
    known.ok_or_else(|| SlotError::Spelling(view.to_owned()))
}

impl Site<'_> {
    /// The name as it is meant here, if it exists here.
    fn has(self, name: &Name) -> Option<Name> {
        let is_info = matches!(name, Name::Info(..) | Name::Host | Name::HostLabel);
        let is_user = is_info || matches!(name, Name::Setting(_) | Name::For(_));
        let before = |names: &[String]| match name {
            Name::Own(path) if names.contains(&path.to_string()) => {
                Some(Name::Before(path.to_string()))
            }
            _ => None,
        };
        let is_number = matches!(
            name,
            Name::Number(_) | Name::Numbers(_) | Name::Text | Name::Texts
        );
        let is_record = matches!(name, Name::Record(_) | Name::Records(_));
        let exists = match self {
            Self::Base => is_info,
            Self::Auth => {
                let is_secret = matches!(name, Name::Secret(_) | Name::Token);
                is_info || is_secret || matches!(name, Name::Credential | Name::Header)
            }
            Self::Search(_) => is_user || is_number,
            Self::Details(_) => is_user || is_number || is_record,
            Self::WhoAmI => is_user,
            Self::Record => matches!(name, Name::Setting(_) | Name::For(_) | Name::Own(_)),
        };
        match self {
            Self::Search(names) | Self::Details(names) => {
                before(names).or_else(|| exists.then(|| name.clone()))
            }
            _ => exists.then(|| name.clone()),
        }
    }

    /// The names that exist here, for a person.
    fn names(self) -> String {
        match self {
            Self::Base => "there are host, host.label and info.NAME".to_owned(),
            Self::Auth => {
                "there are secret.NAME, info.NAME, credential, header, host, and token with [auth.token]".to_owned()
            }
            Self::Search(_) => "there are number.VIEW, text, numbers.VIEW, texts, host, setting.NAME, \
                 info.NAME, for.NAME and names from before".to_owned(),
            Self::Details(_) => "there are record.PATH, records.PATH, number.VIEW, text, host, setting.NAME, \
                 info.NAME, for.NAME and names from before".to_owned(),
            Self::WhoAmI => "there are host, setting.NAME and info.NAME".to_owned(),
            Self::Record => "there are paths of the record, setting.NAME and for.NAME".to_owned(),
        }
    }
}

impl Name {
    /// Whether its value may be a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Numbers(_) | Self::Texts | Self::Records(_) | Self::Before(_)
        )
    }

    /// Whether it speaks of the number that is looked up.
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Number(_) | Self::Numbers(_) | Self::Text | Self::Texts
        )
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(spelling) => write!(f, "number.{spelling}"),
            Self::Numbers(spelling) => write!(f, "numbers.{spelling}"),
            Self::Text => f.write_str("text"),
            Self::Texts => f.write_str("texts"),
            Self::Record(path) => write!(f, "record.{path}"),
            Self::Records(path) => write!(f, "records.{path}"),
            Self::Host => f.write_str("host"),
            Self::HostLabel => f.write_str("host.label"),
            Self::Setting(name) => write!(f, "setting.{name}"),
            // The path was cut from the whole name.
            Self::Info(_, path) => write!(f, "info.{path}"),
            Self::For(name) => write!(f, "for.{name}"),
            Self::Before(name) => f.write_str(name),
            Self::Secret(name) => write!(f, "secret.{name}"),
            Self::Token => f.write_str("token"),
            Self::Credential => f.write_str("credential"),
            Self::Header => f.write_str("header"),
            Self::Own(path) => write!(f, "{path}"),
        }
    }
}
