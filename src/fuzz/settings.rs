//! The settings file with the variables beside it, and the address of Redis.

use crate::config;
use crate::redis_link::RedisUrl;

/// More than any message of a fault needs.
const LONGEST_FAULT: usize = 8 << 10;

/// A file, and after each zero byte a variable `NAME=VALUE`.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A setting may name a file. Reading a device, such as `/dev/zero`, may never end.
    if text.contains(['/', '\\']) && text.contains("dev") {
        return;
    }
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default();
    let env = parts.filter_map(|part| part.split_once('='));
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match config::read(file, env.collect::<Vec<_>>()) {
        Ok(read) => are_the_same_again(&read),
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(!fault.message.is_empty());
                assert!(fault.to_string().len() <= LONGEST_FAULT, "{fault}");
            }
        }
    }
}

/// If the effective settings are read as a settings file, they are the same again, unless they
/// contain a masked secret.
fn are_the_same_again(read: &config::Effective) {
    if read.toml.contains("***") {
        return;
    }
    let again = config::read(&read.toml, []);
    let again = again.map(|again| again.toml);
    assert_eq!(again.as_ref(), Ok(&read.toml));
}

/// The setting `redis.url`.
pub fn redis_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(url) = text.parse::<RedisUrl>() else {
        return;
    };
    let shown = format!("{url} {url:?}");
    assert!(!shown.contains(char::is_control), "{shown:?}");
    let other = url.clone().with_other_passwords();
    assert_eq!(format!("{other} {other:?}"), shown);
    let shown = url.to_string();
    // A path may have any character, and is shown as it is.
    if !shown.contains("***") && !shown.starts_with("unix") {
        let again = shown.parse::<RedisUrl>().map(|again| again.to_string());
        assert_eq!(again, Ok(shown));
    }
}
