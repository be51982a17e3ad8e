//! `contactd serve` as a process of its own, its log lines read as JSON.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use contactd::clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

pub(crate) struct Program {
    child: Child,
    settings: Option<NamedTempFile>,
    pub(crate) grpc: String,
    pub(crate) ops: String,
    log: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// At log level debug.
    pub(crate) async fn start(toml: &str) -> Self {
        Self::start_with(toml, "debug", &[]).await
    }

    pub(crate) async fn start_with(toml: &str, log_level: &str, env: &[(&str, &str)]) -> Self {
        Self::start_flagged(toml, &["--log-level", log_level], env).await
    }

    /// With these flags beside the settings.
    pub(crate) async fn start_flagged(toml: &str, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let settings = NamedTempFile::new().unwrap();
        std::fs::write(settings.path(), toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_contactd"));
        command
            .args(["serve", "--config"])
            .arg(settings.path())
            .args(flags);
        let mut program = Self::run(command, env).await;
        program.settings = Some(settings);
        program
    }

    /// Writes other settings into its file and asks it to read them.
    pub(crate) fn reload(&self, toml: &str) {
        std::fs::write(self.settings.as_ref().expect("it has a file").path(), toml).unwrap();
        self.signal(Signal::SIGHUP);
    }

    /// With this limit of open files.
    pub(crate) async fn with_files(toml: &str, files: u32) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            &format!("ulimit -n {files}; exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_contactd"),
        ]);
        shell.args(["serve", "--config"]).arg(file.path());
        Self::run(shell, &[]).await
    }

    /// Without a settings file.
    pub(crate) async fn on_defaults(env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_contactd"));
        command.arg("serve");
        Self::run(command, env).await
    }

    /// As this command starts it.
    pub(crate) async fn of(command: Command, env: &[(&str, &str)]) -> Self {
        Self::run(command, env).await
    }

    async fn run(mut command: Command, env: &[(&str, &str)]) -> Self {
        let mut child = command
            .env("CONTACTD__GRPC__LISTEN", "127.0.0.1:0")
            .env("CONTACTD__OPS__LISTEN", "127.0.0.1:0")
            .envs(env.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let (tell, addresses) = oneshot::channel();
        let log = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&log);
        let reading = spawn_blocking(move || {
            let mut tell = Some(tell);
            for line in lines {
                *text.lock() += &format!("{line}\n");
                // The last words of a command that failed are for people.
                let Ok(event) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                if let (Some(grpc), Some(ops)) =
                    (event["grpc.addr"].as_str(), event["ops.addr"].as_str())
                {
                    let addresses = (format!("http://{grpc}"), format!("http://{ops}"));
                    tell.take()
                        .expect("it starts once")
                        .send(addresses)
                        .expect("the test waits");
                }
            }
        });
        let (grpc, ops) = addresses.await.expect("it tells its addresses");
        Self {
            child,
            settings: None,
            grpc,
            ops,
            log,
            reading,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// Waits for the end; exit code and all log lines.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        clock::timeout(Duration::from_secs(20), &mut self.reading)
            .await
            .expect("it ends")
            .unwrap();
        (self.child.wait().unwrap().code(), self.log())
    }
}
