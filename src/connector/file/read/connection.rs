//! Headers that no file sets: those of the connection, of the body, and of the credential.

use http::header::HeaderName;

/// Headers of the connection. They are the HTTP client's.
const CONNECTION: [&str; 11] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "accept-encoding",
];

/// Whether it is one of the connection. The name is in lower case.
pub(super) fn is_of_connection(name: &str) -> bool {
    CONNECTION.contains(&name)
}

/// Whether it makes a GET or a POST something else.
pub(super) fn overrides_method(name: &HeaderName) -> bool {
    let names = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ];
    names.contains(&name.as_str())
}

/// Whether a file may not set it outside of `[auth]`. The name is in lower case.
pub(super) fn is_own(name: &str) -> bool {
    is_of_connection(name) || ["authorization", "cookie", "content-type"].contains(&name)
}
