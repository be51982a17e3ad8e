//! Config -> build -> run: the only place that knows all rooms.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::cache::InvalidationLog;
use crate::clients::Clients;
use crate::clock::{self, Clock, SystemClock};
use crate::config::Config;
use crate::connector::{CrmClient, Dns, HttpClients, Platform};
use crate::domain::phone;
use crate::grpc::server::ContactServiceServer;
use crate::grpc::{CallGate, ContactRpc};
use crate::metrics::Metrics;
use crate::ops::Ops;
use crate::pb;
use crate::resolver::Resolver;
use crate::tls::{self, Tls};
use crate::trace::Tracer;

mod budgets;
mod ceiling;
mod chores;
mod connection;
mod crowd;
mod files;
mod fleet;
mod listen;
mod live_stats;
mod reload;
mod runtime;
#[cfg(test)]
mod tests;

pub(crate) use reload::Reload;

use chores::Chores;
use fleet::Fleet;
use listen::Gatekeeper;
use runtime::CrmRuntime;

/// How long after the last call background loads may take to end.
const LOADS_AFTER_DRAIN: Duration = Duration::from_secs(2);

/// Calls in hand on one connection: more than services multiplex in practice.
const STREAMS: u32 = 256;

/// Bytes of one request's headers: a token and trace context need less than one KiB.
const HEADERS: u32 = 16 << 10;

/// Bytes of one request that may be under way unread: all of a usual one.
const STREAM_WINDOW: u32 = 64 << 10;

/// The same of all requests of one connection.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Largest request of reflection: the name of a symbol or file, with room.
const REFLECTION_BYTES: usize = 16 << 10;

/// When a silent client is asked for a sign of life, and how long it may take to give it.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A daemon with bound ports, not yet serving.
#[derive(Debug)]
pub struct App {
    config: Config,
    grpc: TcpListener,
    ops: TcpListener,
    service: ContactRpc,
    hall: CallGate,
    tls: Option<Tls>,
    reload: Reload,
    pages: Ops,
    ready: Arc<AtomicBool>,
    /// Loads and jobs, which may end in peace.
    loads: TaskTracker,
    /// No new jobs from here on.
    stopping: CancellationToken,
    chores: Chores,
    /// A daemon that is given up half-way has no parts that ended too early.
    stop_with_it: DropGuard,
    tracer: Tracer,
    log: Option<InvalidationLog>,
    #[expect(dead_code, reason = "held: its threads end with it")]
    crm: CrmRuntime,
}

impl App {
    /// Binds the ports and builds every room. Log lines that were dropped are counted by whoever
    /// writes them.
    ///
    /// # Errors
    /// Where a port cannot be bound or TLS for CRM calls cannot be set up.
    pub async fn build(config: Config, log_lines_dropped: Counter) -> anyhow::Result<Self> {
        let metrics = Metrics::new(log_lines_dropped);
        Self::assemble(
            config,
            Arc::new(SystemClock::start()),
            &Dns::system(),
            metrics,
        )
        .await
    }

    /// As [`App::build`], with another clock and other addresses behind names.
    ///
    /// # Errors
    /// As [`App::build`].
    pub async fn build_with(
        config: Config,
        clock: Arc<dyn Clock>,
        dns: &Dns,
    ) -> anyhow::Result<Self> {
        Self::assemble(config, clock, dns, Metrics::default()).await
    }

    async fn assemble(
        config: Config,
        clock: Arc<dyn Clock>,
        dns: &Dns,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        phone::warm_up();
        let grpc = bind(config.grpc.listen, "grpc.listen").await?;
        let ops = bind(config.ops.listen, "ops.listen").await?;
        let metrics = Arc::new(metrics);
        let tracer = config
            .tracing
            .as_ref()
            .map(Tracer::new)
            .transpose()
            .context("tracing.otlp_endpoint")?;
        let tracer = tracer.unwrap_or_default();
        let (loads, stopping) = (TaskTracker::new(), CancellationToken::new());
        let chores = Chores::default();
        let stop_with_it = chores.stop.clone().drop_guard();
        let fleet = Fleet::build(&config, &clock, &metrics, &chores)?;
        let clients = HttpClients::new(dns).context("TLS for CRM calls cannot be set up")?;
        let platforms = config.connectors.iter().map(|connector| {
            let budget = fleet.budget(&config, connector, &metrics, &chores);
            let way = clients.way(connector.base_url.is_some());
            let door = CrmClient::new(
                way,
                config.limits,
                budget,
                Arc::clone(&clock),
                &metrics,
                &connector.name,
            );
            Platform::new(connector.clone(), door, fleet.keys.clone())
        });
        let crm = CrmRuntime::start().context("the threads for CRM calls cannot be started")?;
        let rooms = fleet.rooms(
            &clock,
            &metrics,
            (loads.clone(), crm.handle()),
            stopping.clone(),
        );
        let resolver = Resolver::new(config.resolver, rooms);
        let service = ContactRpc::new(
            resolver.clone(),
            platforms.collect(),
            chores.tasks.clone(),
            Arc::clone(&metrics),
            tracer.clone(),
            config.withheld.clone(),
        );
        let callers = Clients::new(&config.grpc.callers, config.grpc.needs_certificates());
        let (calls, jobs) = (config.grpc.max_in_flight, config.grpc.max_prefetch_jobs);
        let hall = CallGate::new(callers.clone(), calls, jobs, Arc::clone(&metrics));
        let tls = encryption(&config, &clock, &metrics, &chores)?;
        let reload = fleet.reload(callers, tls.clone());
        fleet.listen(&chores);
        let ready = Arc::new(AtomicBool::new(true));
        let (figures, log) = (fleet.figures(&config), fleet.log());
        let pages = Ops::new(
            metrics,
            resolver,
            Arc::clone(&ready),
            Arc::new(move || figures.now()),
        );
        chores.spawn("the record of the status page", pages.record());
        Ok(Self {
            config,
            grpc,
            ops,
            service,
            hall,
            tls,
            reload,
            pages,
            ready,
            loads,
            stopping,
            chores,
            stop_with_it,
            tracer,
            log,
            crm,
        })
    }

    /// The bound addresses: gRPC, operations.
    ///
    /// # Errors
    /// Where the system does not tell them.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.grpc.local_addr()?, self.ops.local_addr()?))
    }

    /// What takes up other settings while it runs.
    #[must_use]
    pub(crate) fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `shutdown` or a part of the daemon ends, then stops in order: says NOT_SERVING
    /// and not ready, goes on serving for `grpc.drain_delay` so that balancers notice, takes no new
    /// connections, and lets calls and loads end within `grpc.drain_timeout`.
    ///
    /// # Errors
    /// If a listener fails, or a part of the daemon has ended before the stop.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (grpc_addr, ops_addr) = self.addresses()?;
        let drain = self.chores.stop.child_token();
        let limits = &self.config.grpc;
        let server = server(limits.max_connection_age);
        let (health, routes) =
            routes(server, self.service, &self.hall, limits.max_connection_age).await?;
        let gatekeeper = Gatekeeper {
            tls: self.tls,
            most: limits.max_connections,
            longest: limits
                .max_connection_age
                .saturating_add(limits.max_connection_age_grace),
            chores: self.chores.clone(),
        };
        let incoming = gatekeeper.incoming(self.grpc);
        for warning in limits.warnings() {
            tracing::warn!("{warning}");
        }
        if let Some(warning) = files::warning(&self.config) {
            tracing::warn!("{warning}");
        }
        let serving =
            routes.serve_with_incoming_shutdown(incoming, drain.clone().cancelled_owned());
        let calls = self.chores.spawn_until(&drain, "the gRPC server", serving);
        let stop = self.chores.stop.clone();
        self.chores.spawn_until(
            &stop,
            "the operations server",
            self.pages.serve(self.ops, stop.clone().cancelled_owned()),
        );
        let ceiling = bytesize::ByteSize(ceiling::bytes(&self.config));
        tracing::info!(grpc.addr = %grpc_addr, ops.addr = %ops_addr, memory.ceiling = %ceiling, "contactd serves");

        tokio::select! {
            () = shutdown => {}
            _ = self.chores.broken() => {}
        }
        tracing::info!("stopping: not ready any more, calls in hand are answered");
        self.ready.store(false, Ordering::Relaxed);
        health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        health
            .set_not_serving::<ContactServiceServer<ContactRpc>>()
            .await;
        self.stopping.cancel();
        clock::sleep(self.config.grpc.drain_delay).await;
        drain.cancel();
        let served = match clock::timeout(self.config.grpc.drain_timeout, calls).await {
            Some(Ok(served)) => served.context("the gRPC server failed"),
            Some(Err(panicked)) => Err(panicked).context("the gRPC server broke off"),
            None => {
                tracing::warn!("some connections did not end within grpc.drain_timeout");
                Ok(())
            }
        };
        self.loads.close();
        if clock::timeout(LOADS_AFTER_DRAIN, self.loads.wait())
            .await
            .is_none()
        {
            tracing::warn!("some CRM look-ups did not end in time and were given up");
        }
        // In a thread that may block: the last spans go out now, within their time.
        tokio::task::spawn_blocking(move || self.tracer.finish())
            .await
            .context("the spans broke off")?;
        drop(self.stop_with_it);
        if let Some(log) = &self.log {
            // The reader, which would count this replica again, has ended.
            log.leave().await;
        }
        tracing::info!("stopped");
        served.and_then(|()| self.chores.check())
    }
}

/// What connections are encrypted with, and the watch over it.
fn encryption(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    chores: &Chores,
) -> Result<Option<Tls>, tls::Error> {
    let Some(files) = &config.grpc.tls else {
        return Ok(None);
    };
    let tls = Tls::load(files, Arc::clone(clock))?;
    let expires = metrics.tls_certificate_expires.gauge();
    chores.spawn(
        "the watch over certificates",
        tls::Watch::new(tls.clone(), Arc::clone(clock), expires).run(),
    );
    Ok(Some(tls))
}

async fn bind(addr: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("{setting}: cannot listen on {addr}"))
}

/// The server with HTTP/2's limits. What h2 does by itself: it ends a connection whose client opens
/// streams and resets them at once (20 that were not looked at yet), or sends header blocks or
/// empty frames without end.
fn server(age: Duration) -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        // Without tonic's grace, which would leave out the announcement: the connection itself ends
        // after it.
        .max_connection_age(age)
}

/// The service with health and reflection (v1, and v1alpha for older clients).
async fn routes(
    mut server: Server,
    service: ContactRpc,
    hall: &CallGate,
    watch: Duration,
) -> anyhow::Result<(HealthReporter, Router)> {
    let (health, health_service) = health_reporter();
    health
        .set_serving::<ContactServiceServer<ContactRpc>>()
        .await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = server
        .add_service(hall.before_calls(ContactServiceServer::new(service)))
        // A watch is told to begin again when its connection is about to end anyway.
        .add_service(hall.before_health(health_service, watch))
        .add_service(
            hall.before_reflection(
                reflection()
                    .build_v1()?
                    .max_decoding_message_size(REFLECTION_BYTES),
            ),
        )
        .add_service(
            hall.before_reflection(
                reflection()
                    .build_v1alpha()?
                    .max_decoding_message_size(REFLECTION_BYTES),
            ),
        );
    Ok((health, router))
}
