//! What contactd adds to a CRM that has to be asked.
//!
//! Run with `cargo bench --profile dist --bench miss` on an idle Linux machine with redis-server;
//! it takes about a minute and a half. The CRM takes 20 ms for a reply. The daemons, one of them
//! with Redis, are processes of their own; the CRM and the callers share this one.
//!
//! * Look-ups of numbers that nobody has asked for, beside plain calls of the same search by
//!   reqwest: 100 a second of each, by turns.
//! * 1,000 callers who ask for one number at once.
//! * Prefetches of 10,000 unknown numbers, and call pops of a stored number during them. The CRM has
//!   no limit, so a prefetch takes all the CPU it gets.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]
#![expect(
    clippy::disallowed_methods,
    reason = "plain calls are what look-ups are compared with"
)]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::clock::{self, Stopwatch};
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1 as pb;
use contactd::pb::v1::prefetch_contacts_response::Event;
use crm::BenchCrm;
use process::Daemon;
use redis_server::RedisServer;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

mod crm;
#[expect(dead_code, reason = "others measure CPU and memory")]
mod process;
mod redis_server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the CRM takes for a reply.
const LATENCY: Duration = Duration::from_millis(20);
/// A look-up, or a plain call, begins this often.
const EVERY: Duration = Duration::from_micros(3_333);
/// How many of each kind.
const LOOK_UPS: u32 = 2_500;
const HERD: usize = 1_000;
const HERD_CONNECTIONS: usize = 16;
const HERDS: u32 = 7;
/// A cached call pop comes this often.
const RING_EVERY: Duration = Duration::from_millis(4);
/// How long cached call pops are measured while nothing else happens.
const IDLE: Duration = Duration::from_secs(4);
const NUMBERS: u32 = 10_000;

type Client = ContactServiceClient<Channel>;

/// Daemons and plain calls to the same CRM.
struct World {
    crm: BenchCrm,
    plain: reqwest::Client,
    alone: Daemon,
    shared: Daemon,
    _redis: RedisServer,
}

fn main() -> anyhow::Result<()> {
    if process::serve_if_asked()? {
        return Ok(());
    }
    let world = World::start()?;
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(&world))
}

async fn run(world: &World) -> anyhow::Result<()> {
    println!(
        "{:<56} {:>9} {:>9} {:>9}",
        "milliseconds", "median", "p99", "goal"
    );
    misses(world).await?;
    herd(world).await?;
    for (name, daemon) in [("", &world.alone), (", with Redis", &world.shared)] {
        for (platform, how) in [("bench", "250 a call"), ("single", "one a call")] {
            let what = format!("{how}{name}");
            pops_during_prefetch(world, &what, platform, &connect(daemon).await?).await?;
        }
    }
    Ok(())
}

impl World {
    fn start() -> anyhow::Result<Self> {
        let (crm, redis) = (BenchCrm::start(LATENCY)?, RedisServer::start()?);
        let settings = format!("cache.found.fresh = '1h'\n{}", crm.settings());
        let shared = format!("redis.url = '{}'\n{settings}", redis.url);
        // reqwest needs one, also for plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            plain: reqwest::Client::new(),
            alone: Daemon::start(&settings)?,
            shared: Daemon::start(&shared)?,
            crm,
            _redis: redis,
        })
    }

    /// The search that a look-up makes.
    async fn call(plain: reqwest::Client, url: String, n: u32) -> anyhow::Result<()> {
        let request = plain
            .post(url)
            .header("authorization", "Bearer demo")
            .header("content-type", "application/json")
            .body(format!("{{\"numbers\":[\"{}\"]}}", number(n)));
        let reply = request.send().await?.error_for_status()?.bytes().await?;
        ensure!(reply.len() > 100, "no contact");
        Ok(())
    }
}

async fn connect(daemon: &Daemon) -> anyhow::Result<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{}", daemon.addr))?;
    Ok(ContactServiceClient::new(endpoint.connect().await?))
}

fn number(n: u32) -> String {
    format!("+1650{}", 2_000_000 + n)
}

/// Look-ups that need the CRM, beside plain calls.
async fn misses(world: &World) -> anyhow::Result<()> {
    let url = format!("{}{}", world.crm.url(), crm::SEARCH);
    let (alone, shared) = (connect(&world.alone).await?, connect(&world.shared).await?);
    for client in [&alone, &shared] {
        // A daemon that has just started waits for a window of the quota, and verifies credentials.
        ask(client, "bench", 999_999).await?;
    }
    let mut calls = [JoinSet::new(), JoinSet::new(), JoinSet::new()];
    let began = Stopwatch::start();
    for n in 0..LOOK_UPS * 3 {
        let (kind, url, plain) = (n % 3, url.clone(), world.plain.clone());
        let clients = [alone.clone(), shared.clone()];
        calls[kind as usize].spawn(async move {
            let stopwatch = Stopwatch::start();
            match kind {
                0 => World::call(plain, url, n).await?,
                kind => find(&clients[kind as usize - 1], "bench", n, pb::Source::Crm).await?,
            }
            anyhow::Ok(stopwatch.elapsed().as_secs_f64() * 1e3)
        });
        clock::sleep((EVERY * (n + 1)).saturating_sub(began.elapsed())).await;
    }
    let mut rows = Vec::new();
    for calls in calls {
        let times: anyhow::Result<Vec<f64>> = calls.join_all().await.into_iter().collect();
        let mut times = times?;
        times.sort_by(f64::total_cmp);
        rows.push((quantile(&times, 0.5), quantile(&times, 0.99)));
    }
    let [plain, alone, shared] = rows[..] else {
        anyhow::bail!("three kinds");
    };
    println!(
        "{:<56} {:>9.3} {:>9.3}",
        "a plain call to the CRM", plain.0, plain.1
    );
    for (name, row) in [
        ("a look-up beyond it", alone),
        ("the same with Redis", shared),
    ] {
        let (middle, tail) = (row.0 - plain.0, row.1 - plain.1);
        let met = verdict(middle <= 1.0 && tail <= 2.0);
        println!("{name:<56} {middle:>9.3} {tail:>9.3}     1, 2 {met}");
    }
    Ok(())
}

/// Many callers who ask for one number at once.
async fn herd(world: &World) -> anyhow::Result<()> {
    for (name, daemon) in [("", &world.alone), (", with Redis", &world.shared)] {
        let mut clients = Vec::new();
        for _ in 0..HERD_CONNECTIONS {
            clients.push(connect(daemon).await?);
        }
        let mut waits = Vec::new();
        for round in 0..HERDS {
            let (before, stopwatch) = (world.crm.calls(), Stopwatch::start());
            let mut callers = JoinSet::new();
            for caller in 0..HERD {
                let client = clients[caller % HERD_CONNECTIONS].clone();
                callers.spawn(async move { ask(&client, "bench", 500_000 + round).await });
            }
            for answer in callers.join_all().await {
                ensure!(answer?.matched_contact_info.len() > 1, "no contact");
            }
            let wait = stopwatch.elapsed().saturating_sub(LATENCY);
            waits.push(wait.as_secs_f64() * 1e3);
            let calls = world.crm.calls() - before;
            ensure!(calls == 1, "{calls} calls");
        }
        waits.sort_by(f64::total_cmp);
        let what = format!("the last of {HERD} callers beyond the CRM's one call{name}");
        println!(
            "{what:<56} {:>9.1} {:>9.1}  (the longest of {HERDS})",
            quantile(&waits, 0.5),
            quantile(&waits, 1.0)
        );
    }
    Ok(())
}

/// Call pops of a stored number while a prefetch does what it can.
async fn pops_during_prefetch(
    world: &World,
    what: &str,
    platform: &str,
    client: &Client,
) -> anyhow::Result<()> {
    ask(client, platform, 999_999).await?;
    let (idle, ended) = (CancellationToken::new(), CancellationToken::new());
    let (quiet, ()) = tokio::join!(ring(client, platform, &idle), async {
        clock::sleep(IDLE).await;
        idle.cancel();
    });
    let (before, stopwatch) = (world.crm.calls(), Stopwatch::start());
    let prefetched = async {
        let ended_well = prefetch(client.clone(), platform).await;
        ended.cancel();
        ended_well
    };
    let (busy, done) = tokio::join!(ring(client, platform, &ended), prefetched);
    done?;
    let (took, calls) = (stopwatch.elapsed(), world.crm.calls() - before);
    let (quiet, busy) = (quiet?, busy?);
    println!(
        "prefetch of {NUMBERS} numbers, {what}: {:.2} s, {calls} calls to the CRM",
        took.as_secs_f64()
    );
    let (before, during) = (quantile(&quiet, 0.99), quantile(&busy, 0.99));
    let goal = (2.0 * before).max(before + 2.0);
    println!(
        "{:<56} {:>9.3} {before:>9.3}",
        "  cached call pops, idle",
        quantile(&quiet, 0.5)
    );
    println!(
        "{:<56} {:>9.3} {during:>9.3} {goal:>9.2} {}",
        format!("  during the prefetch ({} calls)", busy.len()),
        quantile(&busy, 0.5),
        verdict(during <= goal)
    );
    Ok(())
}

/// Asks for a stored number at an even pace, until told to stop. Returns sorted milliseconds.
async fn ring(
    client: &Client,
    platform: &str,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    while clock::timeout(RING_EVERY, stop.cancelled()).await.is_none() {
        let stopwatch = Stopwatch::start();
        find(client, platform, 999_999, pb::Source::Memory).await?;
        times.push(stopwatch.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

async fn find(client: &Client, platform: &str, n: u32, source: pb::Source) -> anyhow::Result<()> {
    let answer = ask(client, platform, n).await?;
    let lookup = answer.lookup.context("no lookup")?;
    ensure!(lookup.source() == source, "{lookup:?}");
    Ok(())
}

async fn ask(client: &Client, platform: &str, n: u32) -> anyhow::Result<pb::FindContactResponse> {
    let request = pb::FindContactRequest {
        user: Some(user(platform)),
        auth_header: "Bearer demo".into(),
        phone_number: number(n),
        trigger: pb::Trigger::IncomingCall.into(),
        ..Default::default()
    };
    Ok(client.clone().find_contact(request).await?.into_inner())
}

async fn prefetch(mut client: Client, platform: &str) -> anyhow::Result<()> {
    let request = pb::PrefetchContactsRequest {
        user: Some(user(platform)),
        auth_header: "Bearer demo".into(),
        phone_numbers: (600_000..600_000 + NUMBERS).map(number).collect(),
        ..Default::default()
    };
    let mut events = client.prefetch_contacts(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        if let Some(Event::Finished(finished)) = event.event {
            ensure!(finished.found == NUMBERS, "{finished:?}");
            return Ok(());
        }
    }
    anyhow::bail!("the batch broke off")
}

fn user(platform: &str) -> pb::User {
    pb::User {
        id: "agent".into(),
        platform: platform.into(),
        ..Default::default()
    }
}

/// A quantile of sorted values.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a few thousand"
    )]
    let index = (sorted.len().saturating_sub(1) as f64 * part) as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
