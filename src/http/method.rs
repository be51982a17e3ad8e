//! The methods of the service, and how long their callers wait.

use std::time::Duration;

use http::HeaderMap;

use super::text;
use crate::api::{RequestKind, Violation};

/// The header with the client's time limit in milliseconds.
pub(super) const TIMEOUT: &str = "connect-timeout-ms";

/// A method of `contactd.v1.ContactService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Find,
    Watch,
    Prefetch,
    Invalidate,
    Explain,
}

impl Method {
    /// The method with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [
            Self::Find,
            Self::Watch,
            Self::Prefetch,
            Self::Invalidate,
            Self::Explain,
        ]
        .into_iter()
        .find(|method| method.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Find => "FindContact",
            Self::Watch => "WatchContact",
            Self::Prefetch => "PrefetchContacts",
            Self::Invalidate => "InvalidateContacts",
            Self::Explain => "ExplainContact",
        }
    }

    pub(super) fn kind(self) -> RequestKind {
        RequestKind::of_method(self.name())
    }

    /// Whether it answers with a stream of messages.
    pub(super) fn is_stream(self) -> bool {
        self.kind().is_stream()
    }

    /// `idempotency_level` in the proto: it may be called by GET.
    pub(super) fn has_no_side_effects(self) -> bool {
        self == Self::Find
    }
}

/// How long the client waits: up to ten digits, in milliseconds.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Violation> {
    if !headers.contains_key(TIMEOUT) {
        return Ok(None);
    }
    text(headers, TIMEOUT)
        .and_then(millis)
        .map(Some)
        .ok_or_else(|| Violation::new(TIMEOUT, "is not a number of milliseconds"))
}

/// A time limit in milliseconds.
pub(super) fn millis(digits: &str) -> Option<Duration> {
    let is_number = (1..=10).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let millis = is_number.then(|| digits.parse().ok()).flatten();
    millis.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb;

    #[test]
    fn the_methods_are_those_of_the_proto() {
        let pool = prost_reflect::DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
        let service = pool
            .get_service_by_name("contactd.v1.ContactService")
            .unwrap();
        for rpc in service.methods() {
            let method = Method::named(rpc.name()).unwrap();
            assert_eq!(method.is_stream(), rpc.is_server_streaming());
            let options = rpc.method_descriptor_proto().options.clone();
            let level = options.unwrap_or_default().idempotency_level;
            assert_eq!(method.has_no_side_effects(), level == Some(1), "{level:?}");
        }
        assert_eq!(Method::named("findContact"), None);
    }

    #[test]
    fn a_time_limit_is_up_to_ten_digits() {
        for (digits, read) in [
            ("0", Some(0)),
            ("1500", Some(1500)),
            ("9999999999", Some(9_999_999_999)),
            ("10000000000", None),
            ("", None),
            ("1.5", None),
            ("-1", None),
            ("+1", None),
            ("1s", None),
        ] {
            assert_eq!(millis(digits), read.map(Duration::from_millis), "{digits}");
        }
    }
}
