//! From config to a running daemon: the only place that knows all modules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::cache::InvalidationLog;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::connector::Dns;
use crate::grpc::{CallGate, ContactRpc};
use crate::http::HttpFront;
use crate::metrics::Metrics;
use crate::ops::OpsServer;
use crate::tls::Tls;
use crate::trace::Tracer;

mod budgets;
mod build;
mod build_context;
mod ceiling;
mod connection;
mod crowd;
mod files;
mod fleet;
mod fronts;
mod http1;
mod listen;
mod live_stats;
mod log_follower;
mod opening;
mod reload;
mod run;
mod runtime;
mod server;
mod supervisor;
#[cfg(test)]
mod tests;
mod workers;

pub(crate) use reload::Reload;

use runtime::CrmRuntime;
use supervisor::Supervisor;
use workers::Workers;

/// A daemon with bound ports, not yet serving.
#[derive(Debug)]
pub struct App {
    ports: Ports,
    service: ContactRpc,
    reload: Reload,
    daemon: Daemon,
}

#[derive(Debug)]
struct Ports {
    grpc: TcpListener,
    ops: TcpListener,
}

/// What is needed to serve and to stop.
#[derive(Debug)]
struct Daemon {
    config: Config,
    gate: CallGate,
    http: HttpFront,
    tls: Option<Tls>,
    pages: OpsServer,
    ready: Arc<AtomicBool>,
    /// Loads and jobs, which get time to end.
    loads: TaskTracker,
    /// Cancelled when no new jobs may start.
    stopping: CancellationToken,
    supervisor: Supervisor,
    /// Stops all parts when the daemon is dropped, so that their end is not reported as a fault.
    stop_with_it: DropGuard,
    tracer: Tracer,
    log: Option<InvalidationLog>,
    #[expect(dead_code, reason = "held: its threads end with it")]
    crm: CrmRuntime,
    workers: Workers,
}

impl App {
    /// Binds the ports and builds every module. The log writer counts dropped lines in
    /// `log_lines_dropped`.
    ///
    /// # Errors
    /// If a port cannot be bound or TLS for CRM calls cannot be set up.
    pub async fn build(config: Config, log_lines_dropped: Counter) -> anyhow::Result<Self> {
        let (clock, metrics) = (SystemClock::start(), Metrics::new(log_lines_dropped));
        build::app(config, Arc::new(clock), &Dns::system(), metrics).await
    }

    /// As [`App::build`], with another clock and name resolver.
    ///
    /// # Errors
    /// As [`App::build`].
    pub async fn build_with(
        config: Config,
        clock: Arc<dyn Clock>,
        dns: &Dns,
    ) -> anyhow::Result<Self> {
        build::app(config, clock, dns, Metrics::default()).await
    }

    /// The bound addresses: gRPC, operations.
    ///
    /// # Errors
    /// If the system does not report them.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.ports.grpc.local_addr()?, self.ports.ops.local_addr()?))
    }

    /// Applies new settings at run time.
    #[must_use]
    pub(crate) fn reload(&self) -> Reload {
        self.reload.clone()
    }
}
