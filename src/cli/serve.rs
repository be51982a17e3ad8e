//! `contactd serve`: the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::task::TaskTracker;

use super::{Failure, embedded};
use crate::app::App;
use crate::config::{self, Effective, Fault};
use crate::example_crm::Options;
use crate::lifecycle;
use crate::telemetry::Lines;

/// How slow the embedded Example CRM is: like a quick CRM across the internet, so that a hit is seen to be one.
const LATENCY: Duration = Duration::from_millis(50);

pub(super) async fn run(path: Option<PathBuf>, lines: &Lines) -> Result<ExitCode, Failure> {
    let tasks = TaskTracker::new();
    let Effective { config, warnings, .. } = match &path {
        Some(path) => read(path)?,
        None => on_defaults(&tasks).await?,
    };
    for warning in warnings {
        tracing::warn!(setting = warning.path, "{}", warning.message);
    }
    lifecycle::raise_file_limit();
    let shutdown = lifecycle::asked_to_stop().context("signals cannot be watched")?;
    let impatient = lifecycle::asked_again().context("signals cannot be watched")?;
    let app = App::build(config, lines.dropped()).await?;
    tokio::select! {
        ended = app.run(shutdown) => ended?,
        () = impatient => return Err(anyhow::anyhow!("asked to stop a second time: calls in hand were cut off").into()),
    }
    Ok(ExitCode::SUCCESS)
}

async fn on_defaults(tasks: &TaskTracker) -> Result<Effective, Failure> {
    let (_, addr) = embedded::start(Options { latency: LATENCY, ..Options::default() }, tasks).await?;
    tracing::info!(
        crm.addr = %addr,
        "no --config: answers are kept in memory only; the built-in Example CRM is platform \"example\", credential \
         \"Bearer demo\""
    );
    embedded::config(addr, None, None).map_err(|faults| Failure::Misused(listing(&faults, "the environment")))
}

/// Reads and checks a settings file.
pub(super) fn read(path: &Path) -> Result<Effective, Failure> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    config::read(&text, config::environment())
        .map_err(|faults| Failure::Misused(listing(&faults, &path.display().to_string())))
}

fn listing(faults: &[Fault], origin: &str) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
    let (count, s) = (faults.len(), if faults.len() == 1 { "" } else { "s" });
    format!("{count} fault{s} in {origin}:\n{}", lines.join("\n"))
}
