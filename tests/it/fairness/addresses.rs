//! What one address can hold: half requests, watches of health, connections. Whoever has few is
//! served while somebody else has many.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use contactd::clock;
use contactd::pb::v1::FindContactResponse;
use futures_util::StreamExt as _;
use futures_util::future::{join_all, select_all};
use futures_util::stream::FuturesUnordered;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;

use crate::clients::sha256;
use crate::support::daemon::{details, names};
use crate::support::wire::{FIND, call, connect, connect_from, frame, head, stall};
use crate::support::{FakeCrm, TestDaemon, contact, find};

const GOOD: &str = "127.0.0.1";
const BAD: &str = "127.0.0.2";

async fn daemon(more: &str) -> (FakeCrm, TestDaemon) {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::with(&crm, "example", more).await;
    daemon.find(find()).await.unwrap();
    (crm, daemon)
}

/// A look-up whose last bytes are missing.
async fn half(
    sender: &SendRequest<Bytes>,
    daemon: SocketAddr,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, mut upload) = sender.send_request(head(daemon, FIND), false).unwrap();
    upload.send_data(frame(&find()).slice(..20), false).unwrap();
    (response, upload)
}

/// A client that is slow with its request, while 40 half requests come from `BAD` on five
/// connections, and there is room for eight.
async fn a_slow_client_is_served(from: &str) {
    let (_crm, daemon) = daemon("[grpc]\nmax_in_flight = 8\n").await;
    let good = connect_from(from, daemon.grpc).await;
    let (response, mut upload) = half(&good, daemon.grpc).await;
    // The daemon has seen the half of it when a later one has been answered.
    call(&good, head(daemon.grpc, FIND), frame(&find()))
        .await
        .unwrap();
    let (mut flood, mut uploads) = (FuturesUnordered::new(), Vec::new());
    for _ in 0..5 {
        let bad = connect_from(BAD, daemon.grpc).await;
        for _ in 0..8 {
            let (response, upload) = half(&bad, daemon.grpc).await;
            flood.push(response);
            uploads.push(upload);
        }
    }
    for _ in 0..32 {
        flood.next().await.unwrap().unwrap();
    }
    upload.send_data(frame(&find()).slice(20..), true).unwrap();
    let mut response = response.await.unwrap();
    assert!(
        Status::from_header_map(response.headers()).is_none(),
        "it is not refused"
    );
    let answer = response.body_mut().data().await.unwrap().unwrap();
    let answer = FindContactResponse::decode(&answer[5..]).unwrap();
    assert_eq!(names(&answer), ["Ada"]);
}

#[tokio::test]
async fn half_requests_send_away_no_slow_client_of_another_address() {
    a_slow_client_is_served(GOOD).await;
}

#[tokio::test]
async fn half_requests_send_away_no_slow_client_with_a_connection_of_its_own() {
    a_slow_client_is_served(BAD).await;
}

/// The head of the answer to a watch of health, and its stream.
async fn watch(
    sender: &SendRequest<Bytes>,
    daemon: SocketAddr,
) -> (Option<Status>, h2::RecvStream) {
    let mut sender = sender.clone().ready().await.unwrap();
    let head = head(daemon, "/grpc.health.v1.Health/Watch");
    let (response, mut upload) = sender.send_request(head, false).unwrap();
    upload
        .send_data(frame(&HealthCheckRequest::default()), true)
        .unwrap();
    let (head, body) = response.await.unwrap().into_parts();
    (Status::from_header_map(&head.headers), body)
}

/// How a watch ends.
async fn end(mut body: h2::RecvStream) -> Status {
    while let Some(data) = body.data().await {
        data.unwrap();
    }
    Status::from_header_map(&body.trailers().await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn a_proxy_may_watch_health_for_many_until_somebody_with_fewer_needs_a_place() {
    let (_crm, daemon) = daemon("[grpc]\nmax_connections = 4\n").await;
    let proxy = connect_from(BAD, daemon.grpc).await;
    let watches = join_all((0..40).map(|_| watch(&proxy, daemon.grpc))).await;
    let (held, refused): (Vec<_>, Vec<_>) = watches
        .into_iter()
        .partition(|(status, _)| status.is_none());
    assert_eq!((held.len(), refused.len()), (32, 8), "eight a connection");
    for (status, _) in refused {
        let status = status.unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("health"), "{}", status.message());
        let details = details(&status);
        assert_eq!(details.reason, "OVERLOADED");
        assert!(details.retry_after.is_some());
    }
    let mut held: Vec<_> = held
        .into_iter()
        .map(|(_, body)| Box::pin(end(body)))
        .collect();
    let mut others = Vec::new();
    // Of the same address, then of another one: one of the proxy's gives its place.
    for from in [BAD, GOOD] {
        let other = connect_from(from, daemon.grpc).await;
        let (status, mut body) = watch(&other, daemon.grpc).await;
        assert!(status.is_none(), "{from}: {status:?}");
        assert!(body.data().await.is_some_and(|data| data.is_ok()));
        others.push((other, body));
        let (ended, _, rest) = select_all(held).await;
        held = rest;
        assert_eq!(ended.code(), Code::ResourceExhausted);
        assert_eq!(details(&ended).reason, "OVERLOADED");
    }
}

#[tokio::test]
async fn connections_of_known_callers_do_not_give_way_to_strangers() {
    let tokens = format!(
        "[grpc]\nmax_connections = 8\ntokens = [{{ name = \"pbx\", sha256 = \"{}\" }}]\n",
        sha256("secret")
    );
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::with(&crm, "example", &tokens).await;
    let known = || {
        let mut head = head(daemon.grpc, FIND);
        let value = "Bearer secret".parse().unwrap();
        head.headers_mut().insert("authorization", value);
        head
    };
    let mut proxy = Vec::new();
    // The daemon's own client, which has not called, is one of its address.
    for _ in 0..5 {
        let sender = connect_from(GOOD, daemon.grpc).await;
        call(&sender, known(), frame(&find())).await.unwrap();
        proxy.push(sender);
    }
    let mut strangers = Vec::new();
    for n in [2, 2, 3, 4, 5, 6] {
        let from = format!("127.0.0.{n}:0").parse().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from).unwrap();
        let mut stranger = socket.connect(daemon.grpc).await.unwrap();
        // It is there once it is greeted, or is closed.
        let _ = stranger.write_all(crate::support::wire::HELLO).await;
        let _ = stranger.readable().await;
        strangers.push(stranger);
    }
    for sender in &proxy {
        assert!(sender.clone().ready().await.is_ok(), "it is open");
        call(sender, known(), frame(&find())).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_gone_once_another_has_its_place() {
    let (_crm, daemon) = daemon("[grpc]\nmax_connections = 3\n").await;
    // The daemon's own client is of this address as well, and is busy after it.
    let mut stalled = TcpStream::connect(daemon.grpc).await.unwrap();
    stall(&mut stalled).await;
    daemon.find(find()).await.unwrap();
    let _third = connect(daemon.grpc).await;
    let other = connect_from(BAD, daemon.grpc).await;
    let answer = call(&other, head(daemon.grpc, FIND), frame(&find())).await;
    assert!(answer.is_ok(), "{answer:?}");
    let closed = async { while stalled.write_all(crate::support::wire::PING).await.is_ok() {} };
    clock::timeout(Duration::from_secs(5), closed)
        .await
        .expect("it is closed at once");
}
