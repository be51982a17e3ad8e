//! The Example CRM inside this process, and settings that point at it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::config::{self, Effective, Fault};
use crate::example_crm::{ExampleCrm, Options, RateLimit};

/// Starts the Example CRM on a free loopback port, until the process ends.
pub(super) async fn start(
    options: Options,
    tasks: &TaskTracker,
) -> anyhow::Result<(Arc<ExampleCrm>, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("no loopback port for the Example CRM")?;
    let addr = listener.local_addr()?;
    let crm = Arc::new(ExampleCrm::new(options));
    tasks.spawn(Arc::clone(&crm).serve(listener, std::future::pending()));
    Ok((crm, addr))
}

/// Settings whose only platform is the Example CRM at `crm`, which has the given rate limit. The
/// environment takes precedence. `listen` are the gRPC and operations addresses, if they are not
/// the defaults.
pub(super) fn config(
    crm: SocketAddr,
    listen: Option<&str>,
    rate_limit: Option<RateLimit>,
) -> Result<Effective, Vec<Fault>> {
    let ports = listen.map_or_else(String::new, |addr| {
        format!("[grpc]\nlisten = \"{addr}\"\n[ops]\nlisten = \"{addr}\"\n")
    });
    let connector = format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"http://{crm}\"\nregion = \"US\"\n"
    );
    let quota = rate_limit.map(quota).unwrap_or_default();
    let mut effective = config::read(&(ports + &connector + &quota), config::environment())?;
    let embedded = Url::parse(&format!("http://{crm}")).ok();
    effective.config.are_crms_new = effective
        .config
        .connectors
        .iter()
        .all(|other| other.base_url == embedded);
    Ok(effective)
}

/// The connector's quota for a CRM with this rate limit. A batch leaves a fifth of it to calls.
fn quota(limit: RateLimit) -> String {
    let (rate, per) = (limit.requests, humantime::format_duration(limit.per));
    format!(
        "quota = {{ rate = {rate}, per = \"{per}\", burst = {rate}, scope = \"user\", prefetch_share = 0.8 }}\n"
    )
}
