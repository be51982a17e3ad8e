//! Builds every room from the settings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fleet::{self, Fleet};
use super::runtime::CrmRuntime;
use super::site::Site;
use super::supervisor::Supervisor;
use super::workers::Workers;
use super::{App, Daemon, Ports};
use crate::api::{ClientLimits, ContactApi, NumberHasher};
use crate::clients::Clients;
use crate::clock::Clock;
use crate::config::Config;
use crate::connector::{ConnectorConfig, CrmClient, Dns, HouseLogin, HttpClients, Platform};
use crate::domain::phone;
use crate::grpc::{CallGate, ContactRpc};
use crate::http::HttpFront;
use crate::metrics::Metrics;
use crate::ops::OpsServer;
use crate::resolver::Resolver;
use crate::tls::{self, Tls};
use crate::trace::Tracer;

/// Binds the ports and builds every room.
pub(super) async fn app(
    config: Config,
    clock: Arc<dyn Clock>,
    dns: &Dns,
    metrics: Metrics,
) -> anyhow::Result<App> {
    phone::warm_up();
    let ports = Ports {
        grpc: bind(config.grpc.listen, "grpc.listen").await?,
        ops: bind(config.ops.listen, "ops.listen").await?,
    };
    let (metrics, supervisor) = (Arc::new(metrics), Supervisor::default());
    let stop_with_it = supervisor.stop.clone().drop_guard();
    let site = Site {
        config: &config,
        clock: &clock,
        metrics: &metrics,
        supervisor: &supervisor,
        loads: TaskTracker::new(),
        stopping: CancellationToken::new(),
    };
    let tracer = tracer(&site)?;
    let crm = CrmRuntime::start().context("the threads for CRM calls cannot be started")?;
    let fleet = Fleet::build(&site)?;
    let resolver = Resolver::new(config.resolver, fleet.deps(&site, crm.handle()));
    let platforms = platforms(&site, &fleet, dns)?;
    let logins = house_logins(&config, &platforms);
    let api = Arc::new(api(&site, resolver.clone(), platforms, tracer.clone())?);
    let clients = Clients::new(&config.grpc.clients, config.grpc.needs_certificates());
    let (gate, http) = fronts(&site, &api, clients.clone());
    let tls = encryption(&site)?;
    let reload = fleet.reload(clients, tls.clone(), logins);
    fleet.listen(&supervisor);
    let ready = Arc::new(AtomicBool::new(true));
    let pages = pages(&site, &fleet, resolver, &ready);
    let Site {
        loads, stopping, ..
    } = site;
    let daemon = Daemon {
        gate,
        http,
        tls,
        pages,
        ready,
        loads,
        stopping,
        stop_with_it,
        tracer,
        log: fleet.log(),
        crm,
        workers: workers(&config)?,
        supervisor,
        config,
    };
    Ok(App {
        ports,
        service: ContactRpc::new(api),
        reload,
        daemon,
    })
}

async fn bind(addr: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("{setting}: cannot listen on {addr}"))
}

fn workers(config: &Config) -> anyhow::Result<Workers> {
    let workers = Workers::start(config.grpc.threads);
    workers.context("the threads for connections cannot be started")
}

fn tracer(site: &Site<'_>) -> anyhow::Result<Tracer> {
    let tracer = |tracing| Tracer::new(tracing, site.metrics.trace_exporter_up.gauge());
    let tracer = site.config.tracing.as_ref().map(tracer).transpose();
    Ok(tracer.context("tracing.otlp_endpoint")?.unwrap_or_default())
}

fn api(
    site: &Site<'_>,
    resolver: Resolver,
    platforms: Vec<Platform>,
    tracer: Tracer,
) -> anyhow::Result<ContactApi> {
    Ok(ContactApi::new(
        resolver,
        platforms,
        site.config.withheld.clone(),
        site.supervisor.tasks.clone(),
        Arc::clone(site.metrics),
        tracer,
        NumberHasher::new(fleet::log_key(site.config)?),
    ))
}

/// What stands before the methods on each wire, with the same limits for both.
fn fronts(site: &Site<'_>, api: &Arc<ContactApi>, clients: Clients) -> (CallGate, HttpFront) {
    let grpc = &site.config.grpc;
    let (calls, jobs) = (grpc.max_in_flight, grpc.max_prefetch_jobs);
    let (local, metrics) = (grpc.local_clients(), Arc::clone(site.metrics));
    let limits = ClientLimits::new(clients, local, calls, jobs, metrics);
    let gate = CallGate::new(limits.clone(), grpc.max_connections);
    (gate, HttpFront::new(Arc::clone(api), limits))
}

fn platforms(site: &Site<'_>, fleet: &Fleet, dns: &Dns) -> anyhow::Result<Vec<Platform>> {
    let clients = HttpClients::new(dns).context("TLS for CRM calls cannot be set up")?;
    let platform = |connector: &ConnectorConfig| {
        let crm = CrmClient::new(
            clients.egress(connector.base_url.is_some()),
            site.config.limits,
            fleet.budget(site, connector),
            Arc::clone(site.clock),
            site.metrics,
            connector,
        );
        Platform::new(connector.clone(), crm, fleet.keys.clone())
    };
    Ok(site.config.connectors.iter().map(platform).collect())
}

/// The logins of the house, by connector. Logs which are in use, and for whom.
fn house_logins(config: &Config, platforms: &[Platform]) -> Vec<(String, HouseLogin)> {
    let who = if config.grpc.clients.is_empty() {
        "everybody on this machine"
    } else {
        "clients in grpc.tokens"
    };
    for connector in &config.connectors {
        if connector.house_login.is_some() {
            let platform = &connector.name;
            tracing::info!(
                platform,
                who,
                "connectors.{platform}.credential: questions without auth_header use the login of the house"
            );
        }
    }
    let login = |platform: &Platform| (platform.name().to_owned(), platform.house_login().clone());
    platforms.iter().map(login).collect()
}

/// The TLS of connections, and the task that watches the certificates.
fn encryption(site: &Site<'_>) -> Result<Option<Tls>, tls::Error> {
    let Some(files) = &site.config.grpc.tls else {
        return Ok(None);
    };
    let tls = Tls::load(files, Arc::clone(site.clock))?;
    let expires = site.metrics.tls_certificate_expires.gauge();
    let watch = tls::Watch::new(tls.clone(), Arc::clone(site.clock), expires);
    site.supervisor
        .spawn("the watch over certificates", watch.run());
    Ok(Some(tls))
}

/// The operations port, and the task that records its plots.
fn pages(site: &Site<'_>, fleet: &Fleet, resolver: Resolver, ready: &Arc<AtomicBool>) -> OpsServer {
    let stats = fleet.live_stats(site.config);
    let pages = OpsServer::new(
        Arc::clone(site.metrics),
        resolver,
        Arc::clone(ready),
        Arc::new(move || stats.now()),
    );
    site.supervisor
        .spawn("the record of the status page", pages.record());
    pages
}
