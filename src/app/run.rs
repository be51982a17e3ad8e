//! Serving, and a graceful shutdown.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::server::HealthReporter;

use super::http1::Http1;
use super::listen::Gatekeeper;
use super::server::{routes, server};
use super::workers::Worker;
use super::{App, Daemon, Ports, ceiling, files};
use crate::clock;
use crate::grpc::ContactRpc;
use crate::grpc::server::ContactServiceServer;

/// How long background loads may run after the last call.
const LOADS_AFTER_DRAIN: Duration = Duration::from_secs(2);

/// The gRPC server while it runs.
struct Serving {
    health: HealthReporter,
    /// When cancelled, it takes no more connections and ends with the last call.
    drain: CancellationToken,
    /// One of each worker.
    calls: Vec<JoinHandle<Result<(), tonic::transport::Error>>>,
    /// The connections of HTTP/1.1.
    http1: TaskTracker,
}

impl Serving {
    /// Waits for the last call.
    async fn ended(self) -> Result<Result<(), tonic::transport::Error>, JoinError> {
        let served = try_join_all(self.calls).await;
        self.http1.close();
        self.http1.wait().await;
        served.map(|served| served.into_iter().collect())
    }
}

impl App {
    /// Serves until `shutdown` or a part of the daemon ends, then shuts down gracefully: reports
    /// NOT_SERVING and not ready, serves for `grpc.drain_delay` so that balancers notice, takes no
    /// new connections, lets calls end within `grpc.drain_timeout`, and then the background loads
    /// within [`LOADS_AFTER_DRAIN`].
    ///
    /// # Errors
    /// If a listener fails, or a part of the daemon ended early.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (grpc_addr, ops_addr) = self.addresses()?;
        let Self {
            ports,
            service,
            daemon,
            ..
        } = self;
        let serving = daemon.serve(ports, service).await?;
        let ceiling = bytesize::ByteSize(ceiling::bytes(&daemon.config));
        tracing::info!(grpc.addr = %grpc_addr, ops.addr = %ops_addr, memory.ceiling = %ceiling, "contactd serves");
        tokio::select! {
            () = shutdown => {}
            _ = daemon.supervisor.broken() => {}
        }
        daemon.announce_stop(&serving).await;
        let served = daemon.drain(serving).await;
        let finished = daemon.finish().await;
        served.and(finished)
    }
}

impl Daemon {
    /// Opens both ports.
    async fn serve(&self, ports: Ports, service: ContactRpc) -> anyhow::Result<Serving> {
        let age = self.config.grpc.max_connection_age;
        let find = service.find_first(&self.gate);
        let (health, routes) = routes(service, &self.gate, self.http.clone(), age).await?;
        self.warn();
        let drain = self.supervisor.stop.child_token();
        let http1 = Http1 {
            front: self.http.clone(),
            age,
            drain: drain.clone(),
            open: TaskTracker::new(),
        };
        let open = http1.open.clone();
        let workers = self.workers.each();
        let incoming = self.gatekeeper(http1).incoming(ports.grpc, workers);
        let serve = |(worker, incoming): (&Worker, _)| {
            let serving = server(age)
                .layer(find.clone())
                .add_routes(routes.clone())
                .serve_with_incoming_shutdown(incoming, drain.clone().cancelled_owned());
            let (runtime, part) = (&worker.handle, "the gRPC server");
            self.supervisor
                .spawn_until_on(runtime, &drain, part, serving)
        };
        let calls = workers.iter().zip(incoming).map(serve).collect();
        self.serve_pages(ports.ops);
        Ok(Serving {
            health,
            drain,
            calls,
            http1: open,
        })
    }

    /// Logs what works, but may not be intended.
    fn warn(&self) {
        let warnings = self.config.grpc.warnings().into_iter();
        for warning in warnings.chain(files::warning(&self.config)) {
            tracing::warn!("{warning}");
        }
    }

    fn gatekeeper(&self, http1: Http1) -> Gatekeeper {
        let limits = &self.config.grpc;
        let (age, grace) = (limits.max_connection_age, limits.max_connection_age_grace);
        Gatekeeper {
            http1,
            tls: self.tls.clone(),
            most: limits.max_connections,
            longest: age.saturating_add(grace),
            supervisor: self.supervisor.clone(),
        }
    }

    fn serve_pages(&self, listener: TcpListener) {
        let stop = &self.supervisor.stop;
        let pages = self.pages.clone();
        let pages = pages.serve(listener, stop.clone().cancelled_owned());
        self.supervisor
            .spawn_until(stop, "the operations server", pages);
    }

    /// Reports that no more calls are wanted, and gives balancers time to notice.
    async fn announce_stop(&self, serving: &Serving) {
        tracing::info!("stopping: no longer ready, running calls are answered");
        self.ready.store(false, Ordering::Relaxed);
        let health = &serving.health;
        health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        health
            .set_not_serving::<ContactServiceServer<ContactRpc>>()
            .await;
        self.stopping.cancel();
        clock::sleep(self.config.grpc.drain_delay).await;
    }

    /// Lets calls and loads end, each within a time limit.
    async fn drain(&self, serving: Serving) -> anyhow::Result<()> {
        serving.drain.cancel();
        let served = match clock::timeout(self.config.grpc.drain_timeout, serving.ended()).await {
            Some(Ok(served)) => served.context("the gRPC server failed"),
            Some(Err(panicked)) => Err(panicked).context("the gRPC server ended unexpectedly"),
            None => {
                tracing::warn!("some connections did not end within grpc.drain_timeout");
                Ok(())
            }
        };
        self.loads.close();
        let ended = clock::timeout(LOADS_AFTER_DRAIN, self.loads.wait()).await;
        if ended.is_none() {
            tracing::warn!("some CRM look-ups did not end in time and were given up");
        }
        served
    }

    /// Sends the last spans and ends all parts.
    ///
    /// # Errors
    /// If a part ended early.
    async fn finish(self) -> anyhow::Result<()> {
        // On a blocking thread: the last spans are sent now, within their time limit.
        tokio::task::spawn_blocking(move || self.tracer.finish())
            .await
            .context("sending the last spans failed")?;
        drop(self.stop_with_it);
        if let Some(log) = &self.log {
            // The log reader, which would count this replica again, has ended.
            log.leave().await;
        }
        tracing::info!("stopped");
        self.supervisor.check()
    }
}
