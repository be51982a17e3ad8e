//! The daemon in a process of its own, so that its CPU and memory are nobody else's.

use std::fs;
use std::future::pending;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use contactd::app::App;
use contactd::{config, telemetry};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt as _, stdin};
use tokio::runtime::Builder;

/// The argument that makes this program the process under load. The settings follow it.
const SERVE: &str = "--serve";

/// A daemon; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) addr: SocketAddr,
    process: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Daemon {
    /// Starts this program again as a daemon with these settings, on free ports.
    pub(super) fn start(settings: &str) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([SERVE, settings])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("its output")?).read_line(&mut line)?;
        let addr = line.trim().parse().context("no address: it did not start");
        Ok(Self {
            addr: addr?,
            process,
        })
    }

    /// CPU time of all its threads.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_time(self.process.id())
    }

    /// Its resident memory in MiB.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .context("VmRSS")?
            .trim()
            .trim_end_matches(" kB")
            .parse()?;
        Ok(kib / 1024.0)
    }
}

/// CPU time of all threads of a process.
pub(super) fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Serves if this process was started for it; returns false otherwise. Ends with its input.
pub(super) fn serve_if_asked() -> anyhow::Result<bool> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [first, settings] = &args[..] else {
        return Ok(false);
    };
    if first != SERVE {
        return Ok(false);
    }
    Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(settings))?;
    Ok(true)
}

async fn serve(settings: &str) -> anyhow::Result<()> {
    let _ = telemetry::start(
        telemetry::LogFormat::Json,
        &"warn".parse()?,
        &telemetry::LogLines::start(),
    );
    let ports = "grpc.listen = '127.0.0.1:0'\nops.listen = '127.0.0.1:0'\n";
    let settings =
        config::read(&format!("{ports}{settings}"), []).map_err(|faults| anyhow!("{faults:?}"))?;
    let app = App::build(settings.config, Counter::default()).await?;
    println!("{}", app.addresses()?.0);
    #[expect(clippy::disallowed_methods, reason = "it ends with the process")]
    tokio::spawn(app.run(pending()));
    stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
