//! Where a CRM is: the base address of all calls on behalf of one user.
//!
//! The address comes from the profile and from what the caller sent. Whatever the caller sends, the
//! address is `https` on a host that the operator allows, on the standard port.

use url::Url;

use super::hosts::HostPattern;
use crate::domain::{Host, User};

/// Where a CRM is.
#[derive(Debug, Clone)]
pub(crate) enum BaseForm {
    /// At the host that the user names.
    Host,
    /// At an address made of pieces.
    Pieces(Vec<BasePiece>),
}

/// A piece of an address.
#[derive(Debug, Clone)]
pub(crate) enum BasePiece {
    Text(String),
    /// Fixed text with a host that the settings must allow.
    Elsewhere(String),
    /// The host that the user names.
    Host,
    /// The first label of that host.
    HostLabel,
    /// A field of `platform_additional_info`, and the keys below it.
    Info(String, Vec<String>),
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BaseError {
    /// The user does not name a host.
    #[error("is required: the platform has no base_url")]
    NoHost,
    /// A field is missing.
    #[error("has no string in \"{0}\", which this CRM's address is made of")]
    NoInfo(String),
    /// The pieces do not make an address.
    #[error(
        "must make an https:// address without a port, a user or a query; any other address of the CRM goes \
         into base_url of the settings"
    )]
    NoAddress,
    /// The host is not allowed.
    #[error("is not among the platform's allowed_hosts")]
    NotAllowed,
}

impl BaseError {
    /// The field of the request that is to blame.
    #[must_use]
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::NoHost => "user.hostname",
            Self::NoInfo(_) | Self::NoAddress | Self::NotAllowed => "user.platform_additional_info",
        }
    }
}

impl BaseForm {
    /// One address for all users.
    #[must_use]
    pub(crate) fn fixed(address: &str) -> Self {
        Self::Pieces(vec![BasePiece::Text(address.to_owned())])
    }

    /// The address that these pieces make.
    #[must_use]
    pub(crate) fn of_pieces(pieces: Vec<BasePiece>) -> Self {
        match pieces.as_slice() {
            [BasePiece::Text(text), BasePiece::Host] if text == "https://" => Self::Host,
            _ => Self::Pieces(pieces),
        }
    }

    /// Whether the list of allowed hosts decides about the address: users name a part of it, or it
    /// is a fixed address that the settings must allow.
    #[must_use]
    pub(crate) fn is_named(&self) -> bool {
        match self {
            Self::Host => true,
            Self::Pieces(pieces) => !pieces
                .iter()
                .all(|piece| matches!(piece, BasePiece::Text(_))),
        }
    }

    /// The host of a fixed address that the settings must allow, if there is one.
    #[must_use]
    pub(crate) fn host_elsewhere(&self) -> Option<Host> {
        let Self::Pieces(pieces) = self else {
            return None;
        };
        match pieces.as_slice() {
            [BasePiece::Elsewhere(text)] => Host::parse(Url::parse(text).ok()?.host_str()?),
            _ => None,
        }
    }

    /// Whether the address needs the host that the user names.
    #[must_use]
    pub(crate) fn reads_host(&self) -> bool {
        match self {
            Self::Host => true,
            Self::Pieces(pieces) => pieces
                .iter()
                .any(|piece| matches!(piece, BasePiece::Host | BasePiece::HostLabel)),
        }
    }

    /// The host of a fixed address in the connector file.
    pub(super) fn fixed_host(&self) -> Option<String> {
        let Self::Pieces(pieces) = self else {
            return None;
        };
        let [BasePiece::Text(address)] = pieces.as_slice() else {
            return None;
        };
        let url = Url::parse(address).ok()?;
        url.host_str().map(str::to_owned)
    }

    /// The address for a user.
    ///
    /// # Errors
    /// [`BaseError`] with the reason, without the value.
    pub(crate) fn address(&self, user: &User, allowed: &[HostPattern]) -> Result<Url, BaseError> {
        let Self::Pieces(pieces) = self else {
            // A host is only taken if it is allowed.
            let address = format!("https://{}", host_of(user)?);
            return Url::parse(&address).map_err(|_| BaseError::NoAddress);
        };
        let mut address = String::new();
        for piece in pieces {
            let text = piece.text(user)?;
            // Within an address a value is a part of its host or one segment.
            if matches!(piece, BasePiece::Info(..))
                && !address.is_empty()
                && text.contains(['/', ':'])
            {
                return Err(BaseError::NoAddress);
            }
            address.push_str(text);
        }
        allowed_address(&address, allowed, self.is_named())
    }
}

impl BasePiece {
    fn text<'a>(&'a self, user: &'a User) -> Result<&'a str, BaseError> {
        match self {
            Self::Text(text) | Self::Elsewhere(text) => Ok(text),
            Self::Host => host_of(user),
            Self::HostLabel => {
                let label = host_of(user)?.split('.').next();
                Ok(label.unwrap_or_default())
            }
            Self::Info(name, below) => {
                let text = user.info.text(name, below);
                text.ok_or_else(|| BaseError::NoInfo(name.clone()))
            }
        }
    }
}

fn host_of(user: &User) -> Result<&str, BaseError> {
    let host = user.host.as_ref().map(Host::as_str);
    host.ok_or(BaseError::NoHost)
}

/// The address, if it needs nothing of the caller.
///
/// # Errors
/// [`BaseError::NoAddress`].
pub(crate) fn fixed_address(address: &str) -> Result<Url, BaseError> {
    allowed_address(address, &[], false)
}

/// The address as a URL, if it is on an allowed host. `is_named`: see [`BaseForm::is_named`]; other
/// addresses need no list.
fn allowed_address(
    address: &str,
    allowed: &[HostPattern],
    is_named: bool,
) -> Result<Url, BaseError> {
    // A backslash and control characters are read as other characters by URL parsers.
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '@' | '?' | '#' | '%');
    if !address.chars().all(is_plain) {
        return Err(BaseError::NoAddress);
    }
    let url = Url::parse(address).map_err(|_| BaseError::NoAddress)?;
    let is_simple = url.scheme() == "https" && url.port().is_none();
    let has_dots = address
        .split('/')
        .any(|segment| matches!(segment, "." | ".."));
    let host = url.host_str().and_then(Host::parse);
    let host = host
        .filter(|_| is_simple && !has_dots)
        .ok_or(BaseError::NoAddress)?;
    let is_allowed = !is_named || allowed.iter().any(|pattern| pattern.matches(&host));
    is_allowed.then_some(url).ok_or(BaseError::NotAllowed)
}
