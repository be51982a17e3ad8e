//! Which hosts a user may name.

use std::str::FromStr;

use crate::domain::Host;

/// A DNS name, or `*.` and a DNS name: any name below it, but not the name itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: Host,
    below: bool,
}

/// The text is no host pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a DNS name such as \"app.clio.com\" or \"*.pipedrive.com\"")]
pub struct HostPatternError;

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let below = text.strip_prefix("*.");
        let host = Host::parse(below.unwrap_or(text)).ok_or(HostPatternError)?;
        Ok(Self {
            host,
            below: below.is_some(),
        })
    }
}

impl HostPattern {
    /// Returns whether `host` matches the pattern.
    #[must_use]
    pub(crate) fn matches(&self, host: &Host) -> bool {
        if self.below {
            is_below(host.as_str(), self.host.as_str())
        } else {
            *host == self.host
        }
    }
}

impl HostPattern {
    /// Returns whether it stands for one name only.
    #[must_use]
    pub(crate) fn is_one_name(&self) -> bool {
        !self.below
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}{}",
            if self.below { "*." } else { "" },
            self.host.as_str()
        )
    }
}

/// Why a user's host is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    /// The connector has no base URL, so the user must give the host.
    #[error("is required: the platform has no base_url")]
    Missing,
    /// Not a DNS name.
    #[error("is not a DNS name; no port, path, user or IP address may be given")]
    NotAName,
    /// A name outside `allowed_hosts`.
    #[error("is not among the platform's allowed_hosts")]
    NotAllowed,
}

fn is_below(host: &str, domain: &str) -> bool {
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_names_below_it_only() {
        let pattern: HostPattern = "*.pipedrive.com".parse().unwrap();
        for (host, allowed) in [
            ("acme.pipedrive.com", true),
            ("a.b.pipedrive.com", true),
            ("ACME.PIPEDRIVE.COM", true),
            ("pipedrive.com", false),
            ("evilpipedrive.com", false),
            ("acme.pipedrive.com.evil.example", false),
            ("acme-pipedrive.com", false),
        ] {
            assert_eq!(
                pattern.matches(&Host::parse(host).unwrap()),
                allowed,
                "{host}"
            );
        }
        let exact: HostPattern = "app.clio.com".parse().unwrap();
        assert!(exact.matches(&Host::parse("app.clio.com").unwrap()));
        assert!(!exact.matches(&Host::parse("eu.app.clio.com").unwrap()));
    }

    #[test]
    fn patterns_that_would_allow_everything_are_refused() {
        for text in [
            "",
            "*",
            "*.",
            "*.com",
            "*.*.com",
            "a.*.com",
            "**.example.com",
            "https://a.example",
            "a.example:1",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        assert_eq!(
            "*.pipedrive.com"
                .parse::<HostPattern>()
                .unwrap()
                .to_string(),
            "*.pipedrive.com"
        );
    }
}
