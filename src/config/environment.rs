//! The environment: which variables are settings, and which only look like settings.
//!
//! Handles the names that begin with `CONTACTD`. A variable without a meaning is reported. No value
//! is shown.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::section::ENV_PREFIX;

/// Variables of commands, builds and tests. They are not settings of the daemon.
const KNOWN: [&str; 12] = [
    "CONTACTD_AUTH_HEADER",
    "CONTACTD_SERVER",
    "CONTACTD_OPS",
    "CONTACTD_TOKEN",
    "CONTACTD_TOKEN_FILE",
    "CONTACTD_CA_FILE",
    "CONTACTD_CERT_FILE",
    "CONTACTD_KEY_FILE",
    "CONTACTD_LOG",
    "CONTACTD_LOG_FORMAT",
    "CONTACTD_REVISION",
    "CONTACTD_BLESS",
];

/// The message about a variable without a meaning.
pub(super) const STRAY: &str = "is an environment variable that means nothing here; settings are written with two \
                                underscores, such as CONTACTD__CACHE__MEMORY";

/// Environment variables that are settings, or look like them.
#[must_use]
pub(crate) fn environment() -> BTreeMap<String, String> {
    let texts = std::env::vars_os().filter_map(as_text);
    texts
        .filter(|(name, _)| name.starts_with(ENV_PREFIX) || is_stray(name))
        .collect()
}

fn as_text((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// Returns whether a variable looks like a setting but is not.
pub(super) fn is_stray(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.starts_with("CONTACTD_")
        && !name.starts_with(ENV_PREFIX)
        && !KNOWN.contains(&name)
        && !is_of_kubernetes(name)
}

/// Kubernetes sets variables like these for each service in the pods of a namespace:
/// `CONTACTD_SERVICE_HOST`, `CONTACTD_PORT`, `CONTACTD_PORT_50051_TCP_ADDR`.
fn is_of_kubernetes(name: &str) -> bool {
    let is_of_service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_");
    is_of_service || name.ends_with("_PORT") || is_of_port(name)
}

/// Whether it is about one port, as `…_PORT_50051_TCP_ADDR` is.
fn is_of_port(name: &str) -> bool {
    let port = name.split_once("_PORT_").map(|(_, port)| port);
    port.is_some_and(|port| port.is_empty() || port.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_setting_and_is_none_is_noticed() {
        for stray in [
            "CONTACTD_CACHE__MEMORY",
            "CONTACTD_REDIS_URL",
            "contactd__cache__memory",
            "CONTACTD_LOGLEVEL",
        ] {
            assert!(is_stray(stray), "{stray}");
        }
        for fine in [
            "CONTACTD__CACHE__MEMORY",
            "CONTACTD__CACHE__MEMROY",
            "CONTACTD_LOG",
            "CONTACTD_TOKEN",
            "CONTACTD_SERVER",
            "CONTACTD_OPS",
            "CONTACTD_CA_FILE",
            "CONTACTD",
            "PATH",
            "CONTACTD_SERVICE_HOST",
            "CONTACTD_SERVICE_PORT_GRPC",
            "CONTACTD_PORT",
            "CONTACTD_HEADLESS_PORT_50051_TCP_ADDR",
        ] {
            assert!(!is_stray(fine), "{fine}");
        }
    }
}
