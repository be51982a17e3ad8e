//! What a gRPC request's headers say: who calls, how long it waits, and its trace.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tonic::Extensions;

use crate::api::{ContactApi, RequestContext};
use crate::clients::{Client, LoginAccess};
use crate::trace::Span;

/// The span of a request.
pub(super) fn span(api: &ContactApi, method: &'static str, headers: &HeaderMap) -> Span {
    api.span(method, |name| headers.get(name)?.to_str().ok())
}

/// What is known of a request besides its message.
pub(super) fn context(headers: &HeaderMap, extensions: &Extensions, span: Span) -> RequestContext {
    let client = extensions.get::<Arc<Client>>().cloned();
    let access = match client {
        Some(_) => LoginAccess::Granted,
        None => extensions.get().copied().unwrap_or_default(),
    };
    RequestContext::new(client, access, timeout(headers), span)
}

/// How long the client waits (`grpc-timeout`). tonic would then end the call as CANCELLED.
/// [`RequestContext`] answers just before, so that the client gets the contract's
/// DEADLINE_EXCEEDED.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (amount, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u32 = amount.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_a_call_is_read_in_all_its_units() {
        let read = |text: &'static str| {
            let mut metadata = HeaderMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(read("50m"), Some(Duration::from_millis(50)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1000000u"), Some(Duration::from_secs(1)));
        assert_eq!(read("30n"), Some(Duration::from_nanos(30)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for text in ["", "S", "5", "5x", "-1S", "1.5S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
