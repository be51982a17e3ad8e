//! The daemon as a process of its own, with a standard error that nobody reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, PipeReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use contactd::clock;
use nix::libc::O_NONBLOCK;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where log lines go.
#[derive(Debug)]
pub(crate) enum Sink {
    /// `2>&-`
    Closed,
    /// A full disk.
    Full,
    /// A pipe whose reader has gone.
    Abandoned,
    /// A full pipe that nobody reads.
    Stuck,
}

/// `contactd serve` with one of them; found by its ports.
pub(crate) struct Unheard {
    child: Child,
    pub(crate) grpc: String,
    pub(crate) ops: String,
    /// The other end of the stuck pipe.
    pub(crate) pipe: Option<PipeReader>,
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Unheard {
    pub(crate) async fn start(toml: &str, log_level: &str, sink: Sink) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), toml).unwrap();
        let mut command = contactd(&sink);
        command
            .args(["serve", "--log-level", log_level, "--config"])
            .arg(file.path());
        // Two loopback addresses tell the ports apart.
        command
            .env("CONTACTD__GRPC__LISTEN", "127.0.0.1:0")
            .env("CONTACTD__OPS__LISTEN", "127.0.0.2:0");
        let pipe = direct(&mut command, sink);
        let child = command.spawn().unwrap();
        drop(command);
        let (grpc, ops) = ports(child.id()).await;
        Self {
            child,
            grpc: format!("http://127.0.0.1:{grpc}"),
            ops: format!("http://127.0.0.2:{ops}"),
            pipe,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// Its exit code, if it ends in time.
    pub(crate) async fn end_within(&mut self, limit: Duration) -> Option<i32> {
        ended(&mut self.child, limit).await
    }
}

/// The exit code of a process, if it ends in time.
pub(crate) async fn ended(child: &mut Child, limit: Duration) -> Option<i32> {
    let ended = clock::timeout(limit, async {
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    });
    ended.await.flatten()
}

/// The program; for a closed standard error through a shell, which closes it.
pub(crate) fn contactd(sink: &Sink) -> Command {
    let mut command = if matches!(sink, Sink::Closed) {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "exec \"$0\" \"$@\" 2>&-",
            env!("CARGO_BIN_EXE_contactd"),
        ]);
        shell
    } else {
        Command::new(env!("CARGO_BIN_EXE_contactd"))
    };
    command.env_remove("CONTACTD_LOG");
    command
}

/// Sets standard error. The end of a stuck pipe must be kept.
pub(crate) fn direct(command: &mut Command, sink: Sink) -> Option<PipeReader> {
    match sink {
        Sink::Closed => {}
        Sink::Full => {
            command.stderr(OpenOptions::new().write(true).open("/dev/full").unwrap());
        }
        Sink::Abandoned => drop(command.stderr(io::pipe().unwrap().1)),
        Sink::Stuck => {
            let (reader, writer) = io::pipe().unwrap();
            fill(writer.as_raw_fd());
            command.stderr(Stdio::from(writer));
            return Some(reader);
        }
    }
    None
}

/// Until not one byte more fits. Opened anew: only this end does not wait.
fn fill(pipe: i32) {
    let path = format!("/proc/self/fd/{pipe}");
    let mut writer = OpenOptions::new()
        .write(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .unwrap();
    for size in [4096, 1] {
        while writer.write(&vec![b'\n'; size]).is_ok() {}
        assert_eq!(
            writer
                .write(b"\n")
                .err()
                .map(|error| error.kind())
                .unwrap_or(ErrorKind::WouldBlock),
            ErrorKind::WouldBlock
        );
    }
}

/// Reads what is in a pipe by now and what comes, until `seen` is satisfied with it.
pub(crate) async fn read_until(
    mut pipe: PipeReader,
    seen: impl Fn(&str) -> bool + Send + 'static,
) -> String {
    let reading = tokio::task::spawn_blocking(move || {
        let (mut text, mut part) = (String::new(), [0; 4096]);
        while !seen(&text) {
            let read = pipe.read(&mut part).unwrap();
            assert!(read > 0, "it ended after {text}");
            text += &String::from_utf8_lossy(&part[..read]);
        }
        text
    });
    clock::timeout(Duration::from_secs(10), reading)
        .await
        .expect("the lines come")
        .unwrap()
}

/// The gRPC and the operations port of a process, as soon as it listens.
async fn ports(pid: u32) -> (u16, u16) {
    let found = clock::timeout(Duration::from_secs(20), async {
        loop {
            let listening = listening(pid);
            let port = |host| {
                listening
                    .iter()
                    .find(|(at, _)| at == host)
                    .map(|(_, port)| *port)
            };
            if let (Some(grpc), Some(ops)) = (port("0100007F"), port("0200007F")) {
                return (grpc, ops);
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    });
    found.await.expect("it listens")
}

/// The sockets of a process that listen: address in hexadecimal digits and port.
fn listening(pid: u32) -> Vec<(String, u16)> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let sockets: Vec<String> = links.map(|link| link.display().to_string()).collect();
    let mut table = String::new();
    File::open("/proc/net/tcp")
        .unwrap()
        .read_to_string(&mut table)
        .unwrap();
    let rows = table
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "0A" && sockets.contains(&format!("socket:[{}]", row[9])))
        .map(|row| {
            let (host, port) = row[1].split_once(':').unwrap();
            (host.to_owned(), u16::from_str_radix(port, 16).unwrap())
        })
        .collect()
}
