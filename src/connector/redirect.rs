//! Which redirects keep a request what it is.
//!
//! RFC 9110, 15.4: 307 and 308 ask for the same method and body at another place. 301 and 302 let a
//! client turn a POST into a GET, and 303 asks for that: what comes back then is no answer to the
//! query in the body. So a POST follows 307 and 308 only. A GET is a GET after all of them.

use http::StatusCode;

use super::request::Method;

/// Whether the request stays the same by following this redirect.
pub(super) fn keeps_request(method: Method, status: StatusCode) -> bool {
    match method {
        Method::Get => true,
        Method::ReadByPost => matches!(
            status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        ),
    }
}
