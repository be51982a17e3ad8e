//! The Example CRM: a real HTTP server over a generated data set, for the demo, tests and
//! benchmarks.
//!
//! It behaves as CRMs do: its search is fuzzy, it pages, and it requires a bearer token. On request
//! it is slow, fails or limits the rate. Equal options make equal data.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::serve::ListenerExt as _;
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::net::TcpListener;

mod dataset;
mod generate;
mod limits;
mod numbers;
mod records;
mod server;
// Formatted by hand: one word a line would be hundreds of lines.
#[rustfmt::skip]
mod words;

pub(crate) use dataset::DataSet;
pub(crate) use limits::RateLimit;
pub(crate) use records::Samples;

use limits::RequestLimiter;

/// The content of the Example CRM, and its faults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How long every reply waits, refusals too.
    pub latency: Duration,
    /// The part of the accepted requests that fail with 500: 0 is none, 1 is all.
    pub error_rate: f64,
    /// The rate limit of each bearer token, if any.
    pub rate_limit: Option<RateLimit>,
    /// Decides the data and which requests fail.
    pub seed: u64,
    /// How many contacts there are; see `generate::MIN_CONTACTS` for the fewest.
    pub contacts: usize,
}

impl Default for Options {
    /// 10,000 contacts, and no trouble.
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            error_rate: 0.0,
            rate_limit: None,
            seed: 1,
            contacts: 10_000,
        }
    }
}

/// The Example CRM: its data, and what its requests share.
#[derive(Debug)]
pub struct ExampleCrm {
    data: Arc<DataSet>,
    latency: Duration,
    error_rate: f64,
    limiter: Option<RequestLimiter>,
    /// Decides which requests fail.
    faults: Mutex<Rng>,
    requests: AtomicU64,
    /// Those that the rate limit refused.
    refused: AtomicU64,
}

impl ExampleCrm {
    /// Generates the data set, which takes some microseconds per contact. Nothing listens before
    /// [`serve`](Self::serve).
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options {
            latency,
            error_rate,
            rate_limit,
            seed,
            contacts,
        } = options;
        Self {
            data: Arc::new(DataSet::generate(seed, contacts)),
            latency,
            error_rate,
            limiter: rate_limit.and_then(RequestLimiter::new),
            faults: Mutex::new(Rng::with_seed(seed)),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// The contacts.
    #[must_use]
    pub fn data(&self) -> &Arc<DataSet> {
        &self.data
    }

    /// How many HTTP requests have arrived, including refused ones. May be read while it serves.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many of these the rate limit refused with 429.
    #[must_use]
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Serves the API until `shutdown` resolves, then lets the open requests finish.
    ///
    /// # Errors
    ///
    /// None in practice: if a connection cannot be accepted, it is skipped.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let listener = listener.tap_io(|connection| {
            // Replies are small: without this each could wait for an acknowledgement. A failure
            // only makes them slower.
            let _ = connection.set_nodelay(true);
        });
        axum::serve(listener, server::router(self))
            .with_graceful_shutdown(shutdown)
            .await
    }
}
