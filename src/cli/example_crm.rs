//! `contactd example-crm`: the Example CRM alone.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::{Failure, show};
use crate::example_crm::{ExampleCrm, Options, RateLimit};
use crate::lifecycle;

#[derive(Debug, clap::Args)]
pub(super) struct ExampleCrmArgs {
    /// Where to listen; port 0 picks a free port.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
    /// How long each reply takes.
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Share of replies with status 500, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    error_rate: f64,
    /// How many requests each credential may make per period, such as 40/2s. More get 429 with
    /// Retry-After.
    #[arg(long, value_name = "N/TIME")]
    rate_limit: Option<RateLimit>,
    /// The seed of the generated contacts; equal seeds give equal contacts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many contacts to generate.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    contacts: u32,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

pub(super) async fn run(args: ExampleCrmArgs) -> Result<ExitCode, Failure> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let addr = listener
        .local_addr()
        .context("the bound address is not known")?;
    let crm = Arc::new(ExampleCrm::new(Options {
        latency: args.latency,
        error_rate: args.error_rate,
        rate_limit: args.rate_limit,
        seed: args.seed,
        contacts: args.contacts as usize,
    }));
    let samples = crm.data().samples();
    tracing::info!(crm.addr = %addr, contacts = crm.data().len(), "the Example CRM serves");
    show(format_args!(
        "Example CRM on http://{addr}, credential \"Bearer demo\"\n  \
         one contact has       {}\n  \
         several contacts have {}\n  \
         nobody has            {}\n  \
         a colleague has the extension {}\n",
        samples.one, samples.many, samples.absent, samples.extension
    ))?;
    let shutdown = lifecycle::asked_to_stop().context("signals cannot be watched")?;
    crm.serve(listener, shutdown)
        .await
        .context("the Example CRM failed")?;
    Ok(ExitCode::SUCCESS)
}
