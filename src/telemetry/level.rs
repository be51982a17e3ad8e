//! What is logged, and the handle that changes it at run time.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::reload;

/// The target of the lines about look-ups, as the module `api` writes them.
const LOOKUPS: &str = "contactd::lookups";

/// What is logged: a level of contactd's own lines, or `tracing` directives (`info`,
/// `contactd=debug`).
///
/// A level alone leaves the libraries at `info`: at `debug` they log host names and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(String);

/// The text is neither a level nor directives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is neither a level (error, warn, info, debug, trace) nor directives such as \"contactd=debug\": {0}"
)]
pub struct NotALevel(String);

impl Default for Level {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Level {
    type Err = NotALevel;

    fn from_str(text: &str) -> Result<Self, NotALevel> {
        // A word that is not a level would be read as the name of a library, and only that library
        // would be logged.
        let is_word = text.chars().all(|c| !matches!(c, '=' | ',' | '[' | ':'));
        if text.is_empty() || (is_word && text.parse::<LevelFilter>().is_err()) {
            return Err(NotALevel("it is no level".to_owned()));
        }
        EnvFilter::try_new(text)
            .map(|_| Self(text.to_owned()))
            .map_err(|error| NotALevel(error.to_string()))
    }
}

impl Level {
    /// The filter of this level. The lines about look-ups are on or off whatever the level is.
    pub(super) fn filter(&self, lookups: bool) -> EnvFilter {
        let lookups = if lookups { "info" } else { "off" };
        EnvFilter::new(format!("{},{LOOKUPS}={lookups}", self.directives()))
    }

    fn is_more_than_info(&self) -> bool {
        let level = self.0.parse::<tracing::Level>();
        level.is_ok_and(|level| level > tracing::Level::INFO)
    }

    fn directives(&self) -> String {
        // It was parsed before, so nothing of it is left out.
        if self.is_more_than_info() {
            format!("info,contactd={}", self.0)
        } else {
            self.0.clone()
        }
    }
}

/// Changes what is logged.
pub struct Volume {
    reload: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
    /// The level of the command line, which takes precedence.
    fixed: Option<Level>,
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Volume(…)")
    }
}

impl Volume {
    pub(super) fn over<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> Self {
        Self {
            reload: Box::new(move |filter| handle.reload(filter).is_ok()),
            fixed: None,
        }
    }

    /// The same with a level that [`Self::set`] does not change.
    #[must_use]
    pub(crate) fn fixed_at(self, level: Option<Level>) -> Self {
        Self {
            fixed: level,
            ..self
        }
    }

    /// Returns whether the level cannot change.
    #[must_use]
    pub(crate) fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// From now on applies this level, unless it is fixed, and logs look-ups or not.
    pub(crate) fn set(&self, level: &Level, lookups: bool) {
        let level = self.fixed.as_ref().unwrap_or(level);
        // Fails only if the lines go elsewhere: another start in this process came first.
        (self.reload)(level.filter(lookups));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_leaves_libraries_at_info() {
        let filter = |text: &str| {
            text.parse::<Level>()
                .map(|level| EnvFilter::new(level.directives()).to_string())
        };
        assert_eq!(filter("warn").unwrap(), "warn");
        let debug = filter("DEBUG").unwrap();
        assert!(
            debug.contains("info") && debug.contains("contactd=debug"),
            "{debug}"
        );
        assert_eq!(filter("h2=trace").unwrap(), "h2=trace");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in ["", " ", "loud", "contactd=loud"] {
            assert!(text.parse::<Level>().is_err(), "{text:?}");
        }
    }
}
