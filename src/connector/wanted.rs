//! What `[key=value]` of a path compares with: a text, or a name that stands for one.

use std::str::FromStr;

/// The value in `[key=value]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Text(String),
    /// The current value of `{{for.NAME}}`.
    For(String),
    /// The user's setting of `{{setting.NAME}}`.
    Setting(String),
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a path: {0}")]
pub(crate) struct PathError(pub(super) &'static str);

/// What the names in `[key={{…}}]` stand for.
pub(super) trait PathNames {
    /// The texts that a name stands for. A member that equals one of them matches.
    fn texts(&self, wanted: &Wanted) -> Vec<String>;
}

/// No names.
pub(super) struct NoNames;

impl PathNames for NoNames {
    fn texts(&self, wanted: &Wanted) -> Vec<String> {
        match wanted {
            Wanted::Text(text) => vec![text.clone()],
            Wanted::For(_) | Wanted::Setting(_) => Vec::new(),
        }
    }
}

impl Wanted {
    /// The setting, if it is one.
    pub(super) fn setting(&self) -> Option<&str> {
        match self {
            Self::Setting(name) => Some(name),
            Self::Text(_) | Self::For(_) => None,
        }
    }
}

impl FromStr for Wanted {
    type Err = PathError;

    fn from_str(value: &str) -> Result<Self, PathError> {
        let Some(slot) = value.strip_prefix("{{") else {
            return Ok(Self::Text(value.to_owned()));
        };
        let name = slot.strip_suffix("}}").map(str::trim).unwrap_or_default();
        if let Some(name) = name.strip_prefix("for.") {
            Ok(Self::For(name.to_owned()))
        } else if let Some(name) = name.strip_prefix("setting.") {
            Ok(Self::Setting(name.to_owned()))
        } else {
            Err(PathError(
                "only {{for.NAME}} or {{setting.NAME}} may be used here",
            ))
        }
    }
}
