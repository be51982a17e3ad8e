//! Clocks that are set while programs run: `clock.c`, which the test that needs it compiles.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

/// The library that moves clocks, and the files with their steps.
#[derive(Debug)]
pub(crate) struct Clocks {
    folder: TempDir,
    library: PathBuf,
}

/// The time of day of one program.
#[derive(Debug)]
pub(crate) struct FakeClock {
    steps: PathBuf,
    library: PathBuf,
    nanos: Mutex<i64>,
}

impl Clocks {
    pub(crate) fn compile() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (
            folder.path().join("clock.c"),
            folder.path().join("clock.so"),
        );
        fs::write(&source, include_str!("clock.c")).unwrap();
        let done = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .status()
            .expect("a C compiler: cc");
        assert!(done.success(), "clock.c does not compile");
        Self { folder, library }
    }

    pub(crate) fn clock(&self, name: &str) -> FakeClock {
        let steps = self.folder.path().join(name);
        fs::write(&steps, 0i64.to_ne_bytes()).unwrap();
        FakeClock {
            steps,
            library: self.library.clone(),
            nanos: Mutex::new(0),
        }
    }
}

impl FakeClock {
    /// What a program needs in its environment to have this clock.
    pub(crate) fn env(&self) -> [(String, String); 2] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("CLOCK_STEP_FILE".to_owned(), text(&self.steps)),
        ]
    }

    /// Sets the clock.
    pub(crate) fn step(&self, by: Duration, forward: bool) {
        let mut nanos = self.nanos.lock();
        let by = i64::try_from(by.as_nanos()).unwrap();
        *nanos += if forward { by } else { -by };
        // In place, because programs have it in their memory.
        let mut file = File::options().write(true).open(&self.steps).unwrap();
        file.write_all(&nanos.to_ne_bytes()).unwrap();
    }
}
