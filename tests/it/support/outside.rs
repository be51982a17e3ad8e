//! Programs from outside of this repository, such as redis-server. `tests/run` gets them.
//!
//! A test that needs one is marked `#[ignore = "needs redis-server: tests/run gets it"]`: cargo
//! test alone shows it as ignored, for that reason, and `tests/run` runs it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `tests/run` puts what no package of the machine has.
const TOOLS: [&str; 2] = ["target/tools/python/bin", "target/tools/bin"];

/// The program `name`.
///
/// # Panics
/// If it is missing, or if the test that asks for it is not marked. The second is found on every
/// machine, those that have the program included.
pub(crate) fn program(name: &str) -> Command {
    assert!(
        is_marked() || is_benchmark(),
        "a test that needs {name} is marked: #[ignore = \"needs {name}: tests/run gets it\"]"
    );
    let path = find(name).unwrap_or_else(|| panic!("{name} is missing: tests/run gets it"));
    Command::new(path)
}

/// Whether ignored tests run. Only then may a test need what is not in this repository.
fn is_marked() -> bool {
    env::args().any(|arg| arg == "--ignored" || arg == "--include-ignored")
}

/// Whether this is part of a benchmark, which has no mark. Cargo builds benchmarks with
/// `cfg(test)`, too.
fn is_benchmark() -> bool {
    env!("CARGO_CRATE_NAME") != "it"
}

fn find(name: &str) -> Option<PathBuf> {
    let ours = TOOLS.map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = ours.into_iter().chain(env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}
