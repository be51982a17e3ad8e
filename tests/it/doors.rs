//! What is open without a credential: health, reflection, the operations port. Each is bounded.

use std::net::SocketAddr;
use std::time::Duration;

use contactd::clock;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::support::daemon::get;
use crate::support::program::Program;
use crate::support::wire::{connect, frame, head};
use crate::support::{FakeCrm, TestDaemon};

async fn channel(daemon: &TestDaemon) -> Channel {
    Endpoint::from_shared(format!("http://{}", daemon.grpc))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn watch(channel: &Channel) -> Result<Streaming<HealthCheckResponse>, Code> {
    let watch = HealthClient::new(channel.clone())
        .watch(HealthCheckRequest::default())
        .await;
    watch
        .map(tonic::Response::into_inner)
        .map_err(|status| status.code())
}

#[tokio::test]
async fn watching_health_is_bounded_and_a_place_comes_back() {
    let crm = FakeCrm::with(vec![]).await;
    let tokens = format!(
        "[grpc]\nmax_connections = 4\ntokens = [{{ name = \"a\", sha256 = \"{}\" }}]\n",
        crate::clients::sha256("a")
    );
    let daemon = TestDaemon::with(&crm, "example", &tokens).await;
    let (flooded, other) = (channel(&daemon).await, channel(&daemon).await);
    let streams = join_all((0..100).map(|_| watch(&flooded))).await;
    let (held, refused): (Vec<_>, Vec<_>) = streams.into_iter().partition(Result::is_ok);
    assert!(
        held.len() > 8 && held.len() <= 32,
        "{} streams are held",
        held.len()
    );
    assert!(
        refused
            .iter()
            .all(|refused| matches!(refused, Err(Code::ResourceExhausted)))
    );
    assert!(
        watch(&other).await.is_ok(),
        "a connection that has fewer gets a place"
    );
    let mut health = HealthClient::new(flooded.clone());
    assert!(
        health.check(HealthCheckRequest::default()).await.is_ok(),
        "checks have places of their own"
    );
    drop(held);
    let again = async { while watch(&flooded).await.is_err() {} };
    clock::timeout(Duration::from_secs(10), again)
        .await
        .expect("places come back");
}

#[tokio::test]
async fn health_checks_that_never_arrive_whole_are_bounded_and_ended() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_connections = 5\n").await;
    let path = "/grpc.health.v1.Health/Check";
    let mut sender = connect(daemon.grpc).await;
    let mut halves = Vec::new();
    for _ in 0..100 {
        sender = sender.ready().await.unwrap();
        halves.push(sender.send_request(head(daemon.grpc, path), false).unwrap());
    }
    let statuses = join_all(halves.into_iter().map(|(response, upload)| async move {
        let response = clock::timeout(Duration::from_secs(30), response)
            .await
            .expect("it is ended")
            .unwrap();
        let _upload = upload;
        Status::from_header_map(response.headers()).map(|status| status.code())
    }));
    let statuses = statuses.await;
    let refused = statuses
        .iter()
        .filter(|code| **code == Some(Code::ResourceExhausted))
        .count();
    assert!(refused >= 80, "{statuses:?}");
    assert!(
        statuses
            .iter()
            .all(|code| code.is_some_and(|code| code != Code::Ok)),
        "{statuses:?}"
    );
    let check = HealthClient::new(channel(&daemon).await)
        .check(HealthCheckRequest::default())
        .await;
    assert!(check.is_ok());
}

#[tokio::test]
async fn a_watch_ends_with_the_age_of_its_connection() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_connection_age = \"1s\"\n").await;
    let mut watch = watch(&channel(&daemon).await).await.unwrap();
    assert!(watch.message().await.unwrap().is_some());
    let ended = clock::timeout(Duration::from_secs(20), watch.message())
        .await
        .expect("it ends");
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn reflection_keeps_its_places_as_long_as_its_streams() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    // With the sending half, without which the stream would end.
    let begin = async |channel: Channel| {
        let (asking, asked) = tokio::sync::mpsc::channel::<ServerReflectionRequest>(1);
        let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
        let begun = ServerReflectionClient::new(channel)
            .server_reflection_info(asked)
            .await;
        begun
            .map(|begun| (asking, begun.into_inner()))
            .map_err(|status| status.code())
    };
    let mut held = Vec::new();
    for _ in 0..4 {
        let connection = channel(&daemon).await;
        let streams = join_all((0..20).map(|_| begin(connection.clone()))).await;
        held.extend(streams.into_iter().filter_map(Result::ok));
    }
    assert_eq!(
        held.len(),
        contactd::grpc::REFLECTIONS,
        "of all connections together"
    );
    assert_eq!(
        begin(channel(&daemon).await).await.unwrap_err(),
        Code::ResourceExhausted
    );
    assert!(
        watch(&channel(&daemon).await).await.is_ok(),
        "health is not concerned"
    );
    drop(held);
    let again = async { while begin(channel(&daemon).await).await.is_err() {} };
    clock::timeout(Duration::from_secs(10), again)
        .await
        .expect("places come back");
}

/// Kibibytes of a line of `/proc/PID/status`.
fn memory(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|text| text.strip_prefix(line))
        .unwrap();
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// The patterns of a numbering plan are compiled when it is needed; those of all take 41 MiB.
#[tokio::test]
async fn a_daemon_that_was_asked_nothing_yet_holds_no_numbering_plans() {
    let settings = "[connectors.clio]\nkind = \"clio\"\n";
    // As small as what it holds, whatever the system's huge pages are.
    let program = Program::start_with(settings, "info", &[("MIMALLOC_ALLOW_THP", "0")]).await;
    let anonymous = memory(program.pid(), "RssAnon");
    assert!(anonymous < 24 << 10, "{anonymous} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_under_the_stated_ceiling_while_every_open_door_is_flooded() {
    const CONNECTIONS: usize = 64;
    let crm = FakeCrm::with(vec![]).await;
    let program = Program::start_with(
        &format!(
            "[grpc]\nmax_in_flight = 16\nmax_prefetch_jobs = 2\nmax_connections = {CONNECTIONS}\n[cache]\n\
             memory = \"8MiB\"\n[lookup]\nmax_reply = \"256KiB\"\n[connectors.example]\nkind = \"example\"\n\
             base_url = \"{}\"\n",
            crm.url()
        ),
        "info",
        &[],
    )
    .await;
    let status: serde_json::Value =
        serde_json::from_str(&get(&format!("{}/status.json", program.ops)).await.1).unwrap();
    let stated = status["memory_ceiling_bytes"].as_u64().unwrap() / 1024;
    assert!(
        program.log().contains("memory.ceiling"),
        "{}",
        program.log()
    );
    let before = memory(program.pid(), "VmRSS");
    // What the doors may add: connections with their streams, reflection, the operations port, the
    // allocator.
    let doors = 512 * CONNECTIONS as u64 + (2 << 10) + (16 << 10) + (48 << 10);

    let grpc: SocketAddr = program.grpc.trim_start_matches("http://").parse().unwrap();
    let ops: SocketAddr = program.ops.trim_start_matches("http://").parse().unwrap();
    let mut halves = Vec::new();
    for _ in 0..500 {
        let mut half = TcpStream::connect(ops).await.unwrap();
        // It may be closed already: the daemon keeps some.
        let part = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(12 << 10));
        let _ = half.write_all(part.as_bytes()).await;
        halves.push(half);
    }
    let mut held = Vec::new();
    let body = frame(&HealthCheckRequest::default());
    for n in 0..CONNECTIONS {
        let mut sender = connect(grpc).await;
        for _ in 0..250 {
            sender = sender.ready().await.unwrap();
            let path = [
                "/grpc.health.v1.Health/Watch",
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            ][n % 2];
            let (response, mut upload) = sender.send_request(head(grpc, path), false).unwrap();
            // A watch asks once; a stream of reflection that asks nothing waits for its caller.
            if n % 2 == 0 {
                let _ = upload.send_data(body.clone(), true);
            }
            held.push((response, upload));
        }
    }
    let answered = join_all(
        held.into_iter()
            .map(|(response, upload)| async move { (response.await, upload) }),
    )
    .await;
    let peak = memory(program.pid(), "VmHWM");
    assert!(
        peak < before + doors,
        "{peak} KiB, {before} before, {doors} for the doors"
    );
    assert!(peak < stated, "{peak} KiB, {stated} are stated");
    let responses = answered
        .into_iter()
        .filter_map(|(response, upload)| Some((response.ok()?, upload)));
    let mut open = Vec::new();
    for (response, upload) in responses {
        // A refusal has its status in the head.
        if response.headers().contains_key("grpc-status") {
            continue;
        }
        open.push((response.into_body(), upload));
    }
    // The end of a stream may still be on its way.
    let is_open = |body: &mut h2::RecvStream| {
        let mut read = body.data().now_or_never();
        while let Some(Some(Ok(_))) = read {
            read = body.data().now_or_never();
        }
        read.is_none()
    };
    let few = clock::timeout(Duration::from_secs(30), async {
        loop {
            open.retain_mut(|(body, _)| is_open(body));
            if open.len() <= CONNECTIONS * 8 + 16 {
                break;
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
    });
    let is_few = few.await.is_some();
    assert!(is_few, "{} streams are held", open.len());
    assert_eq!(get(&format!("{}/livez", program.ops)).await.0, 200);
}

#[tokio::test]
async fn half_requests_at_the_operations_port_neither_stay_nor_keep_others_out() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let mut halves = Vec::new();
    for _ in 0..200 {
        let mut half = TcpStream::connect(daemon.ops).await.unwrap();
        // It may be closed already: the daemon keeps some.
        let _ = half.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n").await;
        halves.push(half);
    }
    assert_eq!(daemon.page("/readyz").await.0, 200);
    let ended = join_all(halves.into_iter().map(|mut half| async move {
        let mut bytes = Vec::new();
        clock::timeout(Duration::from_secs(30), half.read_to_end(&mut bytes))
            .await
            .is_some()
    }));
    assert!(
        ended.await.into_iter().all(|ended| ended),
        "all of them are closed"
    );
    assert_eq!(daemon.page("/livez").await.0, 200);
}
