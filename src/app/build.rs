//! Builds every module from the settings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::build_context::BuildContext;
use super::fleet::{self, Fleet};
use super::runtime::CrmRuntime;
use super::supervisor::Supervisor;
use super::workers::Workers;
use super::{App, Daemon, Ports};
use crate::api::{ClientLimits, ContactApi, NumberHasher};
use crate::clients::Clients;
use crate::clock::Clock;
use crate::config::Config;
use crate::connector::{ConnectorConfig, CrmClient, Dns, HttpClients, Platform, SharedLogin};
use crate::domain::phone;
use crate::grpc::{CallGate, ContactRpc};
use crate::http::HttpFront;
use crate::metrics::Metrics;
use crate::ops::OpsServer;
use crate::resolver::Resolver;
use crate::tls::{self, Tls};
use crate::trace::Tracer;

/// By platform.
type SharedLogins = Vec<(String, SharedLogin)>;

/// Binds the ports and builds every module.
pub(super) async fn app(
    config: Config,
    clock: Arc<dyn Clock>,
    dns: &Dns,
    metrics: Metrics,
) -> anyhow::Result<App> {
    let ports = ports(&config).await?;
    let (metrics, supervisor) = (Arc::new(metrics), Supervisor::default());
    let stop_with_it = supervisor.stop.clone().drop_guard();
    let context = BuildContext::new(&config, &clock, &metrics, &supervisor);
    let modules = Modules::build(&context)?;
    let (api, logins) = modules.api(&context, dns)?;
    let (clients, gate, http) = fronts(&context, &api);
    let tls = encryption(&context)?;
    let reload = modules.fleet.reload(clients, tls.clone(), logins);
    modules.fleet.listen(&supervisor);
    let (pages, ready) = modules.pages(&context);
    let daemon = Daemon {
        gate,
        http,
        tls,
        pages,
        ready,
        loads: context.loads,
        stopping: context.stopping,
        stop_with_it,
        tracer: modules.tracer,
        log: modules.fleet.log(),
        crm: modules.crm,
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

/// The modules below the fronts.
struct Modules {
    tracer: Tracer,
    crm: CrmRuntime,
    fleet: Fleet,
    resolver: Resolver,
}

impl Modules {
    fn build(context: &BuildContext<'_>) -> anyhow::Result<Self> {
        phone::warm_up();
        let tracer = tracer(context)?;
        let crm = CrmRuntime::start().context("the threads for CRM calls cannot be started")?;
        let fleet = Fleet::build(context)?;
        let deps = fleet.deps(context, crm.handle());
        Ok(Self {
            tracer,
            crm,
            resolver: Resolver::new(context.config.resolver, deps),
            fleet,
        })
    }

    /// The methods, and the shared logins that they may use.
    fn api(
        &self,
        context: &BuildContext<'_>,
        dns: &Dns,
    ) -> anyhow::Result<(Arc<ContactApi>, SharedLogins)> {
        let platforms = platforms(context, &self.fleet, dns)?;
        let logins = shared_logins(context.config, &platforms);
        let api = ContactApi::new(
            self.resolver.clone(),
            platforms,
            context.config.withheld.clone(),
            context.supervisor.tasks.clone(),
            Arc::clone(context.metrics),
            self.tracer.clone(),
            NumberHasher::new(fleet::log_key(context.config)?),
        );
        Ok((Arc::new(api), logins))
    }

    /// The operations port, the task that records its plots, and whether the daemon is ready.
    fn pages(&self, context: &BuildContext<'_>) -> (OpsServer, Arc<AtomicBool>) {
        let ready = Arc::new(AtomicBool::new(true));
        let stats = self.fleet.live_stats(context.config);
        let pages = OpsServer::new(
            Arc::clone(context.metrics),
            self.resolver.clone(),
            Arc::clone(&ready),
            Arc::new(move || stats.now()),
        );
        let record = pages.record();
        context
            .supervisor
            .spawn("the record of the status page", record);
        (pages, ready)
    }
}

/// Binds both ports, so that a taken one is found before anything is built.
async fn ports(config: &Config) -> anyhow::Result<Ports> {
    Ok(Ports {
        grpc: bind(config.grpc.listen, "grpc.listen").await?,
        ops: bind(config.ops.listen, "ops.listen").await?,
    })
}

async fn bind(addr: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| {
        let variable = setting.to_uppercase().replace('.', "__");
        anyhow::anyhow!(
            "{setting}: cannot listen on {addr}: {error}\n  Set another address with {setting} or CONTACTD__{variable}."
        )
    })
}

fn workers(config: &Config) -> anyhow::Result<Workers> {
    let workers = Workers::start(config.grpc.threads);
    workers.context("the threads for connections cannot be started")
}

fn tracer(context: &BuildContext<'_>) -> anyhow::Result<Tracer> {
    let tracer = |tracing| Tracer::new(tracing, context.metrics.trace_exporter_up.gauge());
    let tracer = context.config.tracing.as_ref().map(tracer).transpose();
    Ok(tracer.context("tracing.otlp_endpoint")?.unwrap_or_default())
}

/// What stands before the methods, for gRPC and for HTTP, with the same limits.
fn fronts(context: &BuildContext<'_>, api: &Arc<ContactApi>) -> (Clients, CallGate, HttpFront) {
    let grpc = &context.config.grpc;
    let clients = Clients::new(&grpc.clients, grpc.needs_certificates());
    let (calls, jobs) = (grpc.max_in_flight, grpc.max_prefetch_jobs);
    let (local, metrics) = (grpc.local_clients(), Arc::clone(context.metrics));
    let limits = ClientLimits::new(clients.clone(), local, calls, jobs, metrics);
    let gate = CallGate::new(limits.clone(), grpc.max_connections);
    (clients, gate, HttpFront::new(Arc::clone(api), limits))
}

fn platforms(
    context: &BuildContext<'_>,
    fleet: &Fleet,
    dns: &Dns,
) -> anyhow::Result<Vec<Platform>> {
    let clients = HttpClients::new(dns).context("TLS for CRM calls cannot be set up")?;
    let platform = |connector: &ConnectorConfig| {
        let crm = CrmClient::new(
            clients.egress(connector.base_url.is_some()),
            context.config.limits,
            fleet.budget(context, connector),
            Arc::clone(context.clock),
            context.metrics,
            connector,
        );
        Platform::new(connector.clone(), crm, fleet.keys.clone())
    };
    Ok(context.config.connectors.iter().map(platform).collect())
}

/// The shared logins, by connector. Logs which are in use, and for whom.
fn shared_logins(config: &Config, platforms: &[Platform]) -> SharedLogins {
    let who = if config.grpc.clients.is_empty() {
        "everybody on this machine"
    } else {
        "clients in grpc.tokens"
    };
    for connector in &config.connectors {
        if connector.shared_login.is_some() {
            let platform = &connector.name;
            tracing::info!(
                platform,
                who,
                "connectors.{platform}.credential: requests without auth_header use the shared login"
            );
        }
    }
    let login = |platform: &Platform| (platform.name().to_owned(), platform.shared_login().clone());
    platforms.iter().map(login).collect()
}

/// The TLS of connections, and the task that watches the certificates.
fn encryption(context: &BuildContext<'_>) -> Result<Option<Tls>, tls::Error> {
    let Some(files) = &context.config.grpc.tls else {
        return Ok(None);
    };
    let tls = Tls::load(files, Arc::clone(context.clock))?;
    let expires = context.metrics.tls_certificate_expires.gauge();
    let watch = tls::Watch::new(tls.clone(), Arc::clone(context.clock), expires);
    context
        .supervisor
        .spawn("the watch over certificates", watch.run());
    Ok(Some(tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_what_changes_it() {
        let taken = bind(([127, 0, 0, 1], 0).into(), "ops.listen")
            .await
            .unwrap();
        let addr = taken.local_addr().unwrap();
        let failure = bind(addr, "ops.listen").await.unwrap_err().to_string();
        for words in [
            format!("ops.listen: cannot listen on {addr}: Address "),
            "Set another address with ops.listen or CONTACTD__OPS__LISTEN.".to_owned(),
        ] {
            assert!(failure.contains(&words), "{failure}");
        }
    }
}
