//! Which redirects leave a request unchanged.
//!
//! RFC 9110, 15.4: 307 and 308 ask for the same method and body at another place. 301 and 302 allow
//! a client to turn a POST into a GET, and 303 requires it. The reply to that does not answer the
//! query in the body. So a POST follows only 307 and 308. A GET remains a GET after all of them.

use http::StatusCode;

use super::request::ReadMethod;

/// Returns whether the request stays the same if it follows this redirect.
pub(super) fn keeps_request(method: ReadMethod, status: StatusCode) -> bool {
    match method {
        ReadMethod::Get => true,
        ReadMethod::ReadByPost => matches!(
            status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        ),
    }
}
