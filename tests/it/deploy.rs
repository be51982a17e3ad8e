//! The files of `deploy/`, each put to the real program that reads it. `tests/run` gets those
//! programs.

mod alerts;
mod container;
mod kubernetes;
mod package;
mod prometheus;
mod runbook;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A path in the repository.
pub(crate) fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Both outputs of a program that must be there; what it says of a fault is in them.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    (
        status.success(),
        format!(
            "{}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        ),
    )
}

/// The output of a program that must succeed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let (success, said) = run(command);
    assert!(success, "{command:?}\n{said}");
    said
}

/// A text file of the repository.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(repo(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The faults of a settings file of `deploy/`, read with its environment as its platform sets it.
/// Files that it names are made for the occasion.
pub(crate) fn faults(toml: &str, env: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("redis-key");
    std::fs::write(&secret, [7; 32]).unwrap();
    let toml = toml.replace("/run/contactd/keys/redis-key", secret.to_str().unwrap());
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let faults = contactd::config::read(&toml, env).err().unwrap_or_default();
    faults
        .iter()
        .map(ToString::to_string)
        .filter(|fault| !fault.starts_with("grpc.t"))
        .collect()
}
