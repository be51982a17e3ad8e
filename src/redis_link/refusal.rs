//! What an error reply of Redis means.
//!
//! Maps replies to a closed set of codes, which may be logged and counted. A reply's text may not,
//! because it may contain names of keys. A command that Redis does not know or permit has the same
//! code inside a script and outside.

use redis::{ErrorKind, RedisError};

/// The user may not use the command or the key.
const NO_PERMISSION: &str = "NOPERM";
/// The command is renamed, disabled, or newer than the server.
const UNKNOWN_COMMAND: &str = "unknown command";
/// Anything else.
const OTHER: &str = "other";

/// Refusals of writes, whatever the key.
const NO_WRITES: [&str; 4] = ["OOM", "READONLY", "MISCONF", "NOREPLICAS"];

/// Codes that are reported unchanged.
const NAMED: [&str; 5] = ["WRONGTYPE", "CROSSSLOT", "NOSCRIPT", "EXECABORT", "ERR"];

/// Codes of a server that is up but cannot serve anybody yet, or not this key.
const NOT_READY: [&str; 7] = [
    "LOADING",
    "MASTERDOWN",
    "BUSY",
    "CLUSTERDOWN",
    "MOVED",
    "ASK",
    "TRYAGAIN",
];

/// What an error reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// The command was refused, with this code.
    Refused(&'static str),
    /// No command is served now.
    NotReady,
    /// The connection's user or password is no longer accepted.
    LockedOut,
}

/// The meaning of an error; `None` if it is not a reply of Redis. For a pipeline, the first error
/// counts.
pub(super) fn classify(error: &RedisError) -> Option<ErrorClass> {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return Some(ErrorClass::LockedOut);
    }
    let replies = error.clone().into_server_errors();
    let (code, text) = match replies.as_deref() {
        Some([(_, reply), ..]) => (reply.code(), reply.details().unwrap_or_default()),
        _ => (error.code()?, error.detail().unwrap_or_default()),
    };
    Some(match code {
        "NOAUTH" | "WRONGPASS" => ErrorClass::LockedOut,
        code if NOT_READY.contains(&code) => ErrorClass::NotReady,
        code => ErrorClass::Refused(read(code, text)),
    })
}

/// The code of a reply that begins with `code` and continues with `text`.
pub(super) fn read(code: &str, text: &str) -> &'static str {
    let text = text.to_ascii_lowercase();
    let denied = [
        "executing the script can't",
        "acl failure",
        "no permissions",
    ];
    if code == NO_PERMISSION || denied.iter().any(|words| text.contains(words)) {
        return NO_PERMISSION;
    }
    if code == "ERR" && text.contains("unknown") && text.contains("command") {
        return UNKNOWN_COMMAND;
    }
    let known = NO_WRITES
        .into_iter()
        .chain(NAMED)
        .find(|known| *known == code);
    known.unwrap_or(OTHER)
}

/// Returns whether a refusal with this code is likely to affect other keys and calls as well.
pub(super) fn is_general(code: &str) -> bool {
    NO_WRITES.contains(&code) || [NO_PERMISSION, UNKNOWN_COMMAND].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_for_what_servers_say_in_several_ways() {
        for (code, text, expected) in [
            (
                "NOPERM",
                "this user has no permissions to run the 'eval' command",
                "NOPERM",
            ),
            (
                "ERR",
                "The user executing the script can't run this command or subcommand script: 8, on @user_script:1.",
                "NOPERM",
            ),
            (
                "ERR",
                "The user executing the script can't access at least one of the keys mentioned",
                "NOPERM",
            ),
            (
                "ERR",
                "ACL failure in script: User u has no permissions to run the 'hset' command",
                "NOPERM",
            ),
            (
                "ERR",
                "unknown command 'evalsha', with args beginning with: ",
                "unknown command",
            ),
            (
                "ERR",
                "Unknown Redis command called from script",
                "unknown command",
            ),
            (
                "OOM",
                "command not allowed when used memory > 'maxmemory'.",
                "OOM",
            ),
            (
                "READONLY",
                "You can't write against a read only replica.",
                "READONLY",
            ),
            ("ERR", "value is not an integer or out of range", "ERR"),
            ("+15551234567", "", "other"),
        ] {
            assert_eq!(read(code, text), expected, "{code} {text}");
        }
    }
}
