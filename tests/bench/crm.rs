//! A CRM over real HTTP that has a contact for every number, and takes as long as it is told.
//!
//! Two platforms lead to it. `bench` (`crm.toml`) makes one call for a look-up, and one for 250
//! numbers of a prefetch. `single` is the same CRM without searches for many numbers.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use axum::extract::State;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

/// The path of its only method.
pub(super) const SEARCH: &str = "/search";

const CONNECTOR: &str = include_str!("crm.toml");
const MANY: &str = "batch = 250\n";

/// The CRM, on a thread of its own.
#[derive(Debug)]
pub(super) struct BenchCrm {
    addr: SocketAddr,
    /// The connector files of both platforms.
    files: TempDir,
    calls: Arc<AtomicU64>,
}

#[derive(Debug, Clone)]
struct Script {
    latency: Duration,
    calls: Arc<AtomicU64>,
}

#[derive(Debug, Deserialize)]
struct Sought {
    numbers: Vec<String>,
}

impl BenchCrm {
    /// Serves until the process ends. Every reply takes `latency`.
    pub(super) fn start(latency: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let (addr, calls) = (listener.local_addr()?, Arc::<AtomicU64>::default());
        let script = Script {
            latency,
            calls: Arc::clone(&calls),
        };
        thread::spawn(move || serve(&runtime, listener, script));
        let files = tempfile::tempdir()?;
        fs::write(files.path().join("bench.toml"), CONNECTOR)?;
        ensure!(CONNECTOR.contains(MANY), "no searches for many numbers");
        let single = CONNECTOR.replace(MANY, "");
        fs::write(files.path().join("single.toml"), single)?;
        Ok(Self { addr, files, calls })
    }

    /// How many calls it has seen.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The settings of a daemon that asks it for users of both platforms.
    pub(super) fn settings(&self) -> String {
        let connector = |name| {
            format!(
                "connectors.{name} = {{ kind = 'file', spec = '{}/{name}.toml', base_url = '{}', region = 'US', \
                 quota = {{ prefetch_share = 1.0 }} }}\n",
                self.files.path().display(),
                self.url()
            )
        };
        ["bench", "single"].map(connector).concat()
    }
}

fn serve(runtime: &Runtime, listener: TcpListener, script: Script) {
    let router = Router::new().route(SEARCH, post(search)).with_state(script);
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    // It serves until the process ends.
    let _ = runtime.block_on(async { axum::serve(listener, router).await });
}

async fn search(State(script): State<Script>, Json(sought): Json<Sought>) -> Json<Value> {
    script.calls.fetch_add(1, Ordering::Relaxed);
    if script.latency > Duration::ZERO {
        // Timers of the runtime would round it up to the next millisecond.
        let _ = spawn_blocking(move || thread::sleep(script.latency)).await;
    }
    let contacts: Vec<Value> = sought.numbers.iter().map(|number| record(number)).collect();
    Json(json!({ "contacts": contacts }))
}

/// A contact of usual length.
fn record(number: &str) -> Value {
    let id = number.trim_start_matches('+');
    json!({
        "id": id, "phone": number, "name": format!("Katherine Johnson {id}"), "title": "Head of Procurement",
        "company": "Summit Manufacturing Inc.", "email": format!("katherine.johnson.{id}@example.com"),
        "created": "2024-02-29T08:15:00Z", "last_activity": "2025-06-30T16:45:00Z",
    })
}
