//! `contactd serve`: the daemon.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio_util::task::TaskTracker;

use super::reload::{Again, reload_on};
use super::{Failure, embedded};
use crate::app::App;
use crate::config::{self, Effective, Fault};
use crate::example_crm::Options;
use crate::lifecycle::{self, Signals, Stops};
use crate::telemetry::{LogLines, Volume};
use crate::trial::unread;

/// The latency of the embedded Example CRM: that of a quick CRM across the internet, so that a hit
/// is visibly faster.
const LATENCY: Duration = Duration::from_millis(50);

/// The settings and options of a daemon at start.
pub(super) struct StartSettings {
    /// `None` without a settings file. `effective` is provisional then, because the embedded CRM
    /// has no address yet.
    path: Option<PathBuf>,
    effective: Effective,
}

impl StartSettings {
    /// Reads this file, or uses embedded settings. `None` if the process is asked to stop before
    /// that.
    pub(super) async fn read_until(
        stops: &mut Stops,
        path: Option<PathBuf>,
    ) -> Result<Option<Self>, Failure> {
        // A file may be a pipe, or on a disk that does not respond.
        let read = tokio::task::spawn_blocking(move || Self::read(path.as_deref()));
        tokio::select! {
            read = read => read.context("reading the settings failed")?.map(Some),
            () = stops.next() => Ok(None),
        }
    }

    fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let effective = match path {
            Some(path) => read(path)?,
            None => on_defaults(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?,
        };
        Ok(Self {
            path: path.map(Path::to_owned),
            effective,
        })
    }

    pub(super) fn log(&self) -> &config::Log {
        &self.effective.config.log
    }
}

/// Serves until it is asked to stop. `volume` changes what is logged.
pub(super) async fn run(
    settings: StartSettings,
    signals: Signals,
    volume: Volume,
    lines: &LogLines,
) -> Result<ExitCode, Failure> {
    let Signals {
        mut hangups,
        mut stops,
        again,
    } = signals;
    let tasks = TaskTracker::new();
    let StartSettings {
        path,
        mut effective,
    } = settings;
    if path.is_none() {
        effective = with_example_crm(&tasks).await?;
    }
    for warning in &effective.warnings {
        tracing::warn!(setting = warning.path, "{}", warning.message);
    }
    lifecycle::raise_file_limit();
    let Some(app) = built_until(&mut stops, &effective, lines, &tasks).await? else {
        lines.put(b"contactd: asked to stop before it served\n");
        return Ok(ExitCode::SUCCESS);
    };
    let settings = path.map(|path| Again::new(path, effective, app.reload(), volume));
    let reloads = reload_on(&mut hangups, settings);
    tokio::select! {
        ended = app.run(async move { stops.next().await }) => ended?,
        () = second_stop(again) => {
            let why = anyhow::anyhow!("asked to stop a second time: running calls were cut off");
            return Err(why.into());
        }
        broken = reloads => match broken? {},
    }
    Ok(ExitCode::SUCCESS)
}

/// The daemon, or `None` if the process is asked to stop before it is built.
async fn built_until(
    stops: &mut Stops,
    effective: &Effective,
    lines: &LogLines,
    tasks: &TaskTracker,
) -> anyhow::Result<Option<App>> {
    // As a task of its own: it reads files, and a stop must not wait for a disk.
    let building = tasks.spawn(App::build(effective.config.clone(), lines.dropped()));
    tokio::select! {
        app = building => app.context("the daemon was not built")?.map(Some),
        () = stops.next() => Ok(None),
    }
}

async fn second_stop(mut stops: Stops) {
    stops.next().await;
    stops.next().await;
}

async fn with_example_crm(tasks: &TaskTracker) -> Result<Effective, Failure> {
    let (_, addr) = embedded::start(
        Options {
            latency: LATENCY,
            ..Options::default()
        },
        tasks,
    )
    .await?;
    let effective = on_defaults(addr)?;
    let kept = if effective.config.redis.is_some() {
        "in memory and Redis"
    } else {
        "in memory only"
    };
    tracing::info!(
        crm.addr = %addr,
        "no --config: answers are kept {kept}; the built-in Example CRM is platform \"example\", credential \
         \"Bearer demo\""
    );
    Ok(effective)
}

pub(super) fn on_defaults(crm: SocketAddr) -> Result<Effective, Failure> {
    embedded::config(crm, None, None)
        .map_err(|faults| Failure::Misused(listing(&faults, "the environment")))
}

/// Reads and checks a settings file.
pub(super) fn read(path: &Path) -> Result<Effective, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| anyhow!("cannot read {}: {}", path.display(), unread(&error)))?;
    config::read(&text, config::environment())
        .map_err(|faults| Failure::Misused(listing(&faults, &path.display().to_string())))
}

fn listing(faults: &[Fault], origin: &str) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
    let (count, s) = (faults.len(), if faults.len() == 1 { "" } else { "s" });
    format!("{count} fault{s} in {origin}:\n{}", lines.join("\n"))
}
