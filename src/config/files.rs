//! Files named by settings. They are read and checked together with the settings, so that a fault
//! is found before it matters.

use std::os::unix::fs::PermissionsExt as _;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::section::Section;
use crate::cache;
use crate::redis_link::{CaCertificates, SharedSecret};

/// A file of secrets. It is accepted whatever its permissions, because secrets mounted by an
/// orchestrator can often be read by everybody in the container. A warning reports it.
pub(super) fn secrets<T>(
    section: &mut Section<'_>,
    key: &str,
    read: fn(&str) -> Result<File<T>, String>,
) -> Option<File<T>> {
    let file = section.optional(key, read)?;
    if file.mode & 0o077 != 0 {
        let (path, mode) = (&file.path, file.mode & 0o777);
        section.warn(
            key,
            &format!(
                "{path} can be read by others than its owner (mode {mode:03o}): chmod 600 {path}"
            ),
        );
    }
    Some(file)
}

/// A file named by a setting. The effective settings show its path, never its content.
pub(super) struct File<T> {
    path: String,
    mode: u32,
    /// The hash of its content.
    pub(super) hash: blake3::Hash,
    pub(super) content: T,
}

impl<T> std::fmt::Display for File<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

fn file(path: &str) -> Result<File<Vec<u8>>, String> {
    let read = || {
        let mode = std::fs::metadata(path)?.permissions().mode();
        let content = std::fs::read(path)?;
        Ok::<_, std::io::Error>(File {
            path: path.to_owned(),
            mode,
            hash: blake3::hash(&content),
            content,
        })
    };
    read().map_err(|error| format!("{path} cannot be read: {error}"))
}

pub(super) fn secret_file(path: &str) -> Result<File<SharedSecret>, String> {
    let File {
        path,
        mode,
        hash,
        content,
    } = file(path)?;
    let content = Zeroizing::new(content);
    if content.len() < 32 {
        return Err(format!(
            "{path} must hold at least 32 random bytes, the same for all replicas"
        ));
    }
    let secret = blake3::derive_key("contactd 2026 redis key secret file", &content);
    Ok(File {
        path,
        mode,
        hash,
        content: SharedSecret::new(secret),
    })
}

pub(super) fn ca_file(path: &str) -> Result<File<CaCertificates>, String> {
    let File {
        path,
        mode,
        hash,
        content,
    } = file(path)?;
    match CaCertificates::parse(content) {
        Ok(content) => Ok(File {
            path,
            mode,
            hash,
            content,
        }),
        Err(error) => Err(format!("{path} {error}")),
    }
}

pub(super) fn key_file(path: &str) -> Result<File<cache::KeyRing>, String> {
    let File {
        path,
        mode,
        hash,
        content,
    } = file(path)?;
    let content = Zeroizing::new(content);
    match cache::KeyRing::parse(&content) {
        Ok(content) => Ok(File {
            path,
            mode,
            hash,
            content,
        }),
        Err(error) => Err(format!("{path} {error}")),
    }
}

/// The longest secret that is read, in bytes.
const LONGEST_SECRET: usize = 8 * 1024;

/// A secret as text, without white space around it.
pub(super) fn secret_text(path: &str) -> Result<File<SecretString>, String> {
    let File {
        path,
        mode,
        hash,
        content,
    } = file(path)?;
    let content = Zeroizing::new(content);
    let text = std::str::from_utf8(&content).ok().map(str::trim);
    match text.filter(|text| (1..=LONGEST_SECRET).contains(&text.len())) {
        Some(text) => Ok(File {
            content: SecretString::from(text),
            path,
            mode,
            hash,
        }),
        None => Err(format!(
            "{path} must hold one secret, a text of at most 8 KiB"
        )),
    }
}

/// A connector file.
pub(super) fn spec_file(path: &str) -> Result<File<String>, String> {
    let File {
        path,
        mode,
        hash,
        content,
    } = file(path)?;
    match String::from_utf8(content) {
        Ok(content) => Ok(File {
            path,
            mode,
            hash,
            content,
        }),
        Err(_) => Err(format!("{path} is not text in UTF-8")),
    }
}
