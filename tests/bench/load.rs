//! A closed loop of gRPC calls over bare HTTP/2: little client CPU, and every status and length is
//! checked.

use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use contactd::clock::{self, Stopwatch};
use h2::client::SendRequest;
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tonic::codegen::http::{HeaderMap, Method, Request};

/// What is called, with what, and how long a right answer is.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    pub(super) path: &'static str,
    pub(super) requests: Vec<Bytes>,
    pub(super) answer_len: Range<usize>,
    pub(super) load: Load,
}

/// How many calls at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) connections: usize,
    /// On each connection.
    pub(super) in_flight: usize,
    /// All calls together, if callers wait for their turn instead of calling as fast as they can.
    pub(super) calls_a_second: Option<u32>,
}

impl Load {
    /// Services under load.
    pub(super) const MANY: Self = Self {
        connections: 16,
        in_flight: 10,
        calls_a_second: None,
    };

    /// One caller.
    pub(super) const ONE: Self = Self {
        connections: 1,
        in_flight: 1,
        calls_a_second: None,
    };

    fn callers(self) -> usize {
        self.connections * self.in_flight
    }

    /// How long a caller waits from one call to the next one.
    fn period(self) -> Option<Duration> {
        let callers = u32::try_from(self.callers()).unwrap_or(u32::MAX);
        let calls_a_second = self.calls_a_second?;
        Some(Duration::from_secs(1) * callers / calls_a_second)
    }
}

/// What one caller, or all of them, measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Nanoseconds per call.
    pub(super) latencies: Vec<u32>,
    /// The last answer of each caller.
    pub(super) answers: Vec<Bytes>,
    pub(super) elapsed: Duration,
}

/// Calls `target` for as long as `duration`.
pub(super) async fn drive(target: &Target, duration: Duration) -> anyhow::Result<Measured> {
    let target = Rc::new(target.clone());
    let callers = LocalSet::new();
    let run = async {
        let mut senders = Vec::new();
        for _ in 0..target.load.connections {
            senders.push(connect(target.addr).await?);
        }
        let stopwatch = Stopwatch::start();
        let mut calls = JoinSet::new();
        for caller in 0..target.load.callers() {
            let sender = senders[caller % senders.len()].clone();
            calls.spawn_local(call_until(
                Rc::clone(&target),
                sender,
                caller,
                stopwatch,
                duration,
            ));
        }
        let mut all = Measured::default();
        while let Some(one) = calls.join_next().await {
            let one = one??;
            all.latencies.extend(one.latencies);
            all.answers.extend(one.answers);
        }
        all.elapsed = stopwatch.elapsed();
        Ok(all)
    };
    callers.run_until(run).await
}

/// One call, its answer without the gRPC frame.
pub(super) async fn ask(target: &Target) -> anyhow::Result<Bytes> {
    let run = async {
        call(
            &mut connect(target.addr).await?,
            &prototype(target)?,
            target.requests[0].clone(),
        )
        .await
    };
    LocalSet::new().run_until(run).await
}

/// A gRPC frame with `message`, uncompressed.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + len);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message.encode_to_vec());
    frame.freeze()
}

async fn connect(addr: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 20);
    let (sender, connection) = builder.handshake(stream).await?;
    // Ends with the last sender; a broken connection shows in the calls.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

async fn call_until(
    target: Rc<Target>,
    mut sender: SendRequest<Bytes>,
    caller: usize,
    run: Stopwatch,
    duration: Duration,
) -> anyhow::Result<Measured> {
    let head = prototype(&target)?;
    let mut measured = Measured::default();
    // Callers start at different requests, so that all are asked for evenly.
    let callers = target.load.callers();
    let first = caller * target.requests.len() / callers;
    let mut turn = Turn::first(target.load, caller);
    for request in target.requests.iter().cycle().skip(first) {
        turn.wait(run).await;
        let stopwatch = Stopwatch::start();
        let answer = call(&mut sender, &head, request.clone()).await?;
        ensure!(
            target.answer_len.contains(&answer.len()),
            "an answer of {} bytes",
            answer.len()
        );
        measured
            .latencies
            .push(u32::try_from(stopwatch.elapsed().as_nanos()).unwrap_or(u32::MAX));
        if run.elapsed() >= duration {
            measured.answers.push(answer);
            break;
        }
    }
    Ok(measured)
}

/// When a caller calls next: callers take turns, evenly.
struct Turn {
    period: Option<Duration>,
    at: Duration,
}

impl Turn {
    fn first(load: Load, caller: usize) -> Self {
        let period = load.period();
        let place = u32::try_from(caller).unwrap_or(u32::MAX);
        let callers = u32::try_from(load.callers()).unwrap_or(u32::MAX);
        Self {
            period,
            at: period.map_or(Duration::ZERO, |period| period * place / callers),
        }
    }

    /// A caller that is late calls at once.
    async fn wait(&mut self, run: Stopwatch) {
        let Some(period) = self.period else {
            return;
        };
        let left = self.at.saturating_sub(run.elapsed());
        if left > Duration::ZERO {
            clock::sleep(left).await;
        }
        self.at += period;
    }
}

async fn call(
    sender: &mut SendRequest<Bytes>,
    head: &Request<()>,
    frame: Bytes,
) -> anyhow::Result<Bytes> {
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    let (response, mut body) = sender.send_request(head.clone(), false)?;
    body.send_data(frame, true)?;
    let mut response = response.await?;
    let mut answer = Bytes::new();
    while let Some(part) = response.body_mut().data().await {
        let part = part?;
        response
            .body_mut()
            .flow_control()
            .release_capacity(part.len())?;
        answer = if answer.is_empty() {
            part
        } else {
            Bytes::from([answer, part].concat())
        };
    }
    let trailers = response.body_mut().trailers().await?;
    let status = trailers
        .as_ref()
        .unwrap_or(response.headers())
        .get("grpc-status");
    ensure!(
        status.is_some_and(|status| status == "0"),
        "status {status:?}"
    );
    ensure!(answer.len() > 5, "no message");
    Ok(answer.split_off(5))
}

fn prototype(target: &Target) -> anyhow::Result<Request<()>> {
    let mut headers = HeaderMap::new();
    headers.insert("te", "trailers".parse()?);
    headers.insert("content-type", "application/grpc".parse()?);
    let uri = format!("http://{}{}", target.addr, target.path);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .body(())
        .context("not a request")?;
    *request.headers_mut() = headers;
    Ok(request)
}
