//! A call log that warms up while phones ring, and Redis hits beside plain GETs.
//!
//! Run with `cargo bench --profile dist --bench warm_up` on an idle Linux machine with
//! redis-server; it takes about a minute. With `-- redis-hits` it measures only Redis hits. Each
//! line is a figure, its goal, what was measured and the ratio, all from one run on one machine.
//! The daemon, the Example CRM and the callers share one process, so that latencies include the
//! callers' own.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use contactd::app::App;
use contactd::clock::{self, Stopwatch};
use contactd::config;
use contactd::example_crm::{ExampleCrm, Options};
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1 as pb;
use contactd::pb::v1::prefetch_contacts_response::Event;
use prometheus_client::metrics::counter::Counter;
use redis_server::RedisServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};

mod redis_hits;
mod redis_server;
mod sample;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls a second of the quota.
const RATE: u32 = 100;
const INTERVAL: Duration = Duration::from_millis(10);
/// How long the Example CRM takes for a reply.
const LATENCY: Duration = Duration::from_millis(20);
/// A cached call pop comes this often.
const RING_EVERY: Duration = Duration::from_millis(4);
/// How long cached call pops are measured while nothing else happens.
const IDLE: Duration = Duration::from_secs(4);

const ONLY_HITS: &str = "redis-hits";

type Client = ContactServiceClient<Channel>;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run())
}

async fn run() -> anyhow::Result<()> {
    println!(
        "{:<62} {:>10} {:>10} {:>7}",
        "figure", "goal", "measured", "ratio"
    );
    let redis = RedisServer::start()?;
    if std::env::args().any(|arg| arg == ONLY_HITS) {
        return redis_hits::run(&redis.url).await;
    }
    let tasks = TaskTracker::new();
    let crm = Crm::start(LATENCY, &tasks).await?;
    for share in [1.0, 0.5] {
        let client = crm.daemon(share, RATE, 5, None, &tasks).await?;
        let log = crm.data.data().recent_calls(500, 1);
        let before = crm.data.requests();
        let took = prefetch(client, "alone", log).await?.0.as_secs_f64();
        let needed =
            f64::from(u32::try_from(crm.data.requests() - before)?) / (f64::from(RATE) * share);
        let name = format!("prefetch of 500 unknown at {RATE} calls/s, share {share}: seconds");
        line(
            &name,
            1.1 * needed,
            took,
            took / needed,
            took <= 1.1 * needed,
        );
    }
    call_pops(&crm, &tasks).await?;
    redis_hits::run(&redis.url).await?;
    ten_thousand(&redis, &tasks).await?;
    Ok(())
}

/// One row: the goal, what was measured, and their ratio or what the goal speaks of.
fn line(name: &str, goal: f64, measured: f64, ratio: f64, met: bool) {
    println!(
        "{name:<62} {goal:>10.3} {measured:>10.3} {ratio:>7.2} {}",
        if met { "met" } else { "MISSED" }
    );
}

/// Call pops while a prefetch uses up the quota.
async fn call_pops(crm: &Crm, tasks: &TaskTracker) -> anyhow::Result<()> {
    let client = crm.daemon(0.5, RATE, 5, None, tasks).await?;
    let known = crm.data.data().samples().one;
    find(&client, &known).await?;
    let idle = CancellationToken::new();
    let (mut quiet, ()) = tokio::join!(ring(&client, &known, &idle), async {
        clock::sleep(IDLE).await;
        idle.cancel();
    });
    let ended = CancellationToken::new();
    let warm_up = async {
        let done = prefetch(
            client.clone(),
            "agent",
            crm.data.data().recent_calls(500, 2),
        )
        .await;
        ended.cancel();
        done
    };
    let (done, mut busy, mut strangers) = tokio::join!(
        warm_up,
        ring(&client, &known, &ended),
        strange(&client, &ended)
    );
    done?;
    let (quiet, busy) = (quantile(&mut quiet, 99), quantile(&mut busy, 99));
    let name = "cached call pop: p99 ms idle, and during the prefetch";
    line(
        name,
        1.5 * quiet * 1e3,
        busy * 1e3,
        busy / quiet,
        busy <= 1.5 * quiet,
    );
    let worst = quantile(&mut strangers, 100) - LATENCY.as_secs_f64();
    let intervals = worst / INTERVAL.as_secs_f64();
    line(
        "uncached call pop, one call: longest wait in ms beside the CRM's",
        20.0,
        worst * 1e3,
        intervals,
        intervals <= 2.0,
    );
    let median = quantile(&mut strangers, 50) - LATENCY.as_secs_f64();
    println!(
        "  its median is {:.1} ms over {} calls; the ratio counts quota intervals",
        median * 1e3,
        strangers.len()
    );
    Ok(())
}

/// Asks for a stored number at an even pace, until told to stop.
async fn ring(client: &Client, number: &str, stop: &CancellationToken) -> Vec<f64> {
    let mut latencies = Vec::new();
    while clock::timeout(RING_EVERY, stop.cancelled()).await.is_none() {
        let stopwatch = Stopwatch::start();
        if find(client, number).await.is_ok() {
            latencies.push(stopwatch.elapsed().as_secs_f64());
        }
    }
    latencies
}

/// Asks for numbers that nobody has, one CRM call each.
async fn strange(client: &Client, stop: &CancellationToken) -> Vec<f64> {
    let mut latencies = Vec::new();
    for n in 0.. {
        if clock::timeout(Duration::from_millis(137), stop.cancelled())
            .await
            .is_some()
        {
            break;
        }
        let stopwatch = Stopwatch::start();
        if find(client, &format!("+4930{:07}", 1_000_000 + n))
            .await
            .is_ok()
        {
            latencies.push(stopwatch.elapsed().as_secs_f64());
        }
    }
    latencies
}

/// Ten thousand stored numbers, in memory and in Redis, and what Redis takes for them.
async fn ten_thousand(redis: &RedisServer, tasks: &TaskTracker) -> anyhow::Result<()> {
    let crm = Crm::start(Duration::ZERO, tasks).await?;
    let log: Vec<String> = (0..10_000)
        .map(|n| format!("+1650{:07}", 2_000_000 + n))
        .collect();
    let first = crm
        .daemon(1.0, 10_000, 10_000, Some(&redis.url), tasks)
        .await?;
    let before = memory(redis).await?;
    prefetch(first.clone(), "log", log.clone()).await?;
    let each = (memory(redis).await? - before) / 1e4;
    for (tier, client) in [
        ("memory", first),
        (
            "Redis",
            crm.daemon(1.0, 10_000, 10_000, Some(&redis.url), tasks)
                .await?,
        ),
    ] {
        let (took, sums) = prefetch(client, "log", log.clone()).await?;
        ensure!(
            sums.crm_requests == 0 && sums.already_cached + sums.not_found == 10_000,
            "{sums:?}"
        );
        let took = took.as_secs_f64();
        let name = format!("prefetch of 10,000 cached in {tier}: seconds");
        line(
            &name,
            1.0,
            took,
            took,
            took < 1.0 && sums.already_cached == 10_000,
        );
    }
    println!("Redis takes {each:.0} bytes for an absent answer of its own number");
    Ok(())
}

/// The Example CRM.
struct Crm {
    data: Arc<ExampleCrm>,
    url: String,
}

impl Crm {
    async fn start(latency: Duration, tasks: &TaskTracker) -> anyhow::Result<Self> {
        let data = Arc::new(ExampleCrm::new(Options {
            latency,
            ..Options::default()
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tasks.spawn(Arc::clone(&data).serve(listener, std::future::pending()));
        Ok(Self { data, url })
    }

    /// A daemon of its own, with this quota.
    async fn daemon(
        &self,
        share: f64,
        rate: u32,
        burst: u32,
        redis: Option<&str>,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Client> {
        let redis = redis
            .map(|url| format!("redis.url = '{url}'\n"))
            .unwrap_or_default();
        let settings = format!(
            "grpc.listen = '127.0.0.1:0'\nops.listen = '127.0.0.1:0'\ncache.absent = {{ fresh = '1h', stale = '1h' }}\n\
             {redis}connectors.example = {{ kind = 'example', base_url = '{}', quota = {{ rate = {rate}, per = '1s', burst = \
             {burst}, prefetch_share = {share:.1} }} }}",
            self.url
        );
        let settings = config::read(&settings, []).map_err(|faults| anyhow!("{faults:?}"))?;
        let app = App::build(settings.config, Counter::default()).await?;
        let (grpc, _) = app.addresses()?;
        tasks.spawn(app.run(std::future::pending()));
        // Redis is reached and its log read within milliseconds.
        clock::sleep(Duration::from_millis(500)).await;
        Ok(ContactServiceClient::new(
            Endpoint::from_shared(format!("http://{grpc}"))?
                .connect()
                .await?,
        ))
    }
}

fn user() -> pb::User {
    pb::User {
        id: "agent".into(),
        platform: "example".into(),
        ..Default::default()
    }
}

async fn find(client: &Client, number: &str) -> anyhow::Result<()> {
    let request = pb::FindContactRequest {
        user: Some(user()),
        auth_header: "Bearer demo".into(),
        phone_number: number.to_owned(),
        ..Default::default()
    };
    client
        .clone()
        .find_contact(request)
        .await
        .map(|_| ())
        .map_err(Into::into)
}

/// One batch of the user `id`.
async fn prefetch(
    mut client: Client,
    id: &str,
    phone_numbers: Vec<String>,
) -> anyhow::Result<(Duration, pb::PrefetchFinished)> {
    let stopwatch = Stopwatch::start();
    let request = pb::PrefetchContactsRequest {
        user: Some(pb::User {
            id: id.to_owned(),
            ..user()
        }),
        auth_header: "Bearer demo".into(),
        phone_numbers,
        ..Default::default()
    };
    let mut events = client.prefetch_contacts(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        if let Some(Event::Finished(finished)) = event.event {
            ensure!(finished.failed == 0, "{finished:?}");
            return Ok((stopwatch.elapsed(), finished));
        }
    }
    Err(anyhow!("the batch broke off"))
}

/// A quantile in percent.
fn quantile(latencies: &mut [f64], percent: usize) -> f64 {
    latencies.sort_by(f64::total_cmp);
    latencies
        .get(latencies.len().saturating_sub(1) * percent / 100)
        .copied()
        .unwrap_or(f64::NAN)
}

/// Bytes that Redis' data takes.
async fn memory(redis: &RedisServer) -> anyhow::Result<f64> {
    let client = redis::Client::open(redis.url.as_str())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO")
        .arg("memory")
        .query_async(&mut connection)
        .await?;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"))
        .context("used_memory")?;
    Ok(used.parse()?)
}
