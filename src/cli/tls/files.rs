//! Files that are written together or not at all, and never replaced.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use secrecy::{ExposeSecret as _, SecretString};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Everybody,
    Owner,
}

impl Audience {
    fn mode(self) -> u32 {
        match self {
            Self::Everybody => 0o644,
            Self::Owner => 0o600,
        }
    }
}

/// A file to write.
pub(super) struct NewFile {
    pub(super) name: &'static str,
    pub(super) content: SecretString,
    pub(super) audience: Audience,
}

/// Writes all files to a directory, and returns its absolute path.
///
/// # Errors
/// If one of them is there already or cannot be written. Then none of them is left behind.
pub(super) fn write(directory: &Path, files: &[NewFile]) -> anyhow::Result<PathBuf> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let directory = fs::canonicalize(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    for (n, file) in files.iter().enumerate() {
        let path = directory.join(file.name);
        if let Err(error) = create(&path, file) {
            for written in &files[..n] {
                let _ = fs::remove_file(directory.join(written.name));
            }
            return Err(words(&path, &error));
        }
    }
    Ok(directory)
}

fn create(path: &Path, file: &NewFile) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(file.audience.mode());
    let written = options
        .open(path)?
        .write_all(file.content.expose_secret().as_bytes());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

fn words(path: &Path, error: &io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::AlreadyExists {
        anyhow!(
            "{} is there already, and nothing was written\n  Give another directory, or move the old files away.",
            path.display()
        )
    } else {
        anyhow!("cannot write {}: {error}", path.display())
    }
}
