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
    /// What a `before` request took from its reply.
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
    /// A request of a search; the names that its `before` requests define.
    Search(&'a [String]),
    /// A request for details; the names that its `before` requests define.
    Details(&'a [String]),
    /// A request that asks whose credential it is.
    WhoAmI,
    /// A field of a record, or of a choice.
    Record,
}

impl Name {
    /// Parses a name that exists at the site.
    pub(super) fn parse(source: &str, site: Site<'_>) -> Result<Self, SlotError> {
        match site.meant(Self::anywhere(source, site)?) {
            Some(name) => Ok(name),
            // In a record every other name is one of the record's own fields.
            None if site == Site::Record => Self::own(source),
            None => Err(unknown(source, site)),
        }
    }

    /// The name, wherever it exists.
    fn anywhere(source: &str, site: Site<'_>) -> Result<Self, SlotError> {
        match Self::known(source, site)? {
            Some(name) => Ok(name),
            None => Self::own(source),
        }
    }

    /// The name, if it begins as those of the language do.
    fn known(source: &str, site: Site<'_>) -> Result<Option<Self>, SlotError> {
        let Some((kind, rest)) = source.split_once('.') else {
            return Ok(Self::word(source));
        };
        Ok(Some(match kind {
            "number" => Self::Number(spelling(rest)?),
            "numbers" => Self::Numbers(spelling(rest)?),
            "record" => Self::Record(path(rest, source)?),
            "records" => Self::Records(path(rest, source)?),
            "setting" => Self::Setting(rest.to_owned()),
            "for" => Self::For(rest.to_owned()),
            "secret" => Self::Secret(rest.to_owned()),
            "info" => {
                let named = path(rest, source)?.split_first_key();
                let (field, below) = named.ok_or_else(|| unknown(source, site))?;
                Self::Info(field, below)
            }
            "host" if rest == "label" => Self::HostLabel,
            _ => return Ok(None),
        }))
    }

    fn word(word: &str) -> Option<Self> {
        Some(match word {
            "text" => Self::Text,
            "texts" => Self::Texts,
            "host" => Self::Host,
            "credential" => Self::Credential,
            "token" => Self::Token,
            "header" => Self::Header,
            _ => return None,
        })
    }

    fn own(source: &str) -> Result<Self, SlotError> {
        path(source, source).map(Self::Own)
    }
}

/// The path in a name; `source` is the whole name.
fn path(text: &str, source: &str) -> Result<Path, SlotError> {
    Path::parse(text).map_err(|why| SlotError::Path(source.to_owned(), why))
}

fn unknown(source: &str, site: Site<'_>) -> SlotError {
    SlotError::UnknownName(source.to_owned(), site.names())
}

fn spelling(view: &str) -> Result<Spelling, SlotError> {
    let view = view.trim_matches('"');
    let known = Spelling::parse(view).filter(|spelling| *spelling != Spelling::Formats);
    known.ok_or_else(|| SlotError::Spelling(view.to_owned()))
}

impl<'a> Site<'a> {
    /// The name as it is meant here, if it exists here.
    fn meant(self, name: Name) -> Option<Name> {
        let text = name.to_string();
        if matches!(name, Name::Own(_)) && self.before().contains(&text) {
            return Some(Name::Before(text));
        }
        self.has(&name).then_some(name)
    }

    /// The names that `before` requests take.
    fn before(self) -> &'a [String] {
        match self {
            Self::Search(names) | Self::Details(names) => names,
            Self::Base | Self::Auth | Self::WhoAmI | Self::Record => &[],
        }
    }

    fn has(self, name: &Name) -> bool {
        match self {
            Self::Base => name.is_of_request(),
            Self::Auth => name.is_of_request() || name.is_secret(),
            Self::Search(_) => name.is_of_user() || name.is_number(),
            Self::Details(_) => name.is_of_user() || name.is_number() || name.is_record(),
            Self::WhoAmI => name.is_of_user(),
            Self::Record => matches!(name, Name::Setting(_) | Name::For(_) | Name::Own(_)),
        }
    }

    /// The names that exist here, for a person.
    fn names(self) -> &'static str {
        match self {
            Self::Base => "names: host, host.label and info.PATH",
            Self::Auth => {
                "names: secret.NAME, info.PATH, credential, header, host, host.label, and token \
                 with [auth.token]"
            }
            Self::Search(_) => {
                "names: number.VIEW, text, numbers.VIEW, texts, host, host.label, setting.NAME, \
                 info.PATH, for.NAME and names from before"
            }
            Self::Details(_) => {
                "names: record.PATH, records.PATH, number.VIEW, text, host, host.label, \
                 setting.NAME, info.PATH, for.NAME and names from before"
            }
            Self::WhoAmI => "names: host, host.label, setting.NAME and info.PATH",
            Self::Record => "names: paths of the record, setting.NAME and for.NAME",
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

    /// Whether the value comes with the client's request.
    fn is_of_request(&self) -> bool {
        matches!(self, Self::Info(..) | Self::Host | Self::HostLabel)
    }

    fn is_of_user(&self) -> bool {
        self.is_of_request() || matches!(self, Self::Setting(_) | Self::For(_))
    }

    fn is_secret(&self) -> bool {
        matches!(
            self,
            Self::Secret(_) | Self::Token | Self::Credential | Self::Header
        )
    }

    /// Whether it is a value of the contacts whose details are loaded.
    pub(super) fn is_record(&self) -> bool {
        self.record_path().is_some()
    }

    /// The path in the records of those contacts.
    pub(super) fn record_path(&self) -> Option<&Path> {
        match self {
            Self::Record(path) | Self::Records(path) => Some(path),
            _ => None,
        }
    }

    /// The name of a `for`.
    pub(super) fn for_name(&self) -> Option<&str> {
        match self {
            Self::For(name) => Some(name),
            _ => None,
        }
    }

    /// The name of a secret.
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::Secret(name) => Some(name),
            _ => None,
        }
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
        let (kind, rest): (&str, &dyn fmt::Display) = match self {
            Self::Number(spelling) => ("number.", spelling),
            Self::Numbers(spelling) => ("numbers.", spelling),
            Self::Record(path) => ("record.", path),
            Self::Records(path) => ("records.", path),
            Self::Setting(name) => ("setting.", name),
            // The path begins with the name of the field.
            Self::Info(_, path) => ("info.", path),
            Self::For(name) => ("for.", name),
            Self::Secret(name) => ("secret.", name),
            Self::Before(name) => ("", name),
            Self::Own(path) => ("", path),
            Self::Text => ("text", &""),
            Self::Texts => ("texts", &""),
            Self::Host => ("host", &""),
            Self::HostLabel => ("host.label", &""),
            Self::Token => ("token", &""),
            Self::Credential => ("credential", &""),
            Self::Header => ("header", &""),
        };
        write!(f, "{kind}{rest}")
    }
}
