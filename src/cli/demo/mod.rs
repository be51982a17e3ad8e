//! `contactd demo`: everything on one machine, in a few seconds.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};

use super::{Failure, embedded, show};
use crate::app::App;
use crate::config::{Config, Effective};
use crate::example_crm::{ExampleCrm, Options, RateLimit};
use crate::grpc::client::ContactServiceClient;
use crate::lifecycle;
use crate::pb::v1 as pb;
use crate::telemetry::LogLines;

mod batch;
mod tour;

const AUTH_HEADER: &str = "Bearer demo";

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// How long each reply of the Example CRM takes.
    #[arg(long, default_value = "80ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// How many requests the Example CRM accepts per period, such as 50/1s. More get 429.
    #[arg(long, default_value = "50/1s", value_name = "N/TIME")]
    rate_limit: RateLimit,
    /// Keep the daemon and the CRM running at the end, until ctrl-c.
    #[arg(long)]
    keep_running: bool,
}

pub(super) async fn run(args: DemoArgs, lines: &LogLines) -> Result<ExitCode, Failure> {
    let tasks = TaskTracker::new();
    let options = Options {
        latency: args.latency,
        rate_limit: Some(args.rate_limit),
        ..Options::default()
    };
    let (crm, crm_addr) = embedded::start(options, &tasks).await?;
    let app = App::build(config(crm_addr, args.rate_limit)?, lines.dropped()).await?;
    let (grpc, ops) = app
        .addresses()
        .context("the bound addresses are not known")?;
    let stop = CancellationToken::new();
    let daemon = tasks.spawn(app.run(stop.clone().cancelled_owned()));
    show(format_args!(
        "Example CRM  http://{crm_addr}  {} contacts, {} a reply\n\
         contactd     grpc://{grpc}  metrics on http://{ops}/metrics\n\n",
        crm.data().len(),
        ms(args.latency)
    ))?;
    let client = connect(grpc).await?;
    tour::run(client.clone(), &crm.data().samples()).await?;
    show(format_args!(
        "\nThe Example CRM got {} requests. One of them asked whose credential it is.\n\n",
        crm.requests()
    ))?;
    batch::run(client, &crm, args.rate_limit).await?;
    if args.keep_running {
        stay(grpc, ops, &crm).await?;
    }
    stop.cancel();
    daemon.await.context("the daemon's task failed")??;
    Ok(ExitCode::SUCCESS)
}

/// The embedded settings, for a CRM with this limit.
fn config(crm: SocketAddr, limit: RateLimit) -> Result<Config, Failure> {
    let Effective { mut config, .. } = embedded::config(crm, Some("127.0.0.1:0"), Some(limit))
        .map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Failure::Misused(lines.join("\n"))
        })?;
    config.grpc.drain_delay = Duration::ZERO;
    Ok(config)
}

async fn connect(grpc: SocketAddr) -> anyhow::Result<ContactServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{grpc}"))
        .context("the daemon's address is not a URL")?;
    let channel = endpoint
        .connect()
        .await
        .context("the daemon does not answer")?;
    Ok(ContactServiceClient::new(channel))
}

/// Prints what can be tried, and waits for ctrl-c.
async fn stay(grpc: SocketAddr, ops: SocketAddr, crm: &ExampleCrm) -> Result<(), Failure> {
    let program = program();
    show(format_args!(
        "\nStill running; in another terminal:\n  \
         CONTACTD_AUTH_HEADER=\"Bearer demo\" {program} find {} --server http://{grpc}\n  \
         {program} status --ops http://{ops}\n  \
         curl http://{ops}/metrics\n\
         In a browser: http://{ops}/\n\
         ctrl-c ends it.\n",
        crm.data().samples().many
    ))?;
    lifecycle::asked_to_stop()
        .context("signals cannot be watched")?
        .await;
    Ok(())
}

/// This program, as a shell finds it from the current directory: as it was started.
fn program() -> String {
    let started_as = std::env::args_os().next().unwrap_or_default();
    let program = started_as.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if program.is_empty() {
        "contactd".to_owned()
    } else if program.chars().all(is_plain) {
        program.into_owned()
    } else {
        format!("'{}'", program.replace('\'', "'\\''"))
    }
}

fn user() -> pb::User {
    pb::User {
        id: "demo-user".to_owned(),
        platform: "example".to_owned(),
        ..Default::default()
    }
}

fn find(number: &str, trigger: pb::Trigger) -> pb::FindContactRequest {
    pb::FindContactRequest {
        user: Some(user()),
        auth_header: AUTH_HEADER.to_owned(),
        phone_number: number.to_owned(),
        trigger: trigger.into(),
        ..Default::default()
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
