//! Traces: what reaches a collector, below which parent, and what never does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::support::daemon::{Changed as _, http_client};
use crate::support::ports::free_address;
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        self.bytes.lock().extend(request.encode_to_vec());
        let scopes = request
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        self.spans
            .lock()
            .extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let (collector, listener) = (
            Self::default(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let addr = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()));
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        drop(tokio::spawn(
            server.serve_with_incoming(TcpIncoming::from(listener)),
        ));
        (collector, addr)
    }

    fn named(&self, name: &str) -> Vec<Span> {
        self.spans
            .lock()
            .iter()
            .filter(|span| span.name == name)
            .cloned()
            .collect()
    }

    async fn has(&self, name: &str, count: usize) -> Vec<Span> {
        eventually(&format!("{count} spans {name}"), || {
            self.named(name).len() == count
        })
        .await;
        self.named(name)
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)?
        .value
        .clone()?
        .value?;
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced<T>(request: T, flags: &str) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert(
        "traceparent",
        format!("00-{TRACE}-{CALLER}-{flags}").parse().unwrap(),
    );
    request
}

async fn daemon(crm: &FakeCrm, collector: SocketAddr, sample: &str) -> TestDaemon {
    let more = format!("[tracing]\notlp_endpoint = \"http://{collector}\"\nsample = {sample}\n");
    TestDaemon::with(crm, "example", &more).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_its_load_and_its_crm_calls_are_one_trace_below_the_caller_and_name_nobody() {
    let (collector, addr) = Collector::start().await;
    let crm = FakeCrm::with(vec![contact(1, "Ada Lovelace", "+16505551234")]).await;
    let daemon = daemon(&crm, addr, "0.0").await;
    daemon.find(traced(find(), "01")).await.unwrap();
    daemon.find(traced(find(), "01")).await.unwrap();

    let requests = collector.has("FindContact", 2).await;
    let load = collector.has("load", 1).await.remove(0);
    let whoami = collector.has("whoami", 1).await.remove(0);
    let (calls, of_whoami): (Vec<_>, Vec<_>) = collector
        .named("crm call")
        .into_iter()
        .partition(|call| call.parent_span_id != whoami.span_id);
    assert!(!calls.is_empty() && of_whoami.len() == 1);
    for span in requests
        .iter()
        .chain([&load, &whoami])
        .chain(&calls)
        .chain(&of_whoami)
    {
        assert_eq!(hex(&span.trace_id), TRACE);
    }
    assert!(
        requests
            .iter()
            .all(|span| hex(&span.parent_span_id) == CALLER)
    );
    let asked = requests
        .iter()
        .find(|span| span.span_id == load.parent_span_id)
        .expect("the load is a step of one");
    assert!(calls.iter().all(|call| call.parent_span_id == load.span_id));
    let said = |span: &Span| {
        ["platform", "trigger", "source", "outcome"].map(|key| attribute(span, key).unwrap())
    };
    assert_eq!(said(asked), ["example", "incoming_call", "crm", "found"]);
    let hit = requests
        .iter()
        .find(|span| span.span_id != asked.span_id)
        .unwrap();
    assert_eq!(said(hit), ["example", "incoming_call", "memory", "found"]);
    assert_eq!(
        ["call", "status", "lane"].map(|key| attribute(&calls[0], key).unwrap()),
        ["1", "2xx", "call_pop"]
    );

    let told: Vec<_> = crm
        .seen()
        .iter()
        .map(|seen| seen.traceparent.clone().unwrap())
        .collect();
    let of_calls = |told: &String| {
        calls
            .iter()
            .any(|call| *told == format!("00-{TRACE}-{}-01", hex(&call.span_id)))
    };
    assert!(told.iter().all(of_calls), "{told:?}");

    let sent = collector.bytes.lock().clone();
    for personal in [
        "user-1",
        "token-1",
        "650555",
        "Ada",
        "127.0.0.1",
        "/contacts",
    ] {
        assert!(
            !sent
                .windows(personal.len())
                .any(|part| part == personal.as_bytes()),
            "{personal} was exported"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "this is no CRM")]
async fn calls_over_http_are_a_part_of_their_callers_trace() {
    let (collector, addr) = Collector::start().await;
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = daemon(&crm, addr, "0.0").await;
    let url = format!("http://{}", daemon.grpc);
    let (client, parent) = (http_client(), format!("00-{TRACE}-{CALLER}-01"));
    let call = client.post(format!("{url}/contactd.v1.ContactService/FindContact"));
    let json = r#"{"user":{"id":"user-1","platform":"example"},"authHeader":"Bearer token-1","phoneNumber":"+16505551234"}"#;
    let call = call.header("content-type", "application/json").body(json);
    let name = "platform=example&user=user-1&number=%2B16505551234";
    let name = client.get(format!("{url}/v1/name?{name}"));
    let name = name.header("x-crm-authorization", "Bearer token-1");
    for call in [call, name] {
        let answer = call.header("traceparent", &parent).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    for span in collector.has("FindContact", 2).await {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert_eq!(hex(&span.parent_span_id), CALLER);
        assert_eq!(attribute(&span, "outcome").as_deref(), Some("found"));
    }
    collector.has("load", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_a_load_links_to_it() {
    let (collector, addr) = Collector::start().await;
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    crm.becomes(|_| Reply::status(500).after(Duration::from_secs(2)));
    let daemon = daemon(&crm, addr, "1.0").await;
    let (first, second) = tokio::join!(daemon.find(find()), daemon.find(find()));
    assert!(first.is_err() && second.is_err());
    let requests = collector.has("FindContact", 2).await;
    let load = collector.has("load", 1).await.remove(0);
    let joined: Vec<&Span> = requests
        .iter()
        .filter(|span| !span.links.is_empty())
        .collect();
    assert_eq!(joined.len(), 1);
    assert_eq!(
        (&joined[0].links[0].span_id, &joined[0].links[0].trace_id),
        (&load.span_id, &load.trace_id)
    );
    assert_ne!(joined[0].trace_id, load.trace_id);
    assert_eq!(
        attribute(&load, "outcome").as_deref(),
        Some("crm_unavailable")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_trace_is_not_traced() {
    let (collector, addr) = Collector::start().await;
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = daemon(&crm, addr, "1.0").await;
    daemon.find(traced(find(), "00")).await.unwrap();
    // Spans are sent in order: once this one has arrived, an earlier one would have arrived too.
    daemon.find(find().number("anonymous")).await.unwrap();
    let requests = collector.has("FindContact", 1).await;
    assert_ne!(hex(&requests[0].trace_id), TRACE);
    assert!(collector.named("load").is_empty());
}

#[tokio::test]
async fn without_a_collector_a_crm_is_told_of_no_trace() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    daemon.find(traced(find(), "01")).await.unwrap();
    assert!(!crm.seen().is_empty() && crm.seen().iter().all(|seen| seen.traceparent.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_collector_fails_nothing() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = daemon(&crm, free_address(), "1.0").await;
    for _ in 0..5_000 {
        daemon.find(find()).await.unwrap();
    }
}
