//! Three replicas over one Redis and a CRM of bad moods, for as long as you like, with everything
//! at once.
//!
//! Run with `cargo bench --profile dist --bench soak -- [MINUTES] [SEED]`; it takes 20 minutes, and
//! two of rest.
//! Phones ring, batches run, contacts are edited and forgotten, tokens change, are revoked and made
//! up, clients break every rule, the CRM stumbles, Redis is killed, flushed, stalled and cut off.
//! It fails if anybody is shown another's answer, one older than a confirmed invalidation, or
//! nobody for a contact; if a true token is refused, the CRM's quota is exceeded, a replica fails,
//! or its open files grow, or its memory: that is compared at rest, after a quarter of the time and
//! at the end, when nobody has called for so long that nothing is kept but what credentials leave
//! (`memory`). A fault is said at once. The events do not depend on the seed alone, because the
//! processes run as the machine lets them.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark speaks to a person"
)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use contactd::clock::{self, Stopwatch};
use fastrand::Rng;
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use callers::{edit, misbehave, ring, take_hints, warm_up};
use faults::{trouble_redis, trouble_the_crm};
use figures::{LiveStats, Readings, Sample, judge, sample, watch_over};
use memory::SentCredentials;
use support::FakeCrm;
use support::program::Program;
use support::raw::{RawCrm, Said};
use support::redis::RedisServer;
use world::{PER, RATE, World};

mod callers;
mod faults;
mod figures;
mod memory;
mod world;

#[allow(
    dead_code,
    unused_imports,
    missing_docs,
    reason = "made for the tests, and not all of it is needed here"
)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::pedantic,
    reason = "made for the tests"
)]
#[path = "../../it/support/mod.rs"]
mod support;

const REPLICAS: usize = 3;
const CALLERS: u64 = 96;
const RUDE: u64 = 24;
const BATCHES: u64 = 6;
const EDITORS: u64 = 2;

/// How long nobody calls before memory is read: longer than the settings below keep an answer or a
/// credential, and than an idle connection stays.
const REST: Duration = Duration::from_secs(60);

/// Keeps the daemon about as large as what it holds: huge pages, and pages that wait to be given
/// back, would hide a leak of some MiB behind a swing of twenty.
const ALLOCATOR: [(&str, &str); 2] = [("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_PURGE_DELAY", "0")];

/// What takes part.
pub(crate) struct Soak {
    pub(crate) replicas: Vec<Program>,
    pub(crate) world: Arc<World>,
    pub(crate) figures: LiveStats,
    /// By replica.
    pub(crate) sent: [SentCredentials; REPLICAS],
    pub(crate) began: Stopwatch,
    ended: CancellationToken,
    resting: watch::Sender<bool>,
}

impl Soak {
    /// Waits, and for the end of a rest; whether the soak goes on then.
    pub(crate) async fn goes_on_after(&self, duration: Duration) -> bool {
        let waited = async {
            clock::sleep(duration).await;
            let mut resting = self.resting.subscribe();
            // The sender is this soak's own.
            let _ = resting.wait_for(|rests| !rests).await;
        };
        self.ended.run_until_cancelled(waited).await.is_some()
    }

    /// Has everybody pause, and reads the replicas when nothing is left of what they did.
    async fn rest(&self) -> anyhow::Result<Vec<Sample>> {
        self.resting.send_replace(true);
        clock::sleep(REST).await;
        let read = self.read().await;
        self.resting.send_replace(false);
        read
    }

    /// All replicas as they are now.
    pub(crate) async fn read(&self) -> anyhow::Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for (replica, sent) in self.replicas.iter().zip(&self.sent) {
            samples.push(sample(replica, sent.remembered(clock::now())).await?);
        }
        Ok(samples)
    }
}

fn main() -> anyhow::Result<()> {
    // Cargo adds a flag of its own.
    let numbers: Result<Vec<u64>, _> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .map(|arg| arg.parse())
        .collect();
    let numbers = numbers.context("minutes and a seed are numbers")?;
    let minutes = Duration::from_secs(60 * numbers.first().copied().unwrap_or(20).max(1));
    let seed = numbers.get(1).copied().unwrap_or(1);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(minutes, seed))
}

async fn run(minutes: Duration, seed: u64) -> anyhow::Result<()> {
    let world = Arc::new(World::new());
    let truth = Arc::clone(&world);
    let crm = FakeCrm::start(move |seen| truth.reply(seen)).await;
    let hints = RawCrm::over_tcp(Said::for_ever(
        "",
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
    ))
    .await;
    let redis = RedisServer::start().await;
    let settings = settings(&crm, &hints, &redis);
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(Program::start_with(&settings, "info", &ALLOCATOR).await);
    }
    let (began, ended) = (Stopwatch::start(), CancellationToken::new());
    let soak = Arc::new(Soak {
        replicas,
        world,
        figures: LiveStats::default(),
        sent: Default::default(),
        began,
        ended,
        resting: watch::Sender::new(false),
    });
    let mut parts = JoinSet::new();
    for n in 0..CALLERS {
        parts.spawn(ring(Arc::clone(&soak), Rng::with_seed(seed + n)));
    }
    for n in 0..RUDE {
        parts.spawn(misbehave(Arc::clone(&soak), Rng::with_seed(seed + n)));
    }
    for n in 0..BATCHES {
        parts.spawn(warm_up(Arc::clone(&soak), Rng::with_seed(seed + n)));
    }
    for n in 0..EDITORS {
        parts.spawn(edit(Arc::clone(&soak), Rng::with_seed(seed + n)));
    }
    parts.spawn(take_hints(Arc::clone(&soak), Rng::with_seed(seed)));
    parts.spawn(trouble_the_crm(Arc::clone(&soak), Rng::with_seed(seed)));
    let troubled = trouble_redis(&soak, redis, Rng::with_seed(seed));
    let stop = async {
        clock::sleep(minutes / 4).await;
        let rested = soak.rest().await;
        clock::sleep(minutes.saturating_sub(minutes / 4)).await;
        soak.ended.cancel();
        rested
    };
    let (rested, redis, watched) = tokio::join!(stop, troubled, watch_over(&soak, minutes));
    let (under_load, answers) = watched?;
    let readings = Readings {
        under_load,
        first_rest: rested?,
    };
    parts
        .join_all()
        .await
        .into_iter()
        .collect::<anyhow::Result<Vec<()>>>()?;
    ensure!(answers > 0, "no answers");
    finish(
        Arc::into_inner(soak).context("a part still runs")?,
        readings,
        minutes,
        redis,
    )
    .await
}

/// Everybody has left: nothing may be left of them, and the replicas stop in order.
async fn finish(
    soak: Soak,
    readings: Readings,
    minutes: Duration,
    redis: RedisServer,
) -> anyhow::Result<()> {
    let [token, person] = soak
        .world
        .fullest
        .each_ref()
        .map(|calls| calls.load(std::sync::atomic::Ordering::Relaxed));
    println!(
        "fullest window: {token} of {RATE} calls of a credential, {person} of a person under all credentials"
    );
    clock::sleep(REST).await;
    let last_rest = soak.read().await?;
    for (n, (replica, sample)) in soak.replicas.into_iter().zip(&last_rest).enumerate() {
        let &Sample {
            resident_mib,
            files,
            jobs,
            lost_lines,
            ..
        } = sample;
        println!(
            "replica {n} alone: {resident_mib:.0} MiB, {files} files, {jobs} batches, {lost_lines} log lines lost"
        );
        ensure!(
            jobs == 0.0 && files < 100.0,
            "something is left of those who left"
        );
        replica.signal(Signal::SIGTERM);
        let (code, log) = replica.end().await;
        ensure!(
            code == Some(0) && !log.contains("panicked"),
            "replica {n} ended with {code:?}: {log}"
        );
    }
    drop(redis);
    judge(&readings, &last_rest, minutes)?;
    ensure!(soak.world.faults() == 0, "{} faults", soak.world.faults());
    println!("no fault");
    Ok(())
}

/// Short ages, so that everything that happens in a day happens in a minute.
fn settings(crm: &FakeCrm, hints: &RawCrm, redis: &RedisServer) -> String {
    format!(
        "[grpc]\nmax_connection_age = '1m'\n\
         [cache]\nmemory = '8MiB'\nadmitted = '20s'\n\
         found = {{ fresh = '5s', stale = '40s' }}\nabsent = {{ fresh = '2s', stale = '10s' }}\n\
         [redis]\nurl = '{}'\nreplicas = {REPLICAS}\n\
         [lookup]\ntimeout = '5s'\ncall_timeout = '1s'\nmax_reply = '256KiB'\n\
         [connectors.example]\nkind = 'example'\nbase_url = '{}'\n\
         quota = {{ rate = {RATE}, per = '{}s', burst = {RATE} }}\n\
         [connectors.hints]\nkind = 'example'\nbase_url = 'http://{}'\n",
        redis.url(),
        crm.url(),
        PER.as_secs(),
        hints.addr
    )
}
