//! The programs in `deploy/examples`, run as their pages say, against the real daemon.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::deploy::{repo, text};

mod clients;
mod hostile_names;
mod kamailio;
mod sip;

/// A copy of one example, in which it may leave files.
struct Example {
    name: &'static str,
    folder: TempDir,
}

impl Example {
    fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let example = Self { name, folder };
        fs::create_dir_all(example.path()).unwrap();
        for entry in fs::read_dir(repo("deploy/examples").join(name)).unwrap() {
            let file = entry.unwrap();
            fs::copy(file.path(), example.path().join(file.file_name())).unwrap();
        }
        symlink(repo("proto"), example.folder.path().join("proto")).unwrap();
        example
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("deploy/examples").join(self.name)
    }

    /// The blocks of its page in this language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let page = text(&format!("deploy/examples/{}/README.md", self.name));
        let fence = format!("```{language}\n");
        let opened = page.split(&fence).skip(1);
        opened
            .map(|rest| rest.split("```").next().unwrap().to_owned())
            .collect()
    }

    /// Runs lines of its page in its folder.
    async fn run(&self, lines: &str, env: &[(&str, &str)]) -> Output {
        let mut shell = self.shell(lines, env);
        spawn_blocking(move || shell.output())
            .await
            .unwrap()
            .unwrap()
    }

    fn shell(&self, lines: &str, env: &[(&str, &str)]) -> Command {
        let mut shell = Command::new("sh");
        shell
            .arg("-euc")
            .arg(lines)
            .current_dir(self.path())
            .env("PATH", path())
            .envs(env.iter().copied());
        shell
    }
}

/// Where programs are: this build's contactd, what `tests/run` gets, and the machine's.
fn path() -> OsString {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_contactd"));
    let ours = [built.parent().unwrap().to_owned(), repo("target/tools/bin")];
    let machine = env::var_os("PATH").unwrap_or_default();
    let folders = ours.into_iter().chain(env::split_paths(&machine));
    env::join_paths(folders).unwrap()
}

fn words(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}
