//! Files named by settings. They are read and checked together with the settings, so that a fault
//! is found before it matters.

use std::fs;
use std::io;
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
    let file = named_file(section, key, read)?;
    if let Some(warning) = file.warning() {
        section.warn(key, warning);
    }
    Some(file)
}

/// A file that may be read by everybody.
pub(super) fn named_file<T>(
    section: &mut Section<'_>,
    key: &str,
    read: fn(&str) -> Result<File<T>, String>,
) -> Option<File<T>> {
    let file = section.optional(key, read)?;
    section.record_content(key, file.hash);
    Some(file)
}

/// A file named by a setting. The effective settings show its path, never its content.
pub(super) struct File<T> {
    path: String,
    mode: u32,
    /// The hash of its content.
    hash: blake3::Hash,
    pub(super) content: T,
}

impl<T> std::fmt::Display for File<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

fn file(path: &str) -> Result<File<Vec<u8>>, String> {
    // The path is not repeated, because it may be the secret itself, in the wrong place.
    File::read(path).map_err(|error| format!("names a file that cannot be read: {error}"))
}

impl File<Vec<u8>> {
    fn read(path: &str) -> io::Result<Self> {
        let content = fs::read(path)?;
        Ok(Self {
            path: path.to_owned(),
            mode: fs::metadata(path)?.permissions().mode(),
            hash: blake3::hash(&content),
            content,
        })
    }
}

impl<T> File<T> {
    /// The warning if others than its owner can read the file.
    fn warning(&self) -> Option<String> {
        let (path, mode) = (&self.path, self.mode & 0o777);
        (mode & 0o077 != 0).then(|| {
            format!(
                "{path} can be read by others than its owner (mode {mode:03o}): chmod 600 {path}"
            )
        })
    }

    /// The same file with other content, or a fault with its path.
    fn parsed<U>(self, parse: impl FnOnce(T) -> Result<U, String>) -> Result<File<U>, String> {
        let content = parse(self.content);
        let content = content.map_err(|error| format!("{} {error}", self.path))?;
        Ok(File {
            path: self.path,
            mode: self.mode,
            hash: self.hash,
            content,
        })
    }
}

pub(super) fn secret_file(path: &str) -> Result<File<SharedSecret>, String> {
    file(path)?.parsed(|content| shared_secret(&Zeroizing::new(content)))
}

fn shared_secret(content: &[u8]) -> Result<SharedSecret, String> {
    if content.len() < 32 {
        return Err("must hold at least 32 random bytes, the same for all replicas".to_owned());
    }
    let secret = blake3::derive_key("contactd 2026 redis key secret file", content);
    Ok(SharedSecret::new(secret))
}

pub(super) fn ca_file(path: &str) -> Result<File<CaCertificates>, String> {
    file(path)?.parsed(|content| CaCertificates::parse(content).map_err(|error| error.to_string()))
}

pub(super) fn key_file(path: &str) -> Result<File<cache::KeyRing>, String> {
    let keys = |content: &[u8]| cache::KeyRing::parse(content).map_err(|error| error.to_string());
    file(path)?.parsed(|content| keys(&Zeroizing::new(content)))
}

/// The longest secret that is read, in bytes.
const LONGEST_SECRET: usize = 8 * 1024;

/// A secret as text, without white space around it.
pub(super) fn secret_text(path: &str) -> Result<File<SecretString>, String> {
    file(path)?.parsed(|content| one_secret(&Zeroizing::new(content)))
}

fn one_secret(content: &[u8]) -> Result<SecretString, String> {
    let text = std::str::from_utf8(content).unwrap_or_default().trim();
    if (1..=LONGEST_SECRET).contains(&text.len()) {
        return Ok(SecretString::from(text));
    }
    Err("must hold one secret, a string of at most 8 KiB".to_owned())
}

/// A connector file.
pub(super) fn spec_file(section: &mut Section<'_>, key: &str) -> Option<File<String>> {
    if !section.is_given(key) {
        section.missing(key, "the path of a connector file");
    }
    named_file(section, key, text_file)
}

fn text_file(path: &str) -> Result<File<String>, String> {
    file(path)?
        .parsed(|content| String::from_utf8(content).map_err(|_| "is not text in UTF-8".to_owned()))
}
