//! The process under load: the real daemon over the Example CRM, and two bare tonic methods. These
//! are served twice: on one runtime, and on a runtime for each core, as the daemon does.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, available_parallelism};

use anyhow::anyhow;
use contactd::app::App;
use contactd::example_crm::{ExampleCrm, Options};
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1 as pb;
use contactd::{config, telemetry};
use futures_util::StreamExt as _;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt as _, stdin};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, body::Body};
use tonic_prost::ProstCodec;

/// Paths of the bare methods.
pub(super) const TYPED: &str = "/bench.Typed/Answer";
pub(super) const FLAT: &str = "/bench.Flat/Answer";

/// Where everything listens, and what there is to ask for: one line, fields separated by spaces.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) daemon: SocketAddr,
    pub(super) bare: SocketAddr,
    pub(super) spread: SocketAddr,
    pub(super) present: String,
    pub(super) absent: String,
}

impl Card {
    pub(super) fn parse(line: &str) -> anyhow::Result<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [daemon, bare, spread, present, absent] = fields[..] else {
            return Err(anyhow!("not a card: {line:?}"));
        };
        Ok(Self {
            daemon: daemon.parse()?,
            bare: bare.parse()?,
            spread: spread.parse()?,
            present: present.into(),
            absent: absent.into(),
        })
    }
}

/// A message that is nothing but bytes: the least that prost can copy and encode.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Flat {
    #[prost(bytes = "bytes", tag = "1")]
    payload: bytes::Bytes,
}

/// A method that reads its request and answers a copy of one message, as generated code would call
/// it.
#[derive(Debug, Clone)]
struct Constant<M>(Arc<M>);

impl<M: Clone + Send + Sync + 'static> UnaryService<pb::FindContactRequest> for Constant<M> {
    type Response = M;
    type Future = Ready<Result<Response<M>, Status>>;

    fn call(&mut self, _: Request<pb::FindContactRequest>) -> Self::Future {
        ready(Ok(Response::new(M::clone(&self.0))))
    }
}

impl NamedService for Constant<pb::FindContactResponse> {
    const NAME: &'static str = "bench.Typed";
}

impl NamedService for Constant<Flat> {
    const NAME: &'static str = "bench.Flat";
}

impl<M: prost::Message + Clone + 'static> Service<http::Request<Body>> for Constant<M> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = self.clone();
        Box::pin(async move {
            Ok(Grpc::new(ProstCodec::<M, _>::default())
                .unary(method, request)
                .await)
        })
    }
}

/// Serves until standard input ends. `question` asks the daemon for the number that it is given.
pub(super) async fn serve(question: impl Fn(&str) -> pb::FindContactRequest) -> anyhow::Result<()> {
    let _ = telemetry::start(
        telemetry::LogFormat::Json,
        &"warn".parse()?,
        &telemetry::LogLines::start(),
    );
    let tasks = TaskTracker::new();
    let crm = Arc::new(ExampleCrm::new(Options::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let settings = format!(
        "grpc.listen = '127.0.0.1:0'\nops.listen = '127.0.0.1:0'\ncache.absent = {{ fresh = '1h', stale = '1h' }}\n\
         connectors.example = {{ kind = 'example', base_url = 'http://{}' }}",
        listener.local_addr()?
    );
    tasks.spawn(Arc::clone(&crm).serve(listener, pending()));
    let settings = config::read(&settings, []).map_err(|faults| anyhow!("{faults:?}"))?;
    let app = App::build(settings.config, Counter::default()).await?;
    let (daemon, _) = app.addresses()?;
    tasks.spawn(app.run(pending()));

    let samples = crm.data().samples();
    let mut client = ContactServiceClient::new(
        Endpoint::from_shared(format!("http://{daemon}"))?
            .connect()
            .await?,
    );
    client.find_contact(question(&samples.one)).await?;
    let answer = client
        .find_contact(question(&samples.one))
        .await?
        .into_inner();
    // The key and the length of the only field are three bytes for every length from 128 to 16,383.
    let payload = vec![b'x'; prost::Message::encoded_len(&answer) - 3].into();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let bare = listener.local_addr()?;
    let router = Server::builder()
        .add_service(Constant(Arc::new(answer)))
        .add_service(Constant(Arc::new(Flat { payload })));
    let on_threads = TcpListener::bind("127.0.0.1:0").await?;
    let spread = on_threads.local_addr()?;
    tasks.spawn(spread_over_threads(on_threads, router.clone()));
    tasks.spawn(router.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));

    println!(
        "{daemon} {bare} {spread} {} {}",
        samples.one, samples.absent
    );
    stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Serves the bare methods as the daemon serves its own: a runtime on each core, each connection on
/// one of them.
async fn spread_over_threads(listener: TcpListener, router: Router) -> anyhow::Result<()> {
    let cores = available_parallelism()?.get();
    let mut threads = Vec::new();
    for _ in 0..cores {
        let (ready, incoming) = mpsc::channel::<std::net::TcpStream>(1);
        let router = router.clone();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let incoming = ReceiverStream::new(incoming).map(TcpStream::from_std);
        thread::spawn(move || runtime.block_on(router.serve_with_incoming(incoming)));
        threads.push(ready);
    }
    for ready in threads.iter().cycle() {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        ready.send(stream.into_std()?).await?;
    }
    Ok(())
}
