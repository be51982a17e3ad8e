//! `contactd demo`: everything on one machine, in a few seconds.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Endpoint;

use super::{Failure, embedded, show};
use crate::app::App;
use crate::config::Effective;
use crate::example_crm::{Options, RateLimit};
use crate::grpc::client::ContactServiceClient;
use crate::lifecycle;
use crate::pb::v1 as pb;
use crate::telemetry::LogLines;

mod batch;
mod tour;

const AUTH_HEADER: &str = "Bearer demo";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How long each reply of the Example CRM takes.
    #[arg(long, default_value = "80ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// How many requests the Example CRM takes in a time; more get 429.
    #[arg(long, default_value = "50/1s", value_name = "N/TIME")]
    rate_limit: RateLimit,
    /// Leave the daemon and the CRM up at the end, until ctrl-c.
    #[arg(long)]
    keep_running: bool,
}

pub(super) async fn run(args: Args, lines: &LogLines) -> Result<ExitCode, Failure> {
    let tasks = TaskTracker::new();
    let options = Options {
        latency: args.latency,
        rate_limit: Some(args.rate_limit),
        ..Options::default()
    };
    let (crm, crm_addr) = embedded::start(options, &tasks).await?;
    let Effective { mut config, .. } =
        embedded::config(crm_addr, Some("127.0.0.1:0"), Some(args.rate_limit)).map_err(
            |faults| {
                Failure::Misused(
                    faults
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("\n"),
                )
            },
        )?;
    config.grpc.drain_delay = Duration::ZERO;
    let app = App::build(config, lines.dropped()).await?;
    let (grpc, ops) = app
        .addresses()
        .context("the bound addresses are not known")?;
    let stop = CancellationToken::new();
    let daemon = tasks.spawn(app.run(stop.clone().cancelled_owned()));

    let contacts = crm.data().len();
    show(format_args!(
        "Example CRM  http://{crm_addr}  {contacts} contacts, {} a reply\n\
         contactd     grpc://{grpc}  metrics on http://{ops}/metrics\n\n",
        ms(args.latency)
    ))?;
    let channel = Endpoint::from_shared(format!("http://{grpc}"))
        .context("the daemon's address is no URL")?;
    let channel = channel
        .connect()
        .await
        .context("the daemon does not answer")?;
    let client = ContactServiceClient::new(channel);
    tour::run(client.clone(), &crm.data().samples()).await?;
    let asked = crm.requests();
    show(format_args!(
        "\nThe Example CRM was asked {asked} times, once of these whose the credential is.\n\n"
    ))?;
    batch::run(client, &crm, args.rate_limit).await?;

    if args.keep_running {
        show(format_args!(
            "\nStill running; in another terminal:\n  \
             CONTACTD_AUTH_HEADER=\"Bearer demo\" contactd find {} --server http://{grpc}\n  \
             curl http://{ops}/metrics\n\
             In a browser: http://{ops}/\n\
             ctrl-c ends it.\n",
            crm.data().samples().many
        ))?;
        lifecycle::asked_to_stop()
            .context("signals cannot be watched")?
            .await;
    }
    stop.cancel();
    daemon.await.context("the daemon broke off")??;
    Ok(ExitCode::SUCCESS)
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
