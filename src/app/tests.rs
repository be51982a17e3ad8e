//! Every part of the real daemon, ended by a panic.

use std::collections::BTreeMap;
use std::fs;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::{clock, config};

const GRPC: &str = "the gRPC server";
const ACCEPT: &str = "the accept loop";
const OPS: &str = "the operations server";
const CERTIFICATES: &str = "the watch over certificates";

/// Ends parts on command, in tests only.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaks(Arc<Mutex<BTreeMap<&'static str, oneshot::Sender<()>>>>);

impl Breaks {
    /// The work, which panics if the test says so.
    pub(super) fn within<T, W>(
        &self,
        part: &'static str,
        work: W,
    ) -> impl Future<Output = T> + Send + use<T, W>
    where
        T: Send,
        W: Future<Output = T> + Send,
    {
        let (panic, told) = oneshot::channel();
        self.0.lock().insert(part, panic);
        async move {
            let broken = async {
                match told.await {
                    Ok(()) => panic!("as the test says"),
                    // Nobody sends it.
                    Err(_) => pending::<()>().await,
                }
            };
            tokio::select! {
                done = work => done,
                () = broken => pending().await,
            }
        }
    }

    fn panic_in(&self, part: &str) {
        let (_, panic) = self.0.lock().remove_entry(part).expect("it was started");
        panic.send(()).expect("it runs");
    }

    fn parts(&self) -> Vec<&'static str> {
        self.0.lock().keys().copied().collect()
    }
}

/// A daemon with every optional part. Redis is down, which ends nothing.
async fn daemon(certificates: Option<&tempfile::TempDir>) -> App {
    let mut settings = "[ops]\nlisten = \"127.0.0.1:0\"\n[redis]\nurl = \"redis://127.0.0.1:1\"\n\
                        [connectors.example]\nkind = \"example\"\nbase_url = \"http://127.0.0.1:1\"\n\
                        [grpc]\nlisten = \"127.0.0.1:0\"\ndrain_delay = \"1s\"\n"
        .to_owned();
    if let Some(folder) = certificates {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        fs::write(&cert, pair.cert.pem()).unwrap();
        fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        settings += &format!("tls = {{ cert = {cert:?}, key = {key:?} }}\n");
    }
    let config = config::read(&settings, [])
        .unwrap_or_else(|faults| panic!("{faults:?}"))
        .config;
    App::build(config, Counter::default()).await.unwrap()
}

#[expect(clippy::disallowed_methods, reason = "this is no CRM")]
async fn is_ready(ops: SocketAddr) -> bool {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ));
    let tls = tls
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty());
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.with_no_client_auth())
        .no_proxy();
    let answer = client
        .build()
        .unwrap()
        .get(format!("http://{ops}/readyz"))
        .send()
        .await
        .unwrap();
    answer.status().is_success()
}

async fn is_serving(channel: &Channel) -> bool {
    let answer = HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    answer.get_ref().status() == ServingStatus::Serving
}

async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let waited = clock::timeout(Duration::from_secs(10), async {
        while !happened().await {
            clock::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_some(), "{what}: still not so");
}

/// What happens to the daemon if a part panics.
async fn panics_in(part: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let app = daemon((part == CERTIFICATES).then_some(&folder)).await;
    let ((grpc, ops), breaks) = (
        app.addresses().unwrap(),
        app.daemon.supervisor.breaks.clone(),
    );
    let running = TaskTracker::new().spawn(app.run(pending()));
    eventually("ready", async || is_ready(ops).await).await;
    // A server that is gone cannot be called, and one with TLS needs another client.
    let is_asked = ![GRPC, ACCEPT, CERTIFICATES].contains(&part);
    let channel = Endpoint::from_shared(format!("http://{grpc}"))
        .unwrap()
        .connect_lazy();
    if is_asked {
        assert!(is_serving(&channel).await, "{part}");
    }

    breaks.panic_in(part);
    if part != OPS {
        eventually("not ready", async || !is_ready(ops).await).await;
    }
    if is_asked {
        eventually("not serving", async || !is_serving(&channel).await).await;
    }
    let ended = clock::timeout(Duration::from_secs(20), running)
        .await
        .expect("it stops")
        .unwrap();
    let error = format!("{:#}", ended.expect_err("its exit code is 1"));
    assert!(error.starts_with(part), "{error}");
}

#[tokio::test]
async fn a_part_that_panics_ends_the_daemon_in_order_and_with_an_error() {
    let parts = [
        GRPC,
        ACCEPT,
        OPS,
        CERTIFICATES,
        "the Redis keeper",
        "the log reader",
        "the sweep of memory",
        "the sweep of quotas",
        "the record of the status page",
    ];
    futures_util::future::join_all(parts.map(panics_in)).await;

    let folder = tempfile::tempdir().unwrap();
    let app = daemon(Some(&folder)).await;
    let (breaks, stop) = (
        app.daemon.supervisor.breaks.clone(),
        CancellationToken::new(),
    );
    let ops = app.addresses().unwrap().1;
    let running = TaskTracker::new().spawn(app.run(stop.clone().cancelled_owned()));
    eventually("ready", async || is_ready(ops).await).await;
    let mut expected = parts.to_vec();
    expected.sort_unstable();
    assert_eq!(breaks.parts(), expected, "every part is in this test");
    stop.cancel();
    running
        .await
        .unwrap()
        .expect("a stop that was asked for is no failure");
}

#[tokio::test]
async fn a_part_may_end_when_everything_does_and_not_before() {
    let supervisor = Supervisor::default();
    supervisor.spawn("one", pending());
    supervisor.spawn_until(
        &supervisor.stop,
        "two",
        supervisor.stop.clone().cancelled_owned(),
    );
    supervisor.stop.cancel();
    supervisor.tasks.close();
    supervisor.tasks.wait().await;
    supervisor.check().unwrap();

    let supervisor = Supervisor::default();
    supervisor.spawn("one", pending());
    supervisor.spawn("two", async {});
    assert_eq!(supervisor.broken().await, "two");
    assert!(
        supervisor
            .check()
            .unwrap_err()
            .to_string()
            .starts_with("two ")
    );
}

#[tokio::test]
async fn a_daemon_that_is_given_up_half_way_has_no_part_that_failed() {
    let app = daemon(None).await;
    let supervisor = app.daemon.supervisor.clone();
    drop(app);
    supervisor.tasks.close();
    supervisor.tasks.wait().await;
    supervisor.check().unwrap();
}
